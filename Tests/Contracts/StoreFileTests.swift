import Foundation
import Identity
import Ports
import TestKit
import Testing
import Wire

@testable import EmbeddedStore

/// What only stores in files can show: restarts, versions, full and forbidden disks, purging.
@Suite struct StoreFileTests {
    private let folder: String

    init() throws {
        folder = FileManager.default.temporaryDirectory.path + "/martlet-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    private var path: String { folder + "/store.sqlite" }

    private func cleanUp() throws { try FileManager.default.removeItem(atPath: folder) }

    private func error(_ work: () throws -> Void) -> StoreOpenError? {
        do { try work() } catch { return error as? StoreOpenError }
        return nil
    }

    private func rows(_ name: String, _ seqs: ClosedRange<UInt64>, key: UInt8 = 0) -> [StoredRow] {
        seqs.map { RecentStoreContract.row(name, $0, key: key &+ UInt8(truncatingIfNeeded: $0)) }
    }

    private func put(_ store: SQLiteRecentStore, _ rows: [StoredRow], bucket: UInt32 = 1) -> [CommitState] {
        let claim = RecentStoreContract.claim(store, bucket)
        let new = claim.stored + UInt64(rows.count)
        return store.commit([RecentStoreContract.commit(bucket, claim.epoch, claim.stored, new, rows)]).map(\.state)
    }

    @Test func recentRowsSurviveARestartAndMarksNeverRepeat() throws {
        defer { try? cleanUp() }
        var store: SQLiteRecentStore? = try SQLiteRecentStore(path: path)
        #expect(put(try #require(store), rows("p:a|b", 1...5)) == [.commitDone])
        let before = try #require(store).heads([RecentStoreContract.head("p:a|b", "a")], since: Data())
        store = nil
        let again = try SQLiteRecentStore(path: path)
        #expect(RecentStoreContract.claim(again, 1).stored == 5)
        #expect(put(again, rows("p:a|b", 6...6)) == [.commitDone])
        let after = again.heads([RecentStoreContract.head("p:a|b", "a")], since: before.shardMarks)
        #expect(after.heads.map(\.changed) == [true])
        #expect(after.heads.map(\.seq) == [6])
        let marks = [before, after].map { $0.shardMarks.reduce(UInt64(0)) { $0 << 8 | UInt64($1) } }
        #expect(marks[1] > marks[0] + SQLiteRecentStore.commitJump / 2)
    }

    /// The log is copied on another thread while the store goes on: it stays short, and nothing is missing.
    @Test func checkpointsRunAside() throws {
        defer { try? cleanUp() }
        var config = EmbeddedConfig()
        config.checkpointPages = 20
        do {
            let store = try SQLiteRecentStore(path: path, config: config)
            for turn in UInt64(0)..<400 {
                #expect(put(store, rows("p:a|b", turn * 5 + 1...turn * 5 + 5)) == [.commitDone])
                try store.flush()
                // Until the copy is done, a part is left for later instead of waited for.
                if turn % 50 == 0 { try store.flush(rows: 1) }
            }
            let log = try FileManager.default.attributesOfItem(atPath: path + "-wal")[.size] as? Int
            // 400 transactions would have made some 8 MB of it.
            #expect((log ?? 0) < 2 << 20)
        }
        let again = try SQLiteRecentStore(path: path)
        #expect(RecentStoreContract.claim(again, 1).stored == 2000)
        let page = again.rows([RecentStoreContract.query("p:a|b", from: 1900, limit: 200)]).first
        #expect(page?.rows.map(\.seq) == Array(1900...2000))
    }

    /// SQLite's own way to the files and the one through a file layer leave the same files behind.
    @Test func bothWaysToTheDiskMeet() throws {
        defer { try? cleanUp() }
        for turn in UInt64(0)..<6 {
            let files: (any FileLayer)? = turn % 2 == 0 ? RealFiles() : nil
            let store = try SQLiteRecentStore(path: path, files: files)
            #expect(put(store, rows("p:a|b", turn * 20 + 1...turn * 20 + 20)) == [.commitDone])
            #expect(
                error { _ = try SQLiteRecentStore(path: path, files: RealFiles()) }?.kind == .locked || files == nil)
            var query = RowsQuery()
            query.appID = "demo"
            query.conversation = "p:a|b"
            query.fromSeq = 1
            let read = store.rows([query]).first?.rows.map(\.seq)
            #expect(read == Array(1...turn * 20 + 20))
        }
    }

