import Foundation
import Machinery
@testable import MySQLStore
import Ports
import TestKit
import Testing
import Wire

/// What is decided without a server.
@Suite struct PlanTests {
    @Test func monthsOfTimes() {
        func month(_ year: Int, _ month: Int) -> Int { year * 12 + month - 1 }
        #expect(Months.number(ofMS: 0) == month(1970, 1))
        #expect(Months.number(ofMS: 951_782_399_999) == month(2000, 2), "the last millisecond of 28 February 2000")
        #expect(Months.number(ofMS: 951_868_800_000) == month(2000, 3), "1 March: 2000 was a leap year")
        #expect(Months.number(ofMS: 1_735_689_599_999) == month(2024, 12))
        #expect(Months.number(ofMS: 1_735_689_600_000) == month(2025, 1))
        #expect(Months.number(ofMS: UInt64(Int64.max)) == Int(UInt16.max), "a time that nobody means")
        #expect(Months.name(month(2026, 9)) == "m202609" && Months.name(month(2026, 12)) == "m202612")
    }

    /// Every day of four centuries, against the calendar of Foundation.
    @Test func monthsOfEveryDay() throws {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = try #require(TimeZone(identifier: "UTC"))
        for day in stride(from: 0, to: 146_097, by: 1) {
            let date = Date(timeIntervalSince1970: Double(day) * 86_400)
            let parts = calendar.dateComponents([.year, .month], from: date)
            let wanted = (parts.year ?? 0) * 12 + (parts.month ?? 0) - 1
            guard Months.number(ofMS: UInt64(day) * 86_400_000) != wanted else { continue }
            Issue.record("day \(day)")
            return
        }
    }

