import ArgumentParser
import KafkaLog
import MartletSuite
import RPC

/// `martlet ops topics`
struct TopicsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topics", abstract: "The topics of the logs in Kafka.",
        subcommands: [TopicsCreate.self, TopicsDescribe.self, TopicsLag.self])
}

/// The logs of a deployment, and who reads them.
enum Logs {
    static let all: [(log: String, group: String)] = [("msg", "msgwriter"), ("push", "pushserver")]

    /// The settings of each log of the deployment, or of one.
    ///
    /// - Throws: `options` when no log is said to be in Kafka.
    static func settings(_ options: OpsOptions, only: String?) throws -> [(settings: KafkaSettings, group: String)] {
        guard let place = try options.backends.settings().log else {
            throw OpsError(
                .options, "the logs are not said to be in Kafka", cure: "Name them with --log or --config, as for `up`")
        }
        return try all.filter { only == nil || $0.log == only }.map { log, group in
            var settings = try place.kafka(log)
            settings.partitions = UInt32(MySQLSettings.buckets)
            return (settings, group)
        }
    }
}

/// `martlet ops topics create`
struct TopicsCreate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Make the topics of the logs, as the suite needs them.",
        discussion: """
            For each log a topic and a compacted one of one partition, which remembers which log it is. What is there
            stays as it is; `describe` says whether it will do. With `development=true` in --log one copy is enough.
            """)

    @Option(help: "Partitions of a log's topic; the suite has as many buckets.")
    var partitions = MySQLSettings.buckets
    @Option(help: "Copies; 3, or 1 with development=true.")
    var replicas: Int?
    @Option(help: "min.insync.replicas; 2, or 1 with development=true.")
    var minInsync: Int?
    @Option(help: "Hours that records are kept; at least 168.")
    var retentionHours = 168
    @Option(name: .customLong("only"), help: "Only this log: msg or push.")
    var only: String?
    @Flag(help: "Only say what would be made.")
    var dryRun = false
    @Flag(help: "Make it although the suite would not start with it, or could lose messages.")
    var yes = false
    @OptionGroup var options: OpsOptions

    func validate() throws {
        guard (1...10_000).contains(partitions) else { throw ValidationError("--partitions must be 1 to 10000") }
        for copies in [replicas, minInsync] where !(1...100).contains(copies ?? 1) {
            throw ValidationError("--replicas and --min-insync must be 1 to 100")
        }
        guard (1...1_000_000).contains(retentionHours) else { throw ValidationError("--retention-hours: 1 to 1000000") }
        guard Logs.all.contains(where: { only == nil || $0.log == only }) else {
            throw ValidationError("--only is msg or push")
        }
    }

    private struct Made: Encodable {
        var log: String
        var created: [String]
        var dryRun: Bool
    }

    func run() throws { try options.run { try create() } }

    private func create() throws {
        for (settings, _) in try Logs.settings(options, only: only) {
            let plan = TopicPlan(
                partitions: UInt32(partitions), replicas: replicas ?? (settings.development ? 1 : 3),
                insync: minInsync ?? (settings.development ? 1 : 2), retentionHours: retentionHours)
            let objections = plan.objections(settings)
            if let first = objections.first {
                guard yes else { throw OpsError(.unconfirmed, first, cure: "Correct it, or say --yes if you mean it") }
                for objection in objections { Words.complain("warning: \(objection)") }
            }
            let topics = try KafkaTopics(settings)
            let made = dryRun ? try missing(topics, settings) : try topics.create(plan)
            if options.json {
                Words.say(try Words.json(Made(log: settings.log, created: made, dryRun: dryRun)))
            } else {
                for name in made { Words.say("\(name): \(dryRun ? "would be made" : "made")") }
                if made.isEmpty { Words.say("\(settings.topic): is there, and stays as it is") }
            }
        }
    }

    private func missing(_ topics: KafkaTopics, _ settings: KafkaSettings) throws -> [String] {
        try topics.describe().partitions == 0 ? [settings.topic, settings.identityTopic] : []
    }
}