    @Test func usersAndTokensSurviveARestart() throws {
        defer { try? cleanUp() }
        var users: SQLiteUserStore? = try SQLiteUserStore(path: path)
        var batch = UserBatch()
        batch.changes = [UserStoreContract.change("alice", "p:alice|bob", read: 3)]
        _ = try #require(users).apply(batch)
        users = nil
        var query = IndexQuery()
        query.appID = "demo"
        query.userID = "alice"
        #expect(try SQLiteUserStore(path: path).index([query]).first?.rows.map(\.readSeq) == [3])

        var tokens: SQLiteTokenEpochs? = try SQLiteTokenEpochs(path: folder + "/tokens.sqlite")
        var item = RevokeItem()
        item.appID = "demo"
        item.userID = "alice"
        item.tokenEpoch = 4
        try #require(tokens).raise([item])
        tokens = nil
        let presence = MemoryPresenceStore(tokens: try SQLiteTokenEpochs(path: folder + "/tokens.sqlite"))
        presence.begin(micros: 0, wallMS: 1)
        let refused = presence.register([PresenceStoreContract.registration("alice", "s", token: 3)], micros: 0)
        #expect(refused.map { $0.failure.isCode(.tokenRevoked) } == [true])
    }

    @Test func aNewerFileIsRefusedUntouched() throws {
        defer { try? cleanUp() }
        do {
            let database = try SQLiteDatabase(path, durability: .normal, cacheBytes: 1 << 20)
            try database.run("PRAGMA user_version=99")
        }
        for work in [{ _ = try SQLiteRecentStore(path: path) }, { _ = try SQLiteUserStore(path: path) }]
            as [() throws -> Void]
        {
            let found = try #require(error(work))
            #expect(found.kind == .newerVersion)
            #expect(found.message.contains("newer Martlet (version 99, this one knows 1)"))
        }
    }

