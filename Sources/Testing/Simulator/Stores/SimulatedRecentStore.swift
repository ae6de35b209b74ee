import Foundation
import Ports
import Wire

/// The recent store as plain arrays. Commits stay in memory until a flush, as in the embedded store: `crash` takes a
/// bucket back to its last flush, `cutPower` further. Trouble fails claims, look-ups, flushes and commits, one half of
/// the latter after they were carried out, as a store at the end of a network might.
///
/// Isolation: none; a simulation has one thread.
public final class SimulatedRecentStore: RecentStore, @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    /// A conversation across apps.
    public struct Name: Hashable, Comparable, Sendable {
        public let app: String
        public let conversation: String

        public init(_ app: String, _ conversation: String) {
            self.app = app
            self.conversation = conversation
        }

        public static func < (one: Name, other: Name) -> Bool {
            (one.app, one.conversation) < (other.app, other.conversation)
        }
    }

    struct Conversation {
        var rows: [StoredRow] = []
        var places: [Data: Int] = [:]
        /// The transaction that changed it last.
        var changed: UInt64 = 0
    }

    private struct Bucket {
        var epoch: UInt64 = 0
        var stored: UInt64 = 0
        var incarnation: UInt64 = 0
    }

    /// Where a bucket was when it was last written.
    private struct Earlier {
        let stored: UInt64
        /// Rows and last change of each conversation that has moved since.
        var conversations: [Name: (rows: Int, changed: UInt64)] = [:]
        var rows = 0
    }

    /// Mistakes on purpose, for tests of the checker.
    public struct Faults: Sendable {
        /// A resend never meets its first copy.
        public var forgetsKeys = false
        /// Commits of a writer that has lost its bucket are taken, and rows take the next place whatever they say.
        public var ignoresEpochs = false
        /// Rows are taken whatever they count.
        public var takesAnyCount = false
        public init() {}
    }

    public var faults = Faults()
    let trouble: StoreTrouble
    var conversations: [Name: Conversation] = [:]
    var commits: UInt64 = 0
    private var buckets: [UInt32: Bucket] = [:]
    private var dead: [DeadLetter] = []
    /// Buckets with something that the file does not have, and where the file has them.
    private var unflushed: [UInt32: Earlier] = [:]
    /// Where the disk has buckets that were flushed since the last checkpoint.
    private var unsynced: [UInt32: Earlier] = [:]
    private var flushes = 0
    /// Flushes from one checkpoint to the next.
    private static let flushesPerCheckpoint = 8

    public init(trouble: StoreTrouble = StoreTrouble()) { self.trouble = trouble }

    // MARK: For the simulation

    /// The process has ended together with the log's: what was not flushed is gone.
    public func crash() {
        for (number, earlier) in unflushed.sorted(by: { $0.key < $1.key }) { takeBack(number, to: earlier) }
        unflushed = [:]
        // Transactions that are made again get numbers above every mark that was given out.
        commits += 1 << 32
    }

    /// What was flushed and is not on the disk is gone too.
    public func cutPower() {
        crash()
        for (number, earlier) in unsynced.sorted(by: { $0.key < $1.key }) { takeBack(number, to: earlier) }
        unsynced = [:]
    }

    private func takeBack(_ number: UInt32, to earlier: Earlier) {
        buckets[number]?.stored = earlier.stored
        for (name, was) in earlier.conversations {
            guard var conversation = conversations[name], conversation.rows.count > was.rows else { continue }
            conversation.rows = Array(conversation.rows.prefix(was.rows))
            conversation.places = conversation.places.filter { $0.value < was.rows }
            conversation.changed = was.changed
            conversations[name] = was.rows == 0 ? nil : conversation
        }
        dead.removeAll { $0.bucket == number && $0.offset > earlier.stored }
    }

    /// Every row by conversation, with its dedup key.
    public var rows: [Name: [StoredRow]] { conversations.mapValues(\.rows) }

    /// The row of a dedup key.
    public func row(_ app: String, _ conversation: String, key: Data) -> StoredRow? {
        guard let found = conversations[Name(app, conversation)], let place = found.places[key] else { return nil }
        return found.rows[place]
    }

    // MARK: Writing

    public func claim(_ claims: [BucketClaim]) -> [BucketClaimResult] {
        flush(claims.map(\.bucket))
        return claims.map { claim in
            var result = BucketClaimResult()
            result.bucket = claim.bucket
            var bucket = buckets[claim.bucket] ?? Bucket(epoch: 0, stored: 0, incarnation: claim.incarnation)
            if trouble.strikes() {
                result.failure = Failure(.storeUnavailable, "the simulated store is away")
            } else if bucket.stored > 0, bucket.incarnation != claim.incarnation {
                result.failure = Failure(.forbidden, "another incarnation of the log")
            } else if claim.logEnd < bucket.stored {
                result.failure = Failure(.forbidden, "the log ends before what is stored")
            } else {
                bucket.epoch += 1
                bucket.incarnation = claim.incarnation
                buckets[claim.bucket] = bucket
                result.epoch = bucket.epoch
                result.stored = bucket.stored
            }
            return result
        }
    }

    public func lookup(_ request: WriterLookup) -> WriterFound {
        var found = WriterFound()
        if trouble.strikes() {
            found.failure = Failure(.storeUnavailable, "the simulated store is away")
            return found
        }
        found.hits = request.keys.map { key in
            faults.forgetsKeys ? StoredRow() : row(key.appID, key.conversation, key: key.key) ?? StoredRow()
        }
        found.heads = request.conversations.map { head(Name($0.appID, $0.conversation)) }
        return found
    }

    public func commit(_ buckets: [BucketCommit]) -> [BucketCommitResult] {
        commits += 1
        return buckets.map { commit in
            var result = BucketCommitResult()
            result.bucket = commit.bucket
            let fails = trouble.strikes()
            if fails, trouble.coin() {
                result.state = .commitUnavailable
            } else {
                result.state = carryOut(commit)
                if fails { result.state = .commitUnavailable }
            }
            return result
        }
    }

    private func carryOut(_ commit: BucketCommit) -> CommitState {
        guard let bucket = buckets[commit.bucket] else { return .commitConflict }
        guard faults.ignoresEpochs || (bucket.epoch == commit.epoch && bucket.stored == commit.oldOffset) else {
            return .commitConflict
        }
        var changed: [Name: Conversation] = [:]
        var earlier = unflushed[commit.bucket] ?? Earlier(stored: bucket.stored)
        for row in commit.rows {
            let name = Name(row.appID, row.conversation)
            var conversation = changed[name] ?? conversations[name] ?? Conversation()
            guard let placed = place(row, behind: conversation.rows.last) else { return .commitConflict }
            if earlier.conversations[name] == nil {
                earlier.conversations[name] = (conversation.rows.count, conversation.changed)
            }
            if !row.dedupKey.isEmpty { conversation.places[row.dedupKey] = conversation.rows.count }
            conversation.rows.append(placed)
            conversation.changed = commits
            changed[name] = conversation
        }
        conversations.merge(changed) { _, new in new }
        earlier.rows += commit.rows.count
        unflushed[commit.bucket] = earlier
        dead += commit.dead.map { DeadLetter(bucket: commit.bucket, offset: commit.newOffset, bytes: $0) }
        buckets[commit.bucket]?.stored = max(commit.newOffset, faults.ignoresEpochs ? bucket.stored : 0)
        return .commitDone
    }

    /// The row where it says that it belongs; nil when that is not behind the last.
    private func place(_ row: StoredRow, behind last: StoredRow?) -> StoredRow? {
        let n = (last?.n ?? 0) + (row.control ? 0 : 1)
        let isCounted = row.n == n || faults.takesAnyCount
        if row.seq == (last?.seq ?? 0) + 1, isCounted, row.timeMs >= last?.timeMs ?? 0 { return row }
        guard faults.ignoresEpochs else { return nil }
        var moved = row
        moved.seq = (last?.seq ?? 0) + 1
        moved.n = n
        moved.timeMs = max(row.timeMs, last?.timeMs ?? 0)
        return moved
    }

    // MARK: The file

    public var unflushedRowCount: Int { unflushed.values.reduce(0) { $0 + $1.rows } }

    public func flush(rows: Int) throws(Failure) {
        try trouble.strike()
        var count = 0
        for number in unflushed.keys.sorted() where count < rows {
            count += unflushed[number]?.rows ?? 0
            flush([number])
        }
        flushes += 1
        if flushes % Self.flushesPerCheckpoint == 0 { unsynced = [:] }
    }

    private func flush(_ numbers: [UInt32]) {
        for number in numbers {
            guard let earlier = unflushed.removeValue(forKey: number) else { continue }
            guard let older = unsynced[number] else {
                unsynced[number] = earlier
                continue
            }
            unsynced[number]?.conversations = older.conversations.merging(earlier.conversations) { old, _ in old }
        }
    }

    /// Nobody sees what a crash could still take back.
    func flush(bucketOf name: Name) {
        for number in unflushed.keys.sorted() where unflushed[number]?.conversations[name] != nil { flush([number]) }
    }

    public func purgeDedup(limit: Int, nowMS: UInt64) throws(Failure) -> Bool { false }

    public func deadLetters(limit: Int) throws(Failure) -> [DeadLetter] {
        flush(unflushed.keys.sorted())
        return Array(dead.prefix(limit))
    }

    func head(_ name: Name) -> Head {
        var head = Head()
        head.appID = name.app
        head.conversation = name.conversation
        guard let last = conversations[name]?.rows.last else { return head }
        head.seq = last.seq
        head.n = last.n
        head.timeMs = last.timeMs
        return head
    }
}
