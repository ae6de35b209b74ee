import Foundation
import Wire

/// What has been committed and is not in the file yet, bucket by bucket. It is lost with the process, and then the log
/// brings it back: rows are a pure function of the log, and a bucket's rows and its position reach the file in one
/// transaction, so a bucket is always found at one exact place.
///
/// Why not a transaction per commit: the rows of a moment belong to as many conversations as there are rows, so each
/// would touch pages of its own; half a second's rows share them.
struct Unflushed {
    /// A conversation's key in a bucket's dedup entries.
    struct Key: Hashable {
        let name: SQLiteRecentStore.Name
        let bytes: Data
    }

    struct Bucket {
        let epoch: UInt64
        /// The position in the file, and the one that the rows below lead to.
        let flushed: UInt64
        var stored: UInt64
        var newest: UInt64 = 0
        var rows: [StoredRow] = []
        /// The head that each row moved.
        var slots: [Int] = []
        var names: [SQLiteRecentStore.Name] = []
        var heads: [SQLiteRecentStore.HeadEntry] = []
        var slotOf: [SQLiteRecentStore.Name: Int] = [:]
        var byKey: [Key: Int] = [:]
        var dead: [(offset: UInt64, bytes: Data)] = []

        var isClean: Bool { stored == flushed }
    }

    private(set) var buckets: [UInt32: Bucket] = [:]
    /// Rows and message bytes of all buckets.
    private(set) var rows = 0
    private(set) var bytes = 0
    /// Buckets that have something for the file, longest waiting first.
    private(set) var dirty: [UInt32] = []

    subscript(bucket: UInt32) -> Bucket? { buckets[bucket] }

    /// The place of a bucket as the file has it; what was unflushed of it must be in the file.
    mutating func place(_ number: UInt32, epoch: UInt64, stored: UInt64) {
        buckets[number] = Bucket(epoch: epoch, flushed: stored, stored: stored)
    }

    mutating func add(_ commit: BucketCommit, _ placed: SQLiteRecentStore.Placed) {
        guard var bucket = buckets.removeValue(forKey: commit.bucket) else { return }
        if bucket.isClean { dirty.append(commit.bucket) }
        bucket.stored = commit.newOffset
        for (index, row) in commit.rows.enumerated() {
            let name = placed.names[placed.slots[index]]
            let slot: Int
            if let known = bucket.slotOf[name] {
                slot = known
            } else {
                slot = bucket.heads.count
                bucket.slotOf[name] = slot
                bucket.names.append(name)
                bucket.heads.append(placed.heads[placed.slots[index]])
            }
            bucket.slots.append(slot)
            if !row.dedupKey.isEmpty { bucket.byKey[Key(name: name, bytes: row.dedupKey)] = bucket.rows.count }
            bucket.rows.append(row)
            bucket.newest = max(bucket.newest, row.timeMs)
            bytes += row.message.count
        }
        for (name, head) in zip(placed.names, placed.heads) {
            if let slot = bucket.slotOf[name] { bucket.heads[slot] = head }
        }
        for dead in commit.dead { bucket.dead.append((commit.newOffset, dead)) }
        rows += commit.rows.count
        buckets[commit.bucket] = bucket
    }

    func head(_ bucket: UInt32, _ name: SQLiteRecentStore.Name) -> SQLiteRecentStore.HeadEntry? {
        guard let bucket = buckets[bucket], let slot = bucket.slotOf[name] else { return nil }
        return bucket.heads[slot]
    }

    func row(_ bucket: UInt32, _ name: SQLiteRecentStore.Name, key: Data) -> StoredRow? {
        guard let bucket = buckets[bucket], let index = bucket.byKey[Key(name: name, bytes: key)] else { return nil }
        return bucket.rows[index]
    }

    /// The bucket's rows are in the file.
    mutating func flushed(_ number: UInt32) {
        guard let bucket = buckets[number] else { return }
        rows -= bucket.rows.count
        for row in bucket.rows { bytes -= row.message.count }
        dirty.removeAll { $0 == number }
        place(number, epoch: bucket.epoch, stored: bucket.stored)
    }
}
