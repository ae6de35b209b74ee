import ArgumentParser
import MySQLStore
import Wire

/// `martlet ops verify`
struct VerifyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Compare the tiers, conversation by conversation and row by row.",
        discussion: """
            In the recent store (--recent) the rows of each conversation are dense, end where its head says, and count
            as their n says; every row that another tier has (--hot) is equal to the recent store's. Services may run.
            Nothing is changed. Exit code 1 when anything differs.
            """)

    @Option(help: "At most so many differences are told; all are counted.")
    var limit = 100
    @OptionGroup var options: OpsOptions

    func validate() throws {
        guard (1...1_000_000).contains(limit) else { throw ValidationError("--limit must be between 1 and 1000000") }
    }

    func run() async throws {
        try await options.run {
            let survey = ShardSurvey(try options.shards())
            var tiers: [any ComparedTier] = []
            if let hot = try options.backends.settings().redis.hot {
                tiers.append(try await HotTier(try hot.config(mayEvict: true)))
            }
            var verify = Verify(survey: survey, tiers: tiers, limit: limit)
            do {
                try await verify.run()
            } catch {
                for tier in tiers { await tier.stop() }
                throw error
            }
            for tier in tiers { await tier.stop() }
            try tell(verify.report)
        }
    }

    private func tell(_ report: Verify.Report) throws {
        if options.json {
            Words.say(try Words.json(report))
        } else {
            for one in report.differences {
                let place = one.seq > 0 ? " seq \(one.seq)" : ""
                Words.say("\(one.tier): \(one.app) \(one.conversation)\(place): \(one.what)")
            }
            let rows = report.rows.sorted { $0.key < $1.key }.map { "\($0.key) \(Figures.grouped(UInt64($0.value)))" }
                .joined(separator: ", ")
            let end = report.wrong == 0 ? "no difference" : "\(report.wrong) differences"
            Words.say("\(Figures.grouped(UInt64(report.conversations))) conversations, rows: \(rows); \(end)")
        }
        guard report.wrong > 0 else { return }
        throw OpsError(
            .unequal, "\(report.wrong) differences in \(report.conversations) conversations",
            cure: report.hint)
    }
}

/// One run over all shards.
struct Verify {
    struct Report: Encodable, Equatable {
        var conversations = 0
        /// Rows that were looked at, by tier.
        var rows: [String: Int] = [:]
        /// All differences.
        var wrong = 0
        /// The first of them.
        var differences: [Difference] = []

        /// What to do: a cache is refilled, the truth is not.
        var hint: String {
            differences.allSatisfy { $0.tier == "hot" }
                ? "The hot store is a cache: delete the conversation's key there, and readers use the recent store"
                : "Look for another program that writes there, and at the server's disk; a backup has the rows"
        }
    }

    static let first = "recent"
    /// Conversations looked at together, and rows of one read at once.
    private static let conversationsAtOnce = 64
    private static let rowsAtOnce = 1000
    private let survey: ShardSurvey
    private let tiers: [any ComparedTier]
    private let limit: Int
    private(set) var report = Report()

    init(survey: ShardSurvey, tiers: [any ComparedTier], limit: Int) {
        self.survey = survey
        self.tiers = tiers
        self.limit = limit
        report.rows = Dictionary(([Self.first] + tiers.map(\.name)).map { ($0, 0) }) { $1 }
    }

    mutating func run() async throws {
        for shard in 0..<survey.shards {
            let progress = Progress("shard \(shard)")
            let total = try survey.conversationCount(of: shard)
            var done: UInt64 = 0
            var last: UInt64 = 0
            while true {
                let found = try survey.conversations(of: shard, after: last, limit: Self.conversationsAtOnce)
                guard let end = found.last else { break }
                try await compare(found, shard)
                last = end.number
                done += UInt64(found.count)
                progress.update(done, of: total, "\(Figures.grouped(done)) conversations, \(report.wrong) differences")
            }
            progress.finish()
        }
    }

    /// The heads were read; now the other tiers, and the rows at last.
    private mutating func compare(_ conversations: [ConversationFigures], _ shard: Int) async throws {
        var checks = conversations.map { found in
            ConversationCheck(
                ConversationCheck.Head(
                    app: found.app, conversation: found.conversation, seq: found.seq, n: found.n,
                    baseSeq: found.baseSeq, baseN: found.baseN), first: Self.first)
        }
        for tier in tiers {
            for (index, held) in try await tier.rows(of: conversations).enumerated() {
                checks[index].compare(tier.name, held.rows, unreadable: held.unreadable)
                report.rows[tier.name, default: 0] += held.rows.count
            }
        }
        for (index, conversation) in conversations.enumerated() {
            var last = conversation.baseSeq
            while true {
                let rows = try survey.rows(of: conversation, in: shard, above: last, limit: Self.rowsAtOnce)
                for row in rows { checks[index].see(row) }
                guard rows.count == Self.rowsAtOnce, let end = rows.last else { break }
                last = end.seq
            }
            checks[index].finish()
            report.conversations += 1
            report.rows[Self.first, default: 0] += checks[index].rows
            report.wrong += checks[index].differences.count
            let room = limit - report.differences.count
            report.differences += checks[index].differences.prefix(max(0, room))
        }
    }
}
