import Ports

/// How a log lives in Kafka. Everything that shapes a promise is fixed here; what only says how to reach the brokers
/// (SASL, TLS, addresses) is passed to librdkafka as it is.
public struct KafkaSettings: Sendable, Equatable {
    /// `host:port,host:port`.
    public var brokers: String
    /// The log's name in the port: "msg" or "push".
    public var log: String
    public var topic: String
    /// Partitions of the topic: V, the number of buckets.
    public var partitions: UInt32 = 8
    /// Allows a single broker: settings that can lose messages are told, not refused, and topics are made when missing.
    public var development = false
    /// Copies of a topic that is made here, and what is demanded of one that is there.
    public var replicas: Int32 { development ? 1 : 3 }
    /// Whether a member's name outlives its process, as the names of services do: then the process that is started
    /// again after a crash takes the place of the dead one at once, and a member that leaves keeps its share until its
    /// session ends. Otherwise it is the other way round. No two processes may have one name.
    public var lastingMembers = true
    /// Properties of librdkafka by name, for example `security.protocol` and `sasl.password`. None that the adapter
    /// owns.
    public var properties: [String: String] = [:]
    public var limits = KafkaLimits()

    /// - Parameter topic: the log's own name when left out.
    public init(brokers: String, log: String, topic: String? = nil) {
        self.brokers = brokers
        self.log = log
        self.topic = topic ?? log
    }

    /// The topic that keeps the log's incarnation.
    public var identityTopic: String { identity ?? topic + ".identity" }
    /// Another name for it.
    public var identity: String?

    /// A group's name at the brokers, where all logs share one name space.
    func group(_ name: String) -> String { "\(topic).\(name)" }

    /// Beginnings of the names of properties that an operator may set: how to reach brokers, never what is promised.
    static let passed = [
        "security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.", "socket.", "broker.address.", "reconnect.",
        "client.rack", "debug", "connections.", "compression.", "metadata.", "topic.metadata.", "plugin.",
        "max.in.flight",
    ]

    /// - Throws: `other` with one sentence when a property is not an operator's to set.
    public func checkProperties() throws(StoreOpenError) {
        for name in properties.keys.sorted() where !Self.passed.contains(where: { name.hasPrefix($0) }) {
            throw StoreOpenError(
                .other, "the Kafka property \(name) cannot be set: Martlet's promises depend on it; remove it")
        }
    }

    /// Reads `kafka://host:port,host:port?development=true&topics=prefix-&sasl.username=...`.
    ///
    /// - Throws: `other` with one sentence that says what an address looks like.
    public static func parse(_ address: String, log: String) throws(StoreOpenError) -> KafkaSettings {
        let scheme = "kafka://"
        let parts = address.dropFirst(scheme.count).split(
            separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard address.hasPrefix(scheme), let brokers = parts.first, !brokers.isEmpty, !brokers.contains("/") else {
            throw StoreOpenError(.other, "\(address) is no log; write kafka://host:port?development=true, for example")
        }
        var settings = KafkaSettings(brokers: String(brokers), log: log)
        for option in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let pair = option.split(separator: "=", maxSplits: 1).map(String.init)
            guard pair.count == 2 else {
                throw StoreOpenError(.other, "\(option) in the log's address is no name=value")
            }
            switch pair[0] {
            case "development": settings.development = pair[1] == "true"
            case "topics": settings.topic = pair[1] + log
            case "let-go-ms":
                guard let pause = UInt32(pair[1]), pause <= 1000 else {
                    throw StoreOpenError(.other, "let-go-ms in the log's address is a number up to 1000")
                }
                settings.limits.letGoMS = pause
            case "rebalance-ms":
                guard let wait = Int(pair[1]), (10_000...600_000).contains(wait) else {
                    throw StoreOpenError(.other, "rebalance-ms in the log's address is a number from 10000 to 600000")
                }
                settings.limits.rebalanceMS = wait
            case "members":
                guard ["lasting", "passing"].contains(pair[1]) else {
                    throw StoreOpenError(.other, "members in the log's address are lasting or passing")
                }
                settings.lastingMembers = pair[1] == "lasting"
            default: settings.properties[pair[0]] = pair[1]
            }
        }
        try settings.checkProperties()
        return settings
    }
}

/// Bounds and times of the adapter. Bytes, milliseconds.
public struct KafkaLimits: Sendable, Equatable {
    /// Records and bytes appended and not yet reported; more are `overloaded`. Nothing that was taken is ever dropped
    /// from the queue, or a later message of its sender could overtake it, so this bounds what an outage leaves behind.
    public var queuedRecords = 65_536
    public var queuedBytes = 64 << 20
    /// How long the producer waits for more records of a request: 0 sends what a flush gathered.
    public var lingerMS = 0.0
    /// Records fetched ahead for one member, in the machine and in librdkafka, each.
    public var aheadBytes = 16 << 20
    /// A member that the group's coordinator has not heard of for this long is gone.
    public var sessionMS = 10_000
    public var heartbeatMS = 2_000
    /// How long the answer to an assignment may take before the group goes on without the member.
    public var rebalanceMS = 60_000
    /// How long a member takes to let go what the group takes away. Kafka needs no pause; a server that loses its
    /// answer to a newcomer when the group changes again at once (noida-db does) needs some 50 ms.
    public var letGoMS: UInt32 = 0
    /// How long a new member's first fetch waits for its partitions.
    public var joinMS: UInt64 = 3_000
    /// A broker that does not answer a question for this long counts as not there; the question is asked again.
    public var askMS = 3_000
    /// How long a start waits for brokers.
    public var openMS = 30_000
    /// How often librdkafka's statistics are taken.
    public var statisticsMS = 5_000
    /// How long a stop waits for reports of what was appended.
    public var flushMS = 5_000
    /// Sweeps (seconds) between two notes of the log's ends.
    public var sweepsPerNote = 60

    public init() {}
}