    @Test func aFileOfSomethingElseIsRefused() throws {
        defer { try? cleanUp() }
        try Data(repeating: 0x41, count: 9000).write(to: URL(fileURLWithPath: path))
        #expect(error { _ = try SQLiteRecentStore(path: path) }?.kind == .corrupt)
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data(repeating: 0x41, count: 9000))
    }

    @Test func aFolderThatCannotBeWrittenIsRefused() throws {
        defer { try? cleanUp() }
        #expect(error { _ = try SQLiteRecentStore(path: "/proc/martlet/store.sqlite") }?.kind == .readOnly)
        let found = error { _ = try EmbeddedBackends.open(folder: "/proc/martlet", wallMS: { 0 }) }
        #expect(found?.message.contains("/proc/martlet") == true)
    }

    @Test func twoProcessesCannotShareAFolder() throws {
        defer { try? cleanUp() }
        let first = try EmbeddedBackends.open(folder: folder, wallMS: { 0 })
        let found = try #require(error { _ = try EmbeddedBackends.open(folder: folder, wallMS: { 0 }) })
        #expect(found.kind == .locked)
        let store = error { _ = try SQLiteRecentStore(path: folder + "/recent.sqlite") }
        #expect(store?.kind == .locked)
        withExtendedLifetime(first) {}
    }

    @Test func backendsOpenAgainWithWhatWasThere() throws {
        defer { try? cleanUp() }
        do {
            let stores = try EmbeddedBackends.open(folder: folder, pushLog: .folder, wallMS: { 0 })
            #expect(stores.log.append([MessageLogContract.entry(7, "kept")]).map(\.offset) == [0])
            #expect(stores.pushLog.append([MessageLogContract.entry(3, "pushed")]).map(\.offset) == [0])
        }
        let again = try EmbeddedBackends.open(folder: folder, pushLog: .folder, wallMS: { 0 })
        let kept = try again.log.read([MessageLogContract.position(7, 0)], maxBytes: 100)
        #expect(kept.map { String(decoding: $0.record, as: UTF8.self) } == ["kept"])
        #expect(again.pushLog.range(of: 3).end == 1)
    }

    @Test func aFullDatabaseStoresNothingByHalves() throws {
        defer { try? cleanUp() }
        let store = try SQLiteRecentStore(path: path)
        #expect(put(store, rows("p:a|b", 1...3)) == [.commitDone])
        let pages = try store.database.number("PRAGMA page_count")
        _ = try store.database.number("PRAGMA max_page_count=\(pages + 2)")
        var big = rows("p:a|b", 4...60)
        for index in big.indices { big[index].message = Data(repeating: 7, count: 4000) }
        let claim = RecentStoreContract.claim(store, 1)
        let commit = RecentStoreContract.commit(1, claim.epoch, 3, 60, big)
        // Taken in memory; then nothing more, and nothing by halves in the file.
        #expect(store.commit([commit]).map(\.state) == [.commitDone])
        #expect(throws: Failure.self) { try store.flush() }
        let next = RecentStoreContract.commit(1, claim.epoch, 60, 61, rows("p:a|b", 61...61))
        #expect(store.commit([next]).map(\.state) == [.commitUnavailable])
        var query = RowsQuery()
        query.appID = "demo"
        query.conversation = "p:a|b"
        #expect(store.rows([query]).map(\.rows.count) == [3], "what the file has can be read")
        var head = RecentStoreContract.head("p:a|b", "a")
        let full = store.heads([head], since: Data())
        #expect(full.heads.map(\.seq) == [3] && !full.hasFailure)
        #expect(try store.database.number("SELECT count(*) FROM message") == 3)
        #expect(try store.database.number("SELECT stored FROM bucket WHERE bucket = 1") == 3)
        _ = try store.database.number("PRAGMA max_page_count=1000000")
        #expect(store.commit([next]).map(\.state) == [.commitDone])
        #expect(store.rows([query]).map(\.rows.count) == [61])
        head.always = false
        let room = store.heads([head], since: full.shardMarks)
        #expect(room.heads.map(\.seq) == [61], "what could not be seen counts as a change since then")
    }

    /// What kill -9 leaves: the file without what was in memory.
    @Test func aProcessThatIsKilledLosesWholeCommitsAndTheirPosition() throws {
        defer { try? cleanUp() }
        let store = try SQLiteRecentStore(path: path)
        #expect(put(store, rows("p:a|b", 1...3)) == [.commitDone])
        try store.flush()
        #expect(put(store, rows("p:a|b", 4...9) + rows("p:a|c", 1...1, key: 100)) == [.commitDone])
        let claim = RecentStoreContract.claim(store, 1)
        #expect(claim.stored == 10)
        let more = rows("p:a|b", 10...12)
        #expect(
            store.commit([RecentStoreContract.commit(1, claim.epoch, 10, 13, more)]).map(\.state) == [.commitDone])
        #expect(store.unflushedRowCount == 3)
        for name in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: path + name, toPath: folder + "/copy.sqlite" + name)
        }
        let copy = try SQLiteRecentStore(path: folder + "/copy.sqlite")
        let again = RecentStoreContract.claim(copy, 1)
        #expect(
            again.stored == 10, "the claim wrote what came before it, and the last commit is gone with its position")
        var lookup = WriterLookup()
        lookup.keys = (rows("p:a|b", 9...9) + more).map { row in
            var key = DedupKey()
            key.bucket = 1
            key.appID = row.appID
            key.conversation = row.conversation
            key.key = row.dedupKey
            return key
        }
        #expect(store.lookup(lookup).hits.map(\.seq) == [9, 10, 11, 12])
        #expect(copy.lookup(lookup).hits.map(\.seq) == [9, 0, 0, 0])
        #expect(
            copy.commit([RecentStoreContract.commit(1, again.epoch, 10, 13, more)]).map(\.state) == [.commitDone])
        #expect(copy.lookup(lookup).hits.map(\.seq) == [9, 10, 11, 12])
    }

    @Test func keysThatTheWindowForgotAreLookedUp() {
        func key(_ time: UInt64, _ number: UInt64) -> Data {
            withUnsafeBytes(of: (time << 16).bigEndian) { Data($0) }
                + withUnsafeBytes(of: number &* 0x9e37_79b9_7f4a_7c15) { Data($0) } + Data(count: 16)
        }
        var window = KeyWindow(floor: 5, limit: 8)
        #expect(window.mayHold(key(4, 1)), "older than what it knows")
        #expect(!window.mayHold(key(5, 1)))
        for number in UInt64(1)...100 {
            window.insert(key(4 + number, number))
            // A clock that runs ahead.
            if number % 10 == 0 { window.insert(key(50 + number, 1000 + number)) }
        }
        for number in UInt64(1)...100 {
            #expect(window.mayHold(key(4 + number, number)))
            #expect(window.mayHold(key(50 + number, 1000 + number)) || number % 10 != 0)
        }
        #expect(!window.mayHold(key(1000, 7)))
        #expect(window.floor > 5)
    }

    @Test func dedupEntriesGoAfterTheWindowByTheirBucketsTime() throws {
        defer { try? cleanUp() }
        let store = try SQLiteRecentStore(path: path)
        let day: UInt64 = 24 * 3_600_000
        let start = RecentStoreContract.row("x", 1).timeMs
        // Bucket 2 stands still; bucket 1 goes on for nine days.
        #expect(put(store, rows("p:c|d", 1...3), bucket: 2) == [.commitDone])
        for number in UInt64(1)...20 {
            var row = RecentStoreContract.row("p:a|b", number, key: UInt8(number))
            row.timeMs = start + number * day / 2
            #expect(put(store, [row]) == [.commitDone])
        }
        try store.flush()
        let now = start + 20 * day
        var steps = 0
        while try store.purgeDedup(limit: 5, nowMS: now) { steps += 1 }
        #expect(steps == 4)
        #expect(
            try store.database.number(
                "SELECT count(*) FROM dedup d JOIN conversation c ON c.no = d.conv WHERE c.bucket = 2") == 3)
        let oldest = try store.database.number(
            "SELECT min(d.seq) FROM dedup d JOIN conversation c ON c.no = d.conv WHERE c.bucket = 1")
        #expect(oldest == 6)
        #expect(try store.purgeDedup(limit: 5, nowMS: now) == false)
        #expect(try store.database.number("SELECT count(*) FROM dedup") == 18)
    }

    @Test func theHotStoreStaysWithinItsBytes() {
        let store = MemoryHotStore(bytes: 100_000, rows: 200)
        for number in 0..<100 {
            store.put((1...20).map { RecentStoreContract.row("g:\(number)", $0) })
            #expect(store.bytes <= 100_000)
        }
        var query = RowsQuery()
        query.appID = "demo"
        query.limit = 5
        query.conversation = "g:99"
        #expect(store.rows([query]).map(\.rows.count) == [5])
        query.conversation = "g:0"
        #expect(store.rows([query]).map(\.hasFailure) == [true])
    }

    @Test func checksumsAreCastagnolis() {
        // RFC 3720, B.4.
        let zeros = [UInt8](repeating: 0, count: 32)
        #expect(zeros.withUnsafeBytes { Crc32c.of($0) } == 0x8a91_36aa)
        #expect((0..<32).map { UInt8($0) }.withUnsafeBytes { Crc32c.of($0) } == 0x46dd_794e)
        #expect(Array("123456789".utf8).withUnsafeBytes { Crc32c.of($0) } == 0xe306_9283)
    }
}
