import Foundation
import Machinery
import Ports
import Wire

/// The recent store in one SQLite file: WAL, synchronous=NORMAL, because the log brings back what a power cut takes.
/// Commits are taken in memory and reach the file together a little later (Unflushed.swift); whoever asks for rows of
/// a bucket has it written first, so that nobody sees the difference.
///
/// Isolation: the lane of its machine.
public final class SQLiteRecentStore: RecentStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.
    struct Name: Hashable, Sendable {
        let app: String
        let conversation: String
    }

    typealias HeadEntry = ConversationPlace

    let database: SQLiteDatabase
    let statements: RecentStatements
    var cachedHeads: BoundedCache<Name, HeadEntry>
    /// Counts transactions, and jumps at every opening: after a power cut the transactions that were lost are made
    /// again, and their numbers must be above every mark that was ever given out.
    var commits: UInt64
    var dedupFloor: UInt64
    var purge = PurgeState()
    var unflushed = Unflushed()
    /// The last try to write the file failed, whatever the rows.
    var flushFailed = false
    /// Buckets with rows that the file does not take although it can be written: they wait alone.
    var stuck: Set<UInt32> = []
    var keys: KeyWindow

    struct PurgeState {
        var conversation: Int64 = 0
        var key = Data()
        /// Oldest entry met that stays, in the cycle under way.
        var oldest = UInt64.max
        var isRunning = false
        /// Newest record time of this process's life.
        var newest: UInt64 = 0
    }

    /// How far `commits` jumps when the file is opened: more transactions than a power cut can ever take.
    static let commitJump: UInt64 = 1 << 32

    /// Opens or makes the store.
    ///
    /// - Parameters:
    ///   - path: the database file, or `":memory:"`.
    ///   - files: where the file is; nil for this machine's file system, through SQLite's own layer.
    public init(
        path: String, config: EmbeddedConfig = EmbeddedConfig(), files: (any FileLayer)? = nil
    ) throws(StoreOpenError) {
        do throws(SQLiteError) {
            database = try SQLiteDatabase(
                path, durability: .normal, cacheBytes: config.recentCacheBytes, files: files,
                checkpointPages: config.checkpointPages, checkpointsAside: true)
        } catch { throw error.opening(path) }
        try database.migrate(RecentSchema.steps, path: path)
        do throws(SQLiteError) {
            // Durable before the first mark is given out: a second power cut must not take the jump back.
            try database.durably("UPDATE meta SET commits = commits + \(Self.commitJump)")
            commits = UInt64(clamping: try database.number("SELECT commits FROM meta"))
            dedupFloor = UInt64(clamping: try database.number("SELECT dedup_floor FROM meta"))
            purge.newest = UInt64(clamping: try database.number("SELECT max(time) FROM bucket"))
            statements = try RecentStatements(database)
        } catch { throw error.opening(path) }
        cachedHeads = BoundedCache(limit: config.cachedHeads)
        keys = KeyWindow(floor: 0)
        do throws(SQLiteError) { keys = try knownKeys(limit: config.knownKeys) } catch { throw error.opening(path) }
    }

    deinit {
        // What a full disk keeps from being written comes back from the log.
        try? flush()
    }

    /// The youngest keys of the file.
    private func knownKeys(limit: Int) throws(SQLiteError) -> KeyWindow {
        let newest = statements.dedupNewest
        newest.bind(1, Int64(limit / 2))
        var found: [Data] = []
        while try newest.step() { found.append(newest.blob(0)) }
        // Of the last one's time there may be more that were not read.
        let floor = found.count < limit / 2 ? 0 : found.last.map { KeyWindow.time($0) + 1 } ?? 0
        var window = KeyWindow(floor: floor, limit: limit)
        for key in found.reversed() { window.insert(key) }
        return window
    }

    // MARK: claims

    public func claim(_ claims: [BucketClaim]) -> [BucketClaimResult] {
        do throws(SQLiteError) {
            do throws(SQLiteError) {
                try flush(unflushed.dirty.filter { number in claims.contains { $0.bucket == number } })
            } catch { if flushFailed { throw error } }
            let results = try database.transaction(
                { () throws(SQLiteError) in
                    var results: [BucketClaimResult] = []
                    for claim in claims {
                        results.append(try stuck.contains(claim.bucket) ? Self.stuck(claim) : self.claim(claim))
                    }
                    return results
                }, failed: { $0 })
            for result in results where !result.hasFailure {
                unflushed.place(result.bucket, epoch: result.epoch, stored: result.stored)
            }
            return results
        } catch {
            return claims.map { claim in
                var result = BucketClaimResult()
                result.bucket = claim.bucket
                result.failure = error.failure
                return result
            }
        }
    }

    private static func stuck(_ claim: BucketClaim) -> BucketClaimResult {
        var result = BucketClaimResult()
        result.bucket = claim.bucket
        result.failure = stuckFailure(claim.bucket)
        return result
    }

    static func stuckFailure(_ bucket: UInt32) -> Failure {
        Failure(.storeUnavailable, "rows of bucket \(bucket) do not fit the file; it waits, the others go on")
    }

    /// The transaction around the claims has begun: what is unflushed of the buckets was written before.
    private func claim(_ claim: BucketClaim) throws(SQLiteError) -> BucketClaimResult {
        var result = BucketClaimResult()
        result.bucket = claim.bucket
        let get = statements.bucketGet
        get.bind(1, Int64(claim.bucket))
        var epoch: UInt64 = 0
        if try get.step() {
            epoch = get.uint(0)
            result.stored = get.uint(1)
            let incarnation = UInt64(bitPattern: get.int(2))
            get.reset()
            if result.stored > 0, incarnation != claim.incarnation {
                result.failure = Failure(
                    .forbidden,
                    "bucket \(claim.bucket) was stored from log \(incarnation), and this is log \(claim.incarnation)")
                return result
            }
            if claim.logEnd < result.stored {
                result.failure = Failure(
                    .forbidden,
                    "bucket \(claim.bucket) was stored up to \(result.stored), but the log ends at \(claim.logEnd): "
                        + "it has lost records"
                )
                return result
            }
        }
        result.epoch = epoch + 1
        let put = statements.bucketPut
        put.bind(1, Int64(claim.bucket))
        put.bind(2, result.epoch)
        put.bind(3, result.stored)
        put.bind(4, Int64(bitPattern: claim.incarnation))
        put.bind(5, claim.owner)
        try put.run()
        return result
    }

    // MARK: look-ups

    /// The head of a conversation, rows that are not in the file yet included.
    func head(_ name: Name, in bucket: UInt32) throws(SQLiteError) -> HeadEntry? {
        if let head = unflushed.head(bucket, name) { return head }
        return try head(name)
    }

    /// The head of a conversation as the file has it; nil when it has no rows there.
    func head(_ name: Name) throws(SQLiteError) -> HeadEntry? {
        if let cached = cachedHeads[name] { return cached }
        let get = statements.headGet
        get.bind(1, name.app)
        get.bind(2, name.conversation)
        guard try get.step() else { return nil }
        var entry = HeadEntry()
        entry.no = get.int(0)
        entry.seq = get.uint(1)
        entry.n = get.uint(2)
        entry.time = get.uint(3)
        entry.changed = get.uint(4)
        entry.firstSender = get.text(5)
        entry.firstSeq = get.uint(6)
        entry.secondSender = get.text(7)
        entry.secondSeq = get.uint(8)
        entry.othersSeq = get.uint(9)
        entry.recallSeq = get.uint(10)
        get.reset()
        cachedHeads[name] = entry
        return entry
    }

    public func lookup(_ request: WriterLookup) -> WriterFound {
        var found = WriterFound()
        do throws(SQLiteError) {
            found.hits.reserveCapacity(request.keys.count)
            for key in request.keys { found.hits.append(try hit(key)) }
            found.heads.reserveCapacity(request.conversations.count)
            for key in request.conversations {
                let name = Name(app: key.appID, conversation: key.conversation)
                found.heads.append(Self.head(name, try head(name, in: key.bucket)))
            }
            return found
        } catch {
            var failed = WriterFound()
            failed.failure = error.failure
            return failed
        }
    }

    private func hit(_ key: DedupKey) throws(SQLiteError) -> StoredRow {
        guard keys.mayHold(key.key) else { return StoredRow() }
        let name = Name(app: key.appID, conversation: key.conversation)
        if let row = unflushed.row(key.bucket, name, key: key.key) { return row }
        guard let head = try head(name) else { return StoredRow() }
        let get = statements.dedupGet
        get.bind(1, head.no)
        let result = key.key.withUnsafeBytes { bytes in
            Result { () throws(SQLiteError) -> UInt64 in
                get.bind(2, bytes)
                defer { get.reset() }
                return try get.step() ? get.uint(0) : 0
            }
        }
        let seq = try result.get()
        guard seq > 0, var row = try row(name, head.no, seq) else { return StoredRow() }
        row.dedupKey = key.key
        return row
    }

    static func head(_ name: Name, _ entry: HeadEntry?) -> Head {
        var head = Head()
        head.appID = name.app
        head.conversation = name.conversation
        if let entry {
            head.seq = entry.seq
            head.n = entry.n
            head.timeMs = entry.time
        }
        return head
    }

    /// One row of a conversation.
    func row(_ name: Name, _ conversation: Int64, _ seq: UInt64) throws(SQLiteError) -> StoredRow? {
        let get = statements.messageGet
        get.bind(1, conversation)
        get.bind(2, seq)
        guard try get.step() else { return nil }
        defer { get.reset() }
        return Self.row(get, name)
    }

    /// The row that a page statement stands on. Without its dedup key, which only the writer needs.
    static func row(_ statement: Statement, _ name: Name) -> StoredRow {
        var row = StoredRow()
        row.appID = name.app
        row.conversation = name.conversation
        row.seq = statement.uint(0)
        row.n = statement.uint(1)
        row.timeMs = statement.uint(2)
        row.sender = statement.text(3)
        let flags = statement.int(4)
        row.control = flags & RecentSchema.control != 0
        row.lost = flags & RecentSchema.lost != 0
        row.targetSeq = statement.uint(5)
        row.message = statement.blob(6)
        return row
    }

    public func deadLetters(limit: Int) throws(Failure) -> [DeadLetter] {
        try flush()
        do throws(SQLiteError) {
            let get = statements.deadGet
            get.bind(1, Int64(limit))
            var letters: [DeadLetter] = []
            while try get.step() {
                letters.append(
                    DeadLetter(bucket: UInt32(clamping: get.int(0)), offset: get.uint(1), bytes: get.blob(2)))
            }
            return letters
        } catch { throw error.failure }
    }
}
