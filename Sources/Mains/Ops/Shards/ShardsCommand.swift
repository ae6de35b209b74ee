import ArgumentParser
import MySQLStore

/// `martlet ops shards`
struct ShardsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shards", abstract: "The shards of the recent store, and which buckets they hold.",
        subcommands: [ShardsList.self, ShardsAdd.self, ShardsMove.self, ShardsClean.self])
}

/// `martlet ops shards list`
struct ShardsList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the buckets of every shard with their rows and bytes.",
        discussion: """
            Rows are counted by the conversations, whose numbers are dense; bytes are the bucket's part of the shard's
            tables by its rows. A bucket that is leaving is being moved; one that is gone left rows to be cleaned.
            """)

    @OptionGroup var options: OpsOptions

    struct Bucket: Encodable, Equatable {
        var bucket: UInt32
        var state: String
        var conversations: UInt64
        var messages: UInt64
        var bytesAbout: UInt64
    }

    struct Shard: Encodable, Equatable {
        var shard: Int
        var address: String
        /// Of all tables and indexes.
        var bytes: UInt64
        var buckets: [Bucket]
    }

    private struct Answer: Encodable {
        /// Bucket -> shard; empty: there is one shard and no map.
        var map: [Int]
        var mapVersion: UInt64
        var shards: [Shard]
    }

    func run() throws { try options.run { try list() } }

    private func list() throws {
        let survey = ShardSurvey(try options.shards())
        let isMapped = try options.backends.settings().mysql.relational != nil
        let map = isMapped ? try ShardMaps.read(try options.relational()) : nil
        var shards: [Shard] = []
        for number in 0..<survey.shards {
            let buckets = try survey.holdings(of: number).map { held in
                Bucket(
                    bucket: held.bucket, state: held.state.rawValue, conversations: held.conversations,
                    messages: held.messages, bytesAbout: held.bytesAbout)
            }
            shards.append(
                Shard(
                    shard: number, address: "\(survey.address(of: number))", bytes: try survey.bytes(of: number),
                    buckets: buckets))
        }
        let answer = Answer(map: map?.shards ?? [], mapVersion: map?.version ?? 0, shards: shards)
        if options.json { return Words.say(try Words.json(answer)) }
        var table = Table("shard", "bucket", "state", "conversations", "messages", "about")
        for shard in shards {
            for held in shard.buckets {
                table.add(
                    "\(shard.shard)", "\(held.bucket)", held.state, Figures.grouped(held.conversations),
                    Figures.grouped(held.messages), Figures.bytes(held.bytesAbout))
            }
        }
        Words.say(table.text)
        for shard in shards {
            Words.say("shard \(shard.shard): \(shard.address), \(Figures.bytes(shard.bytes)) in tables and indexes")
        }
        for (bucket, shard) in answer.map.enumerated()
        where !shards.contains(where: { $0.buckets.contains { $0.bucket == bucket && $0.state != "gone" } }) {
            Words.say("bucket \(bucket) is mapped to shard \(shard) and was never written")
        }
    }
}

/// `martlet ops shards add`
struct ShardsAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Make the databases ready that are new at the end of --recent.",
        discussion: """
            Name all shards in --recent, the new ones last, and the map in --relational. The new ones have to be empty.
            They get no buckets by themselves: start the services again with this --recent, one after the other, and
            then move buckets. A service that was not told of a shard cannot serve a bucket that is moved there.
            """)

    @Flag(help: "Only look.")
    var dryRun = false
    @OptionGroup var options: OpsOptions

    private struct Answer: Encodable {
        /// Numbers of the shards that are new.
        var added: [Int]
        var dryRun: Bool
        var shards: [String]
    }

    func run() throws { try options.run { try add() } }

    private func add() throws {
        let shards = try options.shards()
        let adding = ShardAdding(shards: shards, relational: try options.relational())
        let new = try adding.plan()
        if !dryRun { for number in new { try adding.add(number) } }
        let answer = Answer(added: new, dryRun: dryRun, shards: shards.addresses.map(\.description))
        if options.json { return Words.say(try Words.json(answer)) }
        for number in new {
            Words.say("shard \(number): \(answer.shards[number]) \(dryRun ? "would be added" : "is ready")")
        }
        if new.isEmpty { Words.say("all \(answer.shards.count) shards are known; nothing to add") }
        if !new.isEmpty, !dryRun {
            Words.say("Now start the services with this --recent, then: martlet ops shards move --to \(new[0])")
        }
    }
}
