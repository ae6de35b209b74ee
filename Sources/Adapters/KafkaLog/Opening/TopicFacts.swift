import Ports

/// What the brokers say a topic is, and what is wrong with that.
struct TopicFacts: Equatable, Sendable {
    let partitions: Int
    /// Of the partition that has fewest.
    let replicas: Int32

    /// What the settings of a log's topic put at risk, one sentence each; none when messages are safe in it.
    ///
    /// - Parameter settings: the topic's settings; nil when the brokers do not tell them.
    func dangers(_ topic: String, settings: [String: String]?) -> [String] {
        var found: [String] = []
        if replicas < 3 { found.append("\(topic) has \(replicas) copies, 3 are needed") }
        guard let settings else { return found + ["the brokers do not tell the settings of \(topic)"] }
        if (settings["min.insync.replicas"].flatMap(Int.init) ?? 0) < 2 {
            found.append(
                "min.insync.replicas of \(topic) is \(settings["min.insync.replicas"] ?? "unknown"), set it to 2")
        }
        if settings["unclean.leader.election.enable"] != "false" {
            found.append("unclean.leader.election.enable of \(topic) is on, set it to false")
        }
        return found
    }

    /// Why the topic cannot carry the log at all, in any deployment; nil when it can.
    func mismatch(_ topic: String, partitions wanted: UInt32, settings: [String: String]?) -> String? {
        if partitions != Int(wanted) {
            return "\(topic) has \(partitions) partitions and \(wanted) buckets are configured; their number is fixed"
        }
        // Gaps that compaction makes would look like lost records.
        if let policy = settings?["cleanup.policy"], policy != "delete" {
            return "cleanup.policy of \(topic) is \(policy); set it to delete"
        }
        if let text = settings?["max.message.bytes"], let most = Int(text), most < LogLimits.recordBytes {
            return "max.message.bytes of \(topic) is \(most); set it to \(LogLimits.recordBytes + 4096)"
        }
        let day = 24 * 3600 * 1000
        if let text = settings?["retention.ms"], let kept = Int(text), kept >= 0, kept < 7 * day {
            return "retention.ms of \(topic) is \(kept); keep at least 7 days (\(7 * day))"
        }
        return nil
    }

    /// The settings that a log's topic is made with.
    static func wanted(development: Bool) -> [(String, String)] {
        [
            ("cleanup.policy", "delete"), ("min.insync.replicas", development ? "1" : "2"),
            ("unclean.leader.election.enable", "false"), ("retention.ms", "\(7 * 24 * 3600 * 1000)"),
            ("max.message.bytes", "\(LogLimits.recordBytes + 4096)"),
        ]
    }
}
