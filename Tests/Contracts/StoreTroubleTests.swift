import Foundation
import Identity
import Ports
import RPC
import TestKit
import Testing
import Wire

@testable import EmbeddedStore

/// One bucket's, one caller's or the clock's trouble is not everybody's.
@Suite struct StoreTroubleTests {
    private func put(
        _ store: SQLiteRecentStore, _ claim: BucketClaimResult, _ rows: [StoredRow], at offset: UInt64
    ) -> [CommitState] {
        let new = offset + UInt64(rows.count)
        let commit = RecentStoreContract.commit(claim.bucket, claim.epoch, offset, new, rows)
        return store.commit([commit]).map(\.state)
    }

    /// A row that the file refuses keeps its own bucket waiting, until it fits, and no other.
    @Test func aBucketThatDoesNotFitTheFileWaitsAlone() throws {
        let store = try SQLiteRecentStore(path: ":memory:")
        let one = RecentStoreContract.claim(store, 1)
        let two = RecentStoreContract.claim(store, 2)
        #expect(put(store, one, [RecentStoreContract.row("p:a|b", 1)], at: 0) == [.commitDone])
        try store.flush()
        // Something else has taken the next row's place in the file.
        try store.database.run("UPDATE message SET seq = 2")
        #expect(put(store, one, [RecentStoreContract.row("p:a|b", 2)], at: 1) == [.commitDone])
        #expect(put(store, two, [RecentStoreContract.row("p:c|d", 1)], at: 0) == [.commitDone])
        #expect(throws: Failure.self) { try store.flush() }
        #expect(store.unflushedRowCount == 1, "the other bucket's row is in the file")
        #expect(put(store, one, [RecentStoreContract.row("p:a|b", 3)], at: 2) == [.commitUnavailable])
        for seq in UInt64(2)...9 {
            #expect(put(store, two, [RecentStoreContract.row("p:c|d", seq)], at: seq - 1) == [.commitDone])
            try store.flush(rows: 1)
        }
        #expect(store.unflushedRowCount == 1)
        #expect(RecentStoreContract.claim(store, 1).failure.isCode(.storeUnavailable))
        #expect(!RecentStoreContract.claim(store, 3).hasFailure)

        try store.database.run("UPDATE message SET seq = 1 WHERE conv = 1")
        #expect(put(store, one, [RecentStoreContract.row("p:a|b", 3)], at: 2) == [.commitDone])
        try store.flush()
        #expect(store.unflushedRowCount == 0)
        var query = RowsQuery()
        query.appID = "demo"
        query.conversation = "p:a|b"
        #expect(store.rows([query]).map { $0.rows.map(\.seq) } == [[1, 2, 3]])
    }

    @Test func headsStopWhereTheirBytesDo() throws {
        let store = try SQLiteRecentStore(path: ":memory:")
        let claim = RecentStoreContract.claim(store, 1)
        let rows = (1...5).map { number in
            var row = RecentStoreContract.row("g:\(number)", 1)
            row.message = Data(repeating: 7, count: RowLimits.answerBytes / 3)
            return row
        }
        #expect(put(store, claim, rows, at: 0) == [.commitDone])
        let queries = (1...5).map { RecentStoreContract.head("g:\($0)", "a") }
        #expect(store.heads(queries, since: Data()).heads.map(\.last.conversation) == ["g:1", "g:2", "g:3"])
        #expect(store.heads(Array(queries[3...]), since: Data()).heads.count == 2)
        var large = RecentStoreContract.row("g:6", 1)
        large.message = Data(repeating: 7, count: RowLimits.answerBytes + 1)
        #expect(put(store, claim, [large], at: 5) == [.commitDone])
        #expect(store.heads([RecentStoreContract.head("g:6", "a")], since: Data()).heads.count == 1, "at least one")
    }

    /// A wall clock that is set ahead by more than the window must not end it.
    @Test func aJumpOfTheWallClockPurgesNothing() throws {
        let day: UInt64 = 86_400_000
        let store = try SQLiteRecentStore(path: ":memory:")
        let start = RecentStoreContract.row("x", 1).timeMs
        let claim = RecentStoreContract.claim(store, 1)
        for number in UInt64(1)...2 {
            var row = RecentStoreContract.row("p:a|b", number, key: UInt8(number))
            // The second one's sender has the wrong clock as well.
            row.timeMs = start + (number - 1) * 9 * day
            #expect(put(store, claim, [row], at: number - 1) == [.commitDone])
        }
        try store.flush()
        var script = MachineScript(RecentMachine(store), wallMS: start)
        _ = script.event(.start)
        func purged() throws -> Int64 {
            for _ in 0..<5 { _ = script.event(.timer(1)) }
            return try 2 - store.database.number("SELECT count(*) FROM dedup")
        }
        script.setWall(aheadMS: 9 * day)
        #expect(try purged() == 0)
        script.advance(ms: 9 * day)
        #expect(try purged() == 1, "when the time has really passed")
    }

    @Test func aJumpOfTheWallClockDropsNoSegment() throws {
        let day: UInt64 = 86_400_000
        var config = EmbeddedConfig()
        config.partitions = 1
        config.segmentBytes = 100
        let wall: UInt64 = 1_760_000_000_000
        let disk = SimulatedDisk()
        let log = try SegmentLog.open(folder: "log", files: disk, config: config, incarnation: 5, wallMS: { wall })
        for number in 0..<20 {
            #expect(log.append([MessageLogContract.entry(0, "record \(number)")]).allSatisfy { !$0.hasFailure })
        }
        var script = MachineScript(LogMachine(logs: ["msg": log]), wallMS: wall)
        _ = script.event(.start)
        func start() -> UInt64 {
            for _ in 0..<LogMachine.Limits.sweepsPerRetention { _ = script.event(.timer(1)) }
            return log.range(of: 0).start
        }
        script.setWall(aheadMS: 8 * day)
        #expect(start() == 0)
        script.advance(ms: 8 * day)
        #expect(start() > 0)
    }

    @Test func aUserHasEightSessionsUnlessTheAppWantsMore() throws {
        let store = MemoryPresenceStore(tokens: try SQLiteTokenEpochs(path: ":memory:"))
        store.begin(micros: 0, wallMS: 1)
        func register(_ number: Int, keepOthers: Bool = false) -> RegisterResult? {
            var item = PresenceStoreContract.registration("a", "s\(number)", platform: "p\(number)")
            item.keepOthers = keepOthers
            return store.register([item], micros: 0).first
        }
        for number in 0..<8 { #expect(register(number)?.hasFailure == false) }
        #expect(register(8)?.failure.isCode(.limitExceeded) == true)
        #expect(register(8, keepOthers: true)?.hasFailure == false)
        for number in 9..<64 { #expect(register(number, keepOthers: true)?.hasFailure == false) }
        #expect(register(64, keepOthers: true)?.failure.isCode(.limitExceeded) == true)
    }
}
