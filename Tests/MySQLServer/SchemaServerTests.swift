import Foundation
import Identity
@testable import MySQLStore
import Ports
import RPC
import TestKit
import Testing
import Wire

/// Layouts with versions, months that come and go, entries that leave their window, values that come back as they were.
@Suite(.serialized) struct SchemaServerTests {
    private static let server = Result { try MariaDB() }
    private typealias Contract = RecentStoreContract

    @Test func migrationsMayRunTwiceAndAtOnceAndWhileServicesRun() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let all = (0..<6).map { number in
            Later { () -> [String] in
                do throws(StoreOpenError) {
                    if number % 2 == 0 {
                        try MySQLRecentStore(config.addresses[0], config).open()
                    } else {
                        try MySQLUserStore(config.addresses[0], config).open()
                    }
                    return []
                } catch { return [error.message] }
            }
        }
        #expect(all.flatMap(\.value) == [])
        let database = config.addresses[0].database
        #expect(try server.sql("SELECT count(*) FROM schema_version", database: database) == "2\n")
        // A writer at work, and the schema checked again and again beside it.
        let store = MySQLRecentStore(config.addresses[0], config)
        let claim = Contract.claim(store, 1)
        for seq in 1...20 as ClosedRange<UInt64> {
            try MySQLRecentStore(config.addresses[0], config).open()
            let commit = Contract.commit(1, claim.epoch, seq - 1, seq, [Contract.row("p:a|b", seq)])
            #expect(store.commit([commit]).map(\.state) == [.commitDone])
        }
    }

    @Test func aStepThatDiedHalfWayIsDoneAgain() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        try MySQLRecentStore(config.addresses[0], config).open()
        try server.sql("DROP TABLE dead_letters; DELETE FROM schema_version", database: config.addresses[0].database)
        try MySQLRecentStore(config.addresses[0], config).open()
        #expect(try server.sql("SELECT count(*) FROM dead_letters", database: config.addresses[0].database) == "0\n")
    }

    @Test func newerAndOtherLayoutsAreRefused() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let database = config.addresses[0].database
        try MySQLUserStore(config.addresses[0], config).open()
        try server.sql("UPDATE schema_version SET checksum = checksum + 1", database: database)
        #expect(throws: StoreOpenError.self) { try MySQLUserStore(config.addresses[0], config).open() }
        try server.sql("UPDATE schema_version SET checksum = checksum - 1", database: database)
        try MySQLUserStore(config.addresses[0], config).open()
        try server.sql(
            "INSERT INTO schema_version(family, version, checksum) VALUES('relational', 2, 1)", database: database)
        let refusal = #expect(throws: StoreOpenError.self) { try MySQLUserStore(config.addresses[0], config).open() }
        #expect(refusal?.kind == .newerVersion && refusal?.message.contains("newer Martlet") == true)
        #expect(refusal?.message.contains("\n") == false)
    }

    @Test func monthsAreMadeAheadAndDropped() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let store = MySQLRecentStore(config.addresses[0], config)
        try store.open()
        let connection = try MySQLConnection(config.addresses[0], config)
        let now = Months.number(ofMS: SystemClock.now().wallMS)
        #expect(try Partitions.borders(connection) == Array(now + 1...now + 3))
        // Three months later; and again, which makes nothing twice.
        let later = SystemClock.now().wallMS + 92 * 86_400_000
        for _ in 0..<2 { try Partitions.extend(connection, nowMS: later) }
        let end = Months.number(ofMS: later) + 3
        #expect(try Partitions.borders(connection) == Array(now + 1...end))
        // Messages of three months, one in five of them the reader's own.
        let claim = Contract.claim(store, 1)
        let month: UInt64 = 31 * 86_400_000
        var rows: [StoredRow] = []
        for seq in 1...60 as ClosedRange<UInt64> {
            var row = Contract.row("p:a|b", seq, from: seq % 5 == 0 ? "bob" : "alice", key: UInt8(seq))
            row.timeMs = SystemClock.now().wallMS + (seq - 1) / 20 * month
            rows.append(row)
        }
        #expect(store.commit([Contract.commit(1, claim.epoch, 0, 60, rows)]).map(\.state) == [.commitDone])
        func unread(_ read: UInt64) -> UInt64? {
            store.heads([Contract.head("p:a|b", "bob", read: read)], since: Data()).heads.first?.unread
        }
        #expect([unread(0), unread(10), unread(30)] == [48, 40, 24])
        #expect(try Partitions.drop(connection, before: now + 1) == 1)
        #expect(try server.sql("SELECT min(seq) FROM messages", database: config.addresses[0].database) == "21\n")
        // What is gone cannot be unread; what is there is counted as before.
        #expect([unread(0), unread(10), unread(30)] == [32, 32, 24])
        let page = try #require(store.rows([Contract.query("p:a|b", from: 1)]).first)
        #expect(page.rows.isEmpty && page.failure.retryable, "a hole is said to be one")
        #expect(store.rows([Contract.query("p:a|b", from: 21, limit: 50)]).map(\.rows.count) == [40])
        #expect(try Partitions.drop(connection, before: now + 1) == 0)
        // The conversation goes on, its number of messages with it.
        var next = Contract.row("p:a|b", 61)
        next.timeMs = rows[59].timeMs
        #expect(store.commit([Contract.commit(1, claim.epoch, 60, 61, [next])]).map(\.state) == [.commitDone])
    }

    @Test func dedupEntriesLeaveAfterTheirWindowAndNotBefore() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let store = MySQLRecentStore(config.addresses[0], config)
        let day: UInt64 = 86_400_000
        let begin: UInt64 = 1_760_000_000_000
        let claims = [1, 2].map { Contract.claim(store, $0) }
        func row(_ name: String, _ seq: UInt64, day number: UInt64, idDay: UInt64) -> StoredRow {
            var row = Contract.row(name, seq)
            row.timeMs = begin + number * day
            row.dedupKey = Data(MessageID.make(timeMS: begin + idDay * day, random: (seq, seq))) + Data(count: 16)
            return row
        }
        // Bucket 1 has a row on each of 20 days, those of day 13 with an id of day 8; bucket 2 stands still on day 0.
        let rows = (0..<20).map { row("p:a|b", $0 + 1, day: $0, idDay: $0 == 13 ? 8 : $0) }
        #expect(store.commit([Contract.commit(1, claims[0].epoch, 0, 20, rows)]).map(\.state) == [.commitDone])
        let still = [row("p:c|d", 1, day: 0, idDay: 0)]
        #expect(store.commit([Contract.commit(2, claims[1].epoch, 0, 1, still)]).map(\.state) == [.commitDone])
        while try store.purgeDedup(limit: 5, nowMS: begin + 30 * day) {}
        let left = try server.sql(
            "SELECT bucket, seq FROM dedup ORDER BY 1, 2", database: config.addresses[0].database)
        let expected = (13...20).map { "1\t\($0)\n" }.joined() + "2\t1\n"
        #expect(left == expected)
        // A clock that is behind protects from a record with a time from the future.
        #expect(try store.purgeDedup(limit: 5, nowMS: begin) == false)
    }

    @Test func valuesComeBackAsTheyWere() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let store = MySQLRecentStore(config.addresses[0], config)
        let claim = Contract.claim(store, 1)
        // Case, accents, trailing spaces, four-byte characters, zero bytes, large and empty bodies: all of it
        // different.
        let names = ["p:a|b", "p:A|b", "p:á|b", "p:a|b ", "p:a|🐦", "p:a|b\u{0}"]
        var rows: [StoredRow] = []
        for (index, name) in names.enumerated() {
            var row = Contract.row(name, 1, from: "sender-\(index) ", key: UInt8(index))
            row.message = Data((0..<(index == 0 ? 0 : index * 40_000)).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            rows.append(row)
        }
        #expect(store.commit([Contract.commit(1, claim.epoch, 0, 6, rows)]).map(\.state) == [.commitDone])
        let found = store.rows(names.map { Contract.query($0) }).map(\.rows)
        for (row, page) in zip(rows, found) {
            var row = row
            row.dedupKey = Data()
            #expect(page == [row])
        }
        let users = MySQLUserStore(config.addresses[0], config)
        var batch = UserBatch()
        for name in ["Ann", "ann", "ánn", "ann "] {
            var put = UserPut()
            put.appID = "demo"
            put.profile.userID = name
            put.profile.nickname = name + " 🐦"
            batch.users.append(put)
        }
        _ = try users.apply(batch)
        let keys = batch.users.map { put in
            var key = UserKey()
            key.appID = put.appID
            key.userID = put.profile.userID
            return key
        }
        #expect(try users.users(keys).map(\.profile.nickname) == batch.users.map(\.profile.nickname))
    }

    @Test func manyRowsInOneCommit() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let store = MySQLRecentStore(config.addresses[0], config)
        let claim = Contract.claim(store, 1)
        var stored: UInt64 = 0
        for count in [1, 15, 16, 17, 127, 128, 129, 300, 1000] as [UInt64] {
            let rows = (stored + 1...stored + count).map { Contract.row("p:a|b", $0) }
            let commit = Contract.commit(1, claim.epoch, stored, stored + count, rows)
            #expect(store.commit([commit]).map(\.state) == [.commitDone])
            stored += count
        }
        #expect(store.rows([Contract.query("p:a|b", before: 1001, limit: 1000)]).map(\.rows.count) == [1000])
    }

    /// A deadlock that is certain: two transactions, two rows, each takes the other's second.
    @Test func aDeadlockIsTriedAgain() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        try server.sql(
            "CREATE TABLE t(a INT PRIMARY KEY, b INT); INSERT INTO t VALUES(1, 0), (2, 0)",
            database: config.addresses[0].database)
        let gate = (one: DispatchSemaphore(value: 0), two: DispatchSemaphore(value: 0))
        func crossing(_ first: Int, _ second: Int, _ mine: DispatchSemaphore, _ other: DispatchSemaphore) -> Later<Int>
        {
            Later {
                let session = MySQLSession(config.addresses[0], config)
                var attempts = 0
                let end = session.transaction { (connection) throws(MySQLError) in
                    attempts += 1
                    try connection.run("UPDATE t SET b = b + 1 WHERE a = \(first)")
                    if attempts == 1 {
                        mine.signal()
                        other.wait()
                    }
                    try connection.run("UPDATE t SET b = b + 1 WHERE a = \(second)")
                }
                if case .committed = end { return attempts }
                return -1
            }
        }
        let (one, two) = (crossing(1, 2, gate.one, gate.two), crossing(2, 1, gate.two, gate.one))
        #expect([one.value, two.value].sorted() == [1, 2])
        #expect(try server.sql("SELECT b FROM t", database: config.addresses[0].database) == "2\n2\n")
    }
}
