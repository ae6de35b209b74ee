import ArgumentParser
import MySQLStore
import Wire

/// `martlet ops shards move`
struct ShardsMove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "move", abstract: "Move buckets to another shard while they are written and read.",
        discussion: """
            Rows are copied and compared while traffic flows; then the bucket is fenced for as long as the rest takes,
            the books of both shards are compared and the map changes. Messages are accepted all the while; the fence
            delays their delivery. Killed at any moment: run it again, it goes on. The rows on the old shard stay until
            `martlet ops shards clean`.
            """)

    @Option(help: "The shard that they go to, by its number.")
    var to: Int
    @Option(help: "Only the buckets of this shard.")
    var from: Int?
    @Option(help: "Only these, for example 0,3,5-7. Left out: all.")
    var bucket: String?
    @Flag(help: "Only say what would be moved.")
    var dryRun = false
    @Flag(help: "Ask nothing.")
    var yes = false
    @OptionGroup var options: OpsOptions

    func validate() throws {
        if let bucket, BucketList(bucket) == nil { throw ValidationError("--bucket is a list like 0,3,5-7") }
    }

    struct Moved: Encodable, Equatable {
        var bucket: UInt32
        var from: Int
        var to: Int
        var conversations: Int?
        /// Rows that this run copied; a run that goes on finds some there.
        var messages: Int?
        /// From the fence to the new map: how long deliveries of the bucket waited.
        var pauseMs: Double?
    }

    func run() throws { try options.run { try move() } }

    private func move() throws {
        let shards = try options.shards()
        let relational = try options.relational()
        guard let map = try ShardMaps.read(relational) else {
            throw OpsError(
                .refused, "there is no map of the buckets yet", cure: "The first start of the services makes it")
        }
        let plan = try MovePlan.of(
            map, buckets: bucket.flatMap { BucketList($0)?.buckets }, from: from, to: to, shards: shards.addresses.count
        )
        for bucket in plan.settled { Words.complain("bucket \(bucket) is in shard \(to) already") }
        if dryRun { return try preview(plan, shards) }
        guard !plan.steps.isEmpty else { return }
        let names = plan.steps.map { "\($0.bucket)" }.joined(separator: ", ")
        try Words.confirm(
            "Move bucket \(names) to shard \(to) (\(shards.addresses[to])), which every service has been told of?",
            yes: yes)
        for step in plan.steps { try tell(try run(step, shards, relational)) }
    }

    private func preview(_ plan: MovePlan, _ shards: MySQLConfig) throws {
        let survey = ShardSurvey(shards)
        for step in plan.steps {
            let held = try survey.holdings(of: step.from).first { $0.bucket == step.bucket }
            let moved = Moved(
                bucket: step.bucket, from: step.from, to: step.to, conversations: Int(held?.conversations ?? 0),
                messages: Int(held?.messages ?? 0))
            if options.json {
                Words.say(try Words.json(moved))
            } else {
                let rows = Figures.grouped(held?.messages ?? 0)
                Words.say(
                    "bucket \(step.bucket) would move from shard \(step.from) to \(step.to): \(rows) messages, about "
                        + Figures.bytes(held?.bytesAbout ?? 0))
            }
        }
    }

    private func run(_ step: MovePlan.Step, _ shards: MySQLConfig, _ relational: MySQLConfig) throws -> Moved {
        let move = BucketMove(bucket: step.bucket, from: step.from, to: step.to, shards: shards, map: relational)
        let progress = Progress("bucket \(step.bucket)")
        var total: UInt64 = 0
        move.watch = { done in
            switch done {
            case .began(let conversations): total = conversations
            case .copied(let conversations, let messages, let round):
                progress.update(
                    UInt64(conversations), of: total, "\(Figures.grouped(UInt64(messages))) messages, round \(round)")
            case .fenced: progress.event("fenced, copying the rest")
            case .compared: progress.event("both shards are equal")
            case .switched: progress.event("moved to shard \(step.to)")
            }
        }
        do throws(Failure) {
            let report = try move.run()
            return Moved(
                bucket: step.bucket, from: step.from, to: step.to, conversations: report.conversations,
                messages: report.messages, pauseMs: Double(report.pauseMicros) / 1000)
        } catch {
            throw OpsError(
                error, again: "The move is half done and goes on when the same command is run again, which it needs")
        }
    }

    private func tell(_ moved: Moved) throws {
        if options.json { return Words.say(try Words.json(moved)) }
        let rows = Figures.grouped(UInt64(moved.messages ?? 0))
        Words.say(
            "bucket \(moved.bucket) is in shard \(moved.to): \(rows) messages copied, deliveries waited "
                + Figures.span(UInt64(moved.pauseMs ?? 0)))
    }
}

/// `martlet ops shards clean`
struct ShardsClean: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "clean", abstract: "Remove the rows that moved buckets left on their old shard.",
        discussion: """
            Not before every service that may still read there has seen the new map, which takes a second; an hour after
            the move is plenty. Only buckets that have left are touched.
            """)

    @Option(help: "The shard, by its number.")
    var shard: Int
    @Flag(help: "Only say what would be removed.")
    var dryRun = false
    @Flag(help: "Ask nothing.")
    var yes = false
    @OptionGroup var options: OpsOptions

    private struct Cleaned: Encodable {
        var shard: Int
        var bucket: UInt32
        var messages: UInt64
        var dryRun: Bool
    }

    func run() throws { try options.run { try clean() } }

    private func clean() throws {
        let shards = try options.shards()
        guard shards.addresses.indices.contains(shard) else {
            throw OpsError(.options, "there is no shard \(shard)", cure: "`martlet ops shards list` says what there is")
        }
        let left = try ShardSurvey(shards).holdings(of: shard).filter { $0.state == .gone }
        if !dryRun, !left.isEmpty {
            let names = left.map { "\($0.bucket)" }.joined(separator: ", ")
            try Words.confirm("Remove what bucket \(names) left on shard \(shard)?", yes: yes)
        }
        for held in left {
            if !dryRun { try BucketMove.removeLeftovers(bucket: held.bucket, shard: shard, of: shards) }
            if options.json {
                Words.say(
                    try Words.json(
                        Cleaned(shard: shard, bucket: held.bucket, messages: held.messages, dryRun: dryRun)))
            } else {
                Words.say(
                    "bucket \(held.bucket): \(Figures.grouped(held.messages)) messages "
                        + (dryRun ? "would be removed" : "removed") + " from shard \(shard)")
            }
        }
    }
}
