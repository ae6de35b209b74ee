import Dispatch
import Foundation
import Identity
import Logging
@testable import MySQLStore
import Ports
import Synchronization
import TestKit
import Testing
import Wire

/// Shards: outages that stay where they are, buckets that move while they are written and read.
@Suite(.serialized) struct ShardServerTests {
    private static let servers = Result { (try MariaDB(), try MariaDB()) }
    private typealias Contract = RecentStoreContract
    static let buckets: UInt32 = 4
    private let logger = Logger(label: "test")

    /// A conversation of the bucket.
    private static func name(_ bucket: UInt32, _ number: Int) -> String {
        for salt in 0... {
            let name = "g:\(number)-\(salt)"
            if StableHash.bucket(app: "demo", conversation: name, buckets: buckets) == bucket { return name }
        }
        return ""
    }

    private struct World {
        let relational: MySQLConfig
        let shards: MySQLConfig
    }

    private func world() throws -> World {
        let (one, two) = try Self.servers.get()
        let relational = try one.fresh()
        var shards = try one.fresh()
        let other = try two.fresh()
        // Both servers know the user, by one password.
        try two.sql("SET PASSWORD FOR 'martlet'@'127.0.0.1' = PASSWORD('\(one.password)')")
        shards.addresses += other.addresses
        return World(relational: relational, shards: shards)
    }

    private func open(_ world: World) throws -> DrivenRecent {
        DrivenRecent(
            try MySQLShards(world.shards, map: world.relational, buckets: Int(Self.buckets), logger: logger))
    }