    @Test func monthsToBeMade() throws {
        let first = try #require(Months.extending([], now: 24_320, ahead: 1))
        #expect(
            first.contains("PARTITION m202609 VALUES LESS THAN (24321), PARTITION m202610 VALUES LESS THAN (24322)"))
        let sql = try #require(Months.extending([100, 101], now: 101, ahead: 1))
        #expect(sql.contains("LESS THAN (102)") && sql.contains("LESS THAN (103)"))
        #expect(!sql.contains("LESS THAN (101)"))
        #expect(Months.extending([100, 101, 102, 103], now: 101, ahead: 1) == nil)
    }

    @Test func sizesOfStatements() {
        #expect([1, 16, 17, 31, 32, 128, 500].map(Chunks.size) == [1, 16, 16, 16, 32, 128, 128])
        #expect([1, 16, 17, 33, 128].map(Chunks.padded) == [1, 16, 32, 64, 128])
        var rest = 1000
        var statements = 0
        while rest > 0 {
            rest -= Chunks.size(for: rest)
            statements += 1
        }
        #expect(statements == 10)
    }

    @Test func addresses() throws {
        let one = try #require(MySQLConfig(url: "mysql://martlet:p%40ss%3A@db.example/chat"))
        #expect(one.addresses == [MySQLAddress(host: "db.example", port: 3306, database: "chat")])
        #expect(one.user == "martlet" && one.password == "p@ss:" && one.tls == nil)
        let many = try #require(MySQLConfig(url: "mysqls://m@10.0.0.1:3307/a,[::1]:3308/b_1"))
        #expect(many.addresses.map(\.description) == ["10.0.0.1:3307/a", "[::1]:3308/b_1"])
        #expect(many.tls != nil && many.password.isEmpty)
        for wrong in [
            "mysql://", "mysql://host/db", "mysql://u@host", "mysql://u@host/", "mysql://u@:1/db", "mysql://u@h:0/db",
            "mysql://u@h:x/db", "redis://u@h/db", "mysql://u@h/d`b", "mysql://u:%zz@h/db", "mysql://u@h/a,h/a",
            "mysql://u@h/a,",
        ] { #expect(MySQLConfig(url: wrong) == nil, "\(wrong)") }
    }

    @Test func migrations() {
        let steps = [MigrationStep(statements: ["A", "B"]), MigrationStep(statements: ["C"])]
        let sums = steps.map(\.checksum)
        #expect(MigrationPlan.of("x", steps, applied: []) == .run([1, 2]))
        #expect(MigrationPlan.of("x", steps, applied: [(1, sums[0])]) == .run([2]))
        #expect(MigrationPlan.of("x", steps, applied: [(1, sums[0]), (2, sums[1])]) == .run([]))
        for applied in [
            [(1, sums[0]), (2, sums[1]), (3, 9)], [(1, sums[1])], [(2, sums[1])],
        ] as [[(version: Int, checksum: UInt64)]] {
            guard case .refuse(let why) = MigrationPlan.of("x", steps, applied: applied) else {
                Issue.record("\(applied) was taken")
                continue
            }
            #expect(!why.contains("\n"))
        }
    }

    /// Released layouts never change: these are in databases.
    @Test func releasedLayouts() {
        #expect(RecentSchema.steps.map(\.checksum) == Self.recent)
        #expect(RelationalSchema.steps.map(\.checksum) == Self.relational)
    }

    private static let recent: [UInt64] = [8_894_372_027_676_130_502]
    private static let relational: [UInt64] = [1_699_723_476_305_590_631]

    @Test func maps() {
        let map = ShardMap(version: 3, shards: [0, 1, 1])
        #expect([0, 1, 2, 3].map { map.shard(of: $0) } == [0, 1, 1, nil])
        #expect(ShardMap.single.shard(of: 77) == 0 && ShardMap.single.bucket(app: "a", conversation: "b") == nil)
        #expect(ShardMap.filling(buckets: 4, found: [[], []]) == [0, 1, 0, 1])
        #expect(ShardMap.filling(buckets: 4, found: [[1, 3], []]) == [0, 0, 0, 0])
        #expect(ShardMap.filling(buckets: 2, found: [[1], [1]]) == nil)
    }

    @Test func marks() {
        var marks = HeadMarks()
        marks[3] = 1_760_000_000_000_000
        marks[0] = 0
        marks[300] = .max
        #expect(HeadMarks(marks.data) == marks)
        for wrong in [Data(), Data(repeating: 0xff, count: 8), marks.data.dropLast(), Data([0x4d, 0x80])] {
            #expect(HeadMarks(wrong).isEmpty)
        }
        var older = HeadMarks()
        older[3] = 1
        older[9] = 2
        older.merge(marks)
        #expect(older[3] == marks[3] && older[9] == 2)
    }

    @Test func retries() {
        let lock = MySQLError(.conflict, code: 1205, "lock wait")
        let deadlock = MySQLError(.conflict, code: 1213, "deadlock")
        let lost = MySQLError(.lost, "lost")
        func tries(_ errors: [MySQLError], fresh: Bool = true) -> [Bool] {
            var retry = TransactionRetry(attempts: 3)
            return errors.map { retry.again(after: $0, wasFresh: fresh) }
        }
        #expect(tries([deadlock, deadlock, deadlock]) == [true, true, false], "three attempts")
        #expect(tries([lock]) == [false], "it has waited long enough")
        #expect(tries([lost], fresh: false) == [true], "an old connection may have been dead for long")
        #expect(tries([lost]) == [false])
        var reconnect = Reconnect(firstMS: 50, mostMS: 2000, seed: 1)
        #expect(reconnect.mayTry(0))
        var now: UInt64 = 0
        var waits: [UInt64] = []
        for _ in 0..<10 {
            reconnect.failed(lost, now)
            #expect(!reconnect.mayTry(now + 20_000))
            let began = now
            while !reconnect.mayTry(now) { now += 1000 }
            waits.append(now - began)
        }
        #expect(waits[9] > waits[0] * 10 && waits.allSatisfy { $0 <= 2_002_000 })
        reconnect.succeeded()
        #expect(reconnect.mayTry(0))
    }

    @Test func commits() throws {
        var held = MySQLRecentStore.Held(
            epoch: 2, stored: 5, changed: 70, conversations: 3, heads: BoundedCache(limit: 8))
        let rows = [
            RecentStoreContract.row("p:b|c", 1), RecentStoreContract.row("p:a|b", 5, from: "bob"),
            RecentStoreContract.row("p:b|c", 2),
        ]
        var place = ConversationPlace()
        (place.no, place.seq, place.n) = (Int64(RecentSchema.firstNumber(of: 9) + 1), 4, 4)
        let heads = [CommitPlan.Name(app: "demo", conversation: "p:a|b"): place]
        var plan = CommitPlan()
        #expect(plan.add(0, RecentStoreContract.commit(9, 2, 5, 8, rows), known: held, heads: heads) == nil)
        held.conversations = 0
        #expect(plan.add(1, RecentStoreContract.commit(4, 1, 0, 1, []), known: held, heads: [:]) == nil)
        let bad = RecentStoreContract.commit(5, 1, 0, 1, [RecentStoreContract.row("p:x|y", 2)])
        #expect(plan.add(2, bad, known: held, heads: [:]) != nil)
        plan.arrange()
        #expect(plan.moves.map(\.commit.bucket) == [4, 9], "locks in one order")
        let move = try #require(plan.moves.last)
        #expect([move.changed, move.conversations] == [71, 4], "one conversation is new")
        let first = RecentSchema.firstNumber(of: 9)
        #expect(plan.messages.map(\.conversation) == [first + 1, first + 4, first + 4])
        #expect(plan.messages.map(\.row.seq) == [5, 1, 2])
    }

    @Test func users() {
        var batch = UserBatch()
        batch.changes = [
            UserStoreContract.change("zoe", "p:a|b", create: false), UserStoreContract.change("ann", "p:a|b"),
        ]
        var put = UserPut()
        put.appID = "demo"
        put.profile.userID = "é"
        put.tokenEpoch = 3
        batch.users = [put]
        #expect(UserPlan.everybody(batch).map(\.user) == ["ann", "zoe", "é"], "by bytes")
        #expect(UserPlan.needed(batch).map(\.user).sorted() == ["ann", "é"])
        var plan = UserPlan()
        for key in UserPlan.everybody(batch) where key.user != "zoe" { plan.users[key] = UserPlan.User(no: 1) }
        plan.put(put)
        let versions = (batch.changes + [batch.changes[1]]).map { plan.save($0).version }
        #expect(versions == [0, 1, 1], "the same again changes nothing")
        #expect(plan.changedUsers.map(\.user) == ["é", "ann"] && plan.changedEntries.count == 1)
    }
}
