import Ports

/// What a topic is, beside what its log needs.
public struct TopicReport: Sendable, Equatable {
    public let log: String
    public let topic: String
    /// 0: there is no such topic.
    public let partitions: Int
    /// Copies of the partition that has fewest.
    public let replicas: Int
    /// The topic's settings; nil: the brokers do not tell them.
    public let settings: [String: String]?
    /// Why the services do not start with it, one sentence each.
    public let wrong: [String]
    /// What may lose messages. Refused as well, but with `development=true`.
    public let risks: [String]

    /// Decides what is wrong with a topic.
    ///
    /// - Parameter facts: nil: there is no such topic.
    static func of(_ wanted: KafkaSettings, facts: TopicFacts?, settings: [String: String]?) -> TopicReport {
        guard let facts else {
            return TopicReport(
                log: wanted.log, topic: wanted.topic, partitions: 0, replicas: 0, settings: nil,
                wrong: ["there is no topic \(wanted.topic); make it with `martlet ops topics create`"], risks: [])
        }
        let mismatch = facts.mismatch(wanted.topic, partitions: wanted.partitions, settings: settings)
        return TopicReport(
            log: wanted.log, topic: wanted.topic, partitions: facts.partitions, replicas: Int(facts.replicas),
            settings: settings, wrong: mismatch.map { [$0] } ?? [],
            risks: facts.dangers(wanted.topic, settings: settings))
    }
}

/// What a topic is made with.
public struct TopicPlan: Sendable, Equatable {
    public var partitions: UInt32
    public var replicas: Int
    /// Copies that must have a record before it counts as written.
    public var insync: Int
    /// How long records are kept.
    public var retentionHours: Int

    public init(partitions: UInt32, replicas: Int, insync: Int, retentionHours: Int) {
        self.partitions = partitions
        self.replicas = replicas
        self.insync = insync
        self.retentionHours = retentionHours
    }

    /// Why the services would not start with it, or could lose messages, one sentence each; none: it is fine.
    public func objections(_ wanted: KafkaSettings) -> [String] {
        let facts = TopicFacts(partitions: Int(partitions), replicas: Int32(clamping: replicas))
        let settings = Dictionary(settings) { $1 }
        let mismatch = facts.mismatch(wanted.topic, partitions: wanted.partitions, settings: settings)
        let dangers = wanted.development ? [] : facts.dangers(wanted.topic, settings: settings)
        return (mismatch.map { [$0] } ?? []) + dangers
    }

    /// In Kafka's words.
    var settings: [(String, String)] {
        TopicFacts.wanted(development: false).map { name, value in
            switch name {
            case "min.insync.replicas": (name, "\(insync)")
            case "retention.ms": (name, "\(retentionHours * 3_600_000)")
            default: (name, value)
            }
        }
    }
}

/// How far a group is behind in one partition.
public struct PartitionLag: Sendable, Equatable {
    public let partition: UInt32
    /// First record that is kept, and the next one to be written.
    public let start: UInt64
    public let end: UInt64
    /// The next one that the group wants; nil: it has no position.
    public let position: UInt64?
    /// Records that the group has not passed.
    public let records: UInt64
    /// Age of the first of those, in milliseconds; nil: there is none, or it could not be read in time.
    public var behindMS: UInt64?
    /// Records that the group wanted and that are not kept any more.
    public let lost: UInt64

    public init(partition: UInt32, start: UInt64, end: UInt64, position: UInt64?) {
        self.partition = partition
        self.start = start
        self.end = end
        self.position = position
        let wanted = position ?? start
        records = end - min(end, max(wanted, start))
        lost = start - min(start, wanted)
    }
}