    @Test func bucketsAreSpreadAndFoundAgain() throws {
        let world = try world()
        let store = try open(world)
        for bucket in 0..<Self.buckets {
            let claim = Contract.claim(store, bucket)
            let name = Self.name(bucket, 1)
            let rows = [Contract.row(name, 1, key: UInt8(bucket))]
            #expect(store.commit([Contract.commit(bucket, claim.epoch, 0, 1, rows)]).map(\.state) == [.commitDone])
        }
        let queries = (0..<Self.buckets).map { Contract.query(Self.name($0, 1)) }
        #expect(store.rows(queries).map(\.rows.count) == [1, 1, 1, 1])
        let heads = (0..<Self.buckets).map { Contract.head(Self.name($0, 1), "bob") }
        let first = store.heads(heads, since: Data())
        #expect(first.heads.map(\.unread) == [1, 1, 1, 1])
        #expect(store.heads(heads, since: first.shardMarks).heads.map(\.changed) == [false, false, false, false])
        // Half of them each: bucket -> shard is bucket mod 2 in a new map.
        for address in world.shards.addresses {
            #expect(try Self.number(world.shards, address, "SELECT count(*) FROM buckets") == 2)
        }
        // The shards the other way round, or another number of buckets, are refused.
        var turned = world.shards
        turned.addresses.reverse()
        #expect(throws: StoreOpenError.self) {
            try MySQLShards(turned, map: world.relational, buckets: Int(Self.buckets), logger: logger)
        }
        #expect(throws: StoreOpenError.self) {
            try MySQLShards(world.shards, map: world.relational, buckets: 8, logger: logger)
        }
    }

    private static func number(_ config: MySQLConfig, _ address: MySQLAddress, _ sql: String) throws -> UInt64? {
        try MySQLConnection(address, config).number(sql)
    }

    /// One shard's server is stopped in its tracks: the other's buckets do not notice.
    @Test func aShardThatHangsKeepsNobodyElseWaiting() throws {
        let (_, two) = try Self.servers.get()
        let world = try world()
        let store = try open(world)
        let claims = [0, 1].map { Contract.claim(store, $0) }
        two.pause()
        defer { two.resume() }
        let stuck = Later {
            store.shards.perform(
                ShardJob(
                    id: 1, place: .writer(shard: 1, lane: 0),
                    work: .commit([Contract.commit(1, claims[1].epoch, 0, 1, [Contract.row(Self.name(1, 1), 1)])]),
                    deadline: .max)
            ) { _ in }
            return true
        }
        #expect(stuck.value)
        let began = ContinuousClock.now
        for seq in 1...20 {
            let commit = Contract.commit(
                0, claims[0].epoch, UInt64(seq) - 1, UInt64(seq), [Contract.row(Self.name(0, 1), UInt64(seq))])
            #expect(store.commit([commit]).map(\.state) == [.commitDone])
        }
        #expect(store.rows([Contract.query(Self.name(0, 1), from: 1, limit: 100)]).map(\.rows.count) == [20])
        #expect(ContinuousClock.now - began < .seconds(3))
    }

    /// A bucket goes to the other shard and back while it is written by one that does what MsgWriter does, and read.
    @Test(arguments: [false, true]) func aBucketMovesWhileTrafficFlows(_ dies: Bool) throws {
        let world = try world()
        let progress = Progress()
        defer { progress.isOver.store(true, ordering: .relaxed) }
        let names = (0..<5).map { Self.name(1, $0) }
        let writer = Traffic.writer(try open(world), 1, names, progress)
        let reader = Traffic.reader(try open(world), names, progress)
        #expect(waits { progress.stored.load(ordering: .relaxed) > 300 })
        let there = BucketMove(bucket: 1, from: 1, to: 0, shards: world.shards, map: world.relational)
        if dies {
            // As after a crash between the fence and the new map: everybody waits, and another run goes on.
            let session = MySQLRecentStore(world.shards.addresses[1], world.shards).session
            try session.connected().run("UPDATE buckets SET epoch = epoch + 1, state = 1 WHERE bucket = 1")
            usleep(300_000)
        }
        let report = try there.run()
        #expect(report.conversations > 0 && report.messages >= 300 && report.dedup >= 300)
        let after = progress.stored.load(ordering: .relaxed)
        #expect(waits { progress.stored.load(ordering: .relaxed) > after + 300 }, "it goes on where it is now")
        #expect(throws: Failure.self) {
            try BucketMove(bucket: 1, from: 1, to: 0, shards: world.shards, map: world.shards).run()
        }
        let back = try BucketMove(bucket: 1, from: 0, to: 1, shards: world.shards, map: world.relational).run()
        #expect(back.messages >= after)
        let last = progress.stored.load(ordering: .relaxed)
        #expect(waits { progress.stored.load(ordering: .relaxed) > last + 200 })
        progress.isOver.store(true, ordering: .relaxed)
        #expect(writer.value == [])
        #expect(reader.value == [])
        let amount = UInt64(progress.stored.load(ordering: .relaxed))
        let books = "SELECT count(*) * 1000000 + count(DISTINCT conv, seq) FROM messages"
        #expect(try Self.number(world.shards, world.shards.addresses[1], books) == amount * 1_000_001)
        #expect(try Self.number(world.shards, world.shards.addresses[1], "SELECT count(*) FROM dedup") == amount)
        try BucketMove.removeLeftovers(bucket: 1, shard: 0, of: world.shards)
        #expect(try Self.number(world.shards, world.shards.addresses[0], "SELECT count(*) FROM messages") == 0)
    }

    /// The mover died when the new shard had the bucket's row and the old one had not said "gone": another run goes on.
    @Test func aMoveThatDiedBeforeTheSwitchGoesOn() throws {
        let world = try world()
        let store = try open(world)
        let claim = Contract.claim(store, 1)
        let rows = (1...3).map { Contract.row(Self.name(1, 1), $0, key: UInt8($0)) }
        #expect(store.commit([Contract.commit(1, claim.epoch, 0, 3, rows)]).map(\.state) == [.commitDone])
        let move = { BucketMove(bucket: 1, from: 1, to: 0, shards: world.shards, map: world.relational) }
        _ = try move().run()
        let old = try MySQLConnection(world.shards.addresses[1], world.shards)
        try old.run("UPDATE buckets SET state = 1 WHERE bucket = 1")
        try MySQLConnection(world.relational.addresses[0], world.relational)
            .run("UPDATE shard_map SET shard = 1, version = version + 1 WHERE bucket = 1")
        var steps: [BucketMove.Step] = []
        let again = move()
        again.watch = { steps.append($0) }
        _ = try again.run()
        #expect(steps.first == .began(conversations: 1) && steps.last == .switched && steps.contains(.fenced))
        #expect(try open(world).rows([Contract.query(Self.name(1, 1))]).map(\.rows.count) == [3])
        // A bucket that is written in both is another matter.
        try old.run("UPDATE buckets SET state = 0 WHERE bucket = 1")
        try MySQLConnection(world.relational.addresses[0], world.relational)
            .run("UPDATE shard_map SET shard = 1, version = version + 1 WHERE bucket = 1")
        #expect(throws: Failure.self) { try move().run() }
    }

    /// A bucket on a shard that this process was not told of: its calls fail and may be tried again, the others go on.
    @Test func aShardThatIsNotKnownHereHurtsItsBucketsOnly() throws {
        let world = try world()
        let store = try open(world)
        for bucket in [UInt32(0), 1] {
            let claim = Contract.claim(store, bucket)
            let rows = [Contract.row(Self.name(bucket, 1), 1, key: UInt8(bucket))]
            #expect(store.commit([Contract.commit(bucket, claim.epoch, 0, 1, rows)]).map(\.state) == [.commitDone])
        }
        // The first look at the map settles it; what counts are the looks of every second after that.
        let looked = DispatchSemaphore(value: 0)
        store.shards.perform(ShardJob(id: 9_000_000, place: .map, work: .loadMap, deadline: .max)) { _ in
            looked.signal()
        }
        #expect(looked.wait(timeout: .now() + 10) == .success)
        try MySQLConnection(world.shards.addresses[1], world.shards)
            .run("UPDATE buckets SET state = 2 WHERE bucket = 1")
        try MySQLConnection(world.relational.addresses[0], world.relational)
            .run("UPDATE shard_map SET shard = 2, version = version + 100 WHERE bucket = 1")
        let pages = store.rows([0, 1].map { Contract.query(Self.name($0, 1)) })
        #expect(pages.map(\.rows.count) == [1, 0])
        #expect(pages[1].failure.retryable)
        #expect(store.rows([Contract.query(Self.name(0, 1))]).map(\.rows.count) == [1])
    }

    /// Layouts as `martlet ops migrate` sees them.
    @Test func layoutsAreToldAndMade() throws {
        let config = try Self.servers.get().0.fresh()
        let address = config.addresses[0]
        let before = try MySQLLayouts.report(.recent, at: address, config)
        #expect(before.applied == 0 && before.pending == Array(1...before.known) && !before.statements.isEmpty)
        for _ in 0..<2 { try MySQLLayouts.apply(.recent, at: address, config) }
        let after = try MySQLLayouts.report(.recent, at: address, config)
        #expect(after.applied == after.known && after.pending == [] && after.refusal == nil)
        try MySQLConnection(address, config).run("UPDATE schema_version SET checksum = 7 WHERE version = 1")
        #expect(try MySQLLayouts.report(.recent, at: address, config).refusal != nil)
        #expect(throws: StoreOpenError.self) { try MySQLLayouts.apply(.recent, at: address, config) }
    }

    /// A copy that is not equal is noticed, and nothing is switched.
    @Test func aWrongCopyIsNotSwitchedTo() throws {
        let world = try world()
        let store = try open(world)
        let claim = Contract.claim(store, 1)
        let name = Self.name(1, 1)
        let rows = (1...3).map { Contract.row(name, $0, key: UInt8($0)) }
        #expect(store.commit([Contract.commit(1, claim.epoch, 0, 3, rows)]).map(\.state) == [.commitDone])
        // Somebody else's row is where the copy goes: an entry more than the bucket has.
        let target = try MySQLConnection(world.shards.addresses[0], world.shards)
        try target.run("INSERT INTO dedup VALUES(1, 'stranger', 7, 7, 9999999999999, 7)")
        let move = BucketMove(bucket: 1, from: 1, to: 0, shards: world.shards, map: world.relational)
        #expect(throws: Failure.self) { try move.run() }
        #expect(
            try Self.number(
                world.relational, world.relational.addresses[0], "SELECT shard FROM shard_map WHERE bucket = 1") == 1)
        try target.run("DELETE FROM dedup WHERE dkey = 'stranger'")
        _ = try BucketMove(bucket: 1, from: 1, to: 0, shards: world.shards, map: world.relational).run()
        #expect(try open(world).rows([Contract.query(name)]).map(\.rows.count) == [3])
    }
}

