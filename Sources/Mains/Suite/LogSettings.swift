import KafkaLog
import Ports
import Runtime

/// Where the logs live when they are in Kafka, and how to get there.
public struct LogSettings: Codable, Equatable, Sendable {
    /// `host:port,host:port`.
    public var brokers: String
    /// What the topics' names begin with.
    public var topics: String
    public var development = false
    public var lastingMembers = true
    public var letGoMS: UInt32 = 0
    public var rebalanceMS = KafkaLimits().rebalanceMS
    /// Properties of librdkafka.
    public var properties: [String: String] = [:]
    /// A file whose first line is the SASL password; the property when nil.
    public var passwordFile: String?
    /// A file whose first line is the password of our TLS key.
    public var keyPasswordFile: String?

    init(brokers: String, topics: String) {
        self.brokers = brokers
        self.topics = topics
    }

    /// Reads `kafka://...`, as `KafkaSettings.parse` has it.
    init(address: String) throws {
        do {
            let settings = try KafkaSettings.parse(address, log: "")
            self.init(brokers: settings.brokers, topics: settings.topic)
            development = settings.development
            lastingMembers = settings.lastingMembers
            letGoMS = settings.limits.letGoMS
            rebalanceMS = settings.limits.rebalanceMS
            properties = settings.properties
        } catch {
            throw StartError(error.message, cure: "Look at the log's address and at the Kafka cluster behind it")
        }
    }

    /// - Parameter log: "msg" or "push".
    public func kafka(_ log: String) throws -> KafkaSettings {
        var settings = KafkaSettings(brokers: brokers, log: log, topic: topics + log)
        settings.development = development
        settings.lastingMembers = lastingMembers
        settings.limits.letGoMS = letGoMS
        settings.limits.rebalanceMS = rebalanceMS
        settings.properties = properties
        if let passwordFile {
            settings.properties["sasl.password"] = try SecretFile.read(passwordFile, of: "Kafka")
        }
        if let keyPasswordFile {
            settings.properties["ssl.key.password"] = try SecretFile.read(keyPasswordFile, of: "the key for Kafka")
        }
        return settings
    }
}