/// `martlet ops topics describe`
struct TopicsDescribe: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe", abstract: "Compare the topics with what the suite needs.",
        discussion: "Exit code 1 when the services would not start with a topic, or could lose messages in it.")

    @OptionGroup var options: OpsOptions

    private struct Described: Encodable {
        var log: String
        var topic: String
        var partitions: Int
        var replicas: Int
        var settings: [String: String]?
        var wrong: [String]
        var risks: [String]
        /// Risks are accepted by `development=true`.
        var fit: Bool
    }

    /// The settings that matter.
    private static let shown = [
        "cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.ms", "unclean.leader.election.enable",
    ]

    func run() throws { try options.run { try describe() } }

    private func describe() throws {
        var found: [Described] = []
        for (settings, _) in try Logs.settings(options, only: nil) {
            let report = try KafkaTopics(settings).describe()
            found.append(
                Described(
                    log: report.log, topic: report.topic, partitions: report.partitions, replicas: report.replicas,
                    settings: report.settings?.filter { Self.shown.contains($0.key) }, wrong: report.wrong,
                    risks: report.risks,
                    fit: report.wrong.isEmpty && (settings.development || report.risks.isEmpty)))
        }
        if options.json {
            for topic in found { Words.say(try Words.json(topic)) }
        } else {
            for topic in found { tell(topic) }
        }
        if let unfit = found.first(where: { !$0.fit }) {
            throw OpsError(
                .refused, (unfit.wrong + unfit.risks).first ?? "",
                cure: "Change the topic, or make it anew while it is empty")
        }
    }

    private func tell(_ topic: Described) {
        let settings = (topic.settings ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        Words.say(
            "\(topic.topic): \(topic.partitions) partitions, \(topic.replicas) copies\(topic.fit ? ", will do" : "")")
        if !settings.isEmpty { Words.say("  " + settings.joined(separator: " ")) }
        for words in topic.wrong { Words.say("  wrong: \(words)") }
        for words in topic.risks { Words.say("  risk: \(words)") }
    }
}

/// `martlet ops topics lag`
struct TopicsLag: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lag", abstract: "How far the readers of the logs are behind, in records and in time.",
        discussion: """
            Positions are written once a second, so a group that keeps up is a second behind at most. The time is the
            age of the first record that the group has not passed.
            """)

    @OptionGroup var options: OpsOptions

    private struct Lag: Encodable {
        var log: String
        var group: String
        var partition: UInt32
        var start: UInt64
        var end: UInt64
        var position: UInt64?
        var records: UInt64
        var behindMs: UInt64?
        var lost: UInt64
    }

    func run() throws { try options.run { try lag() } }

    private func lag() throws {
        var found: [Lag] = []
        for (settings, group) in try Logs.settings(options, only: nil) {
            let topics = try KafkaTopics(settings)
            guard try topics.describe().partitions > 0 else {
                Words.complain("\(settings.topic): no such topic")
                continue
            }
            for lag in try topics.lag(of: group, nowMS: SystemClock.now().wallMS) {
                found.append(
                    Lag(
                        log: settings.log, group: group, partition: lag.partition, start: lag.start, end: lag.end,
                        position: lag.position, records: lag.records, behindMs: lag.behindMS, lost: lag.lost))
            }
        }
        if options.json {
            for lag in found { Words.say(try Words.json(lag)) }
            return
        }
        var table = Table("log", "group", "partition", "position", "end", "behind", "time")
        for lag in found {
            table.add(
                lag.log, lag.group, "\(lag.partition)", lag.position.map(String.init) ?? "none", "\(lag.end)",
                "\(lag.records)", lag.behindMs.map(Figures.span) ?? (lag.records == 0 ? "" : "unknown"))
        }
        Words.say(table.text)
        for lag in found where lag.lost > 0 {
            Words.say("\(lag.log) \(lag.partition): \(lag.lost) records are gone that \(lag.group) has not read")
        }
    }
}