/// One who writes a bucket as MsgWriter does, and one who reads what was acknowledged.
enum Traffic {
    private typealias Contract = RecentStoreContract

    /// A row in one of the conversations after the other. What went wrong.
    static func writer(_ store: DrivenRecent, _ bucket: UInt32, _ names: [String], _ progress: Progress) -> Later<
        [String]
    > {
        Later {
            var epoch: UInt64 = 0
            var stored: UInt64 = 0
            var wrong: [String] = []
            while !progress.isOver.load(ordering: .relaxed) {
                if epoch == 0 {
                    let claim = Contract.claim(store, bucket)
                    guard !claim.hasFailure else {
                        if !claim.failure.retryable { wrong.append(claim.failure.message) }
                        usleep(20_000)
                        continue
                    }
                    (epoch, stored) = (claim.epoch, claim.stored)
                    if stored < progress.stored.load(ordering: .relaxed) { wrong.append("only \(stored) is stored") }
                }
                var rows: [StoredRow] = []
                for place in stored..<stored + 10 {
                    var row = Contract.row(names[Int(place) % names.count], place / UInt64(names.count) + 1)
                    row.dedupKey = withUnsafeBytes(of: (place + 1).bigEndian) { Data($0) + Data(count: 24) }
                    rows.append(row)
                }
                let result = store.commit([Contract.commit(bucket, epoch, stored, stored + 10, rows)]).first
                switch result?.state {
                case .commitDone:
                    stored += 10
                    progress.stored.store(Int(stored), ordering: .relaxed)
                case .commitConflict:
                    epoch = 0
                    usleep(5000)
                default: usleep(20_000)
                }
            }
            return wrong
        }
    }

    /// What was acknowledged before the question has to be in the answer, or the answer is a failure that can be
    /// asked again.
    static func reader(_ store: DrivenRecent, _ names: [String], _ progress: Progress) -> Later<[String]> {
        Later {
            var wrong: [String] = []
            while !progress.isOver.load(ordering: .relaxed), wrong.count < 10 {
                let wanted = progress.stored.load(ordering: .relaxed) / names.count
                for (name, page) in zip(names, store.rows(names.map { Contract.query($0) })) {
                    if page.hasFailure, page.failure.retryable { continue }
                    if page.head.seq < UInt64(wanted) || page.rows.last?.seq != page.head.seq, wanted > 0 {
                        wrong.append("\(name) ends at \(page.head.seq), acknowledged was \(wanted)")
                    }
                }
                let heads = store.heads(names.map { Contract.head($0, "bob") }, since: Data())
                for head in heads.heads where head.seq < UInt64(wanted) { wrong.append("a head at \(head.seq)") }
            }
            return wrong
        }
    }
}
