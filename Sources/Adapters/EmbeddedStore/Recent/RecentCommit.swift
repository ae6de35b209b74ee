import Foundation
import Ports
import Wire

extension SQLiteRecentStore {
    /// The heads that a bucket's rows move, and which one each row belongs to.
    struct Placed {
        var names: [Name] = []
        var heads: [HeadEntry] = []
        var slots: [Int] = []
    }

    public func commit(_ buckets: [BucketCommit]) -> [BucketCommitResult] {
        if let failure = makeRoom(for: buckets) { return buckets.map { Self.result($0, .commitUnavailable, failure) } }
        commits += 1
        return buckets.map { commit in
            guard !stuck.contains(commit.bucket) else {
                return Self.result(commit, .commitUnavailable, Self.stuckFailure(commit.bucket))
            }
            do throws(SQLiteError) { return try store(commit) } catch {
                return Self.result(commit, .commitUnavailable, error.failure)
            }
        }
    }

    private static func result(_ commit: BucketCommit, _ state: CommitState, _ failure: Failure?) -> BucketCommitResult
    {
        var result = BucketCommitResult()
        result.bucket = commit.bucket
        result.state = state
        if let failure { result.failure = failure }
        return result
    }

    private var isFull: Bool { unflushed.rows >= Self.unflushedRows || unflushed.bytes >= Self.unflushedBytes }

    /// While the file cannot be written nothing more is taken, so that what waits for it stays small. A stuck bucket is
    /// tried again when something is committed to it, and keeps nobody else waiting.
    private func makeRoom(for buckets: [BucketCommit]) -> Failure? {
        guard isFull || flushFailed || !stuck.isEmpty && buckets.contains(where: { stuck.contains($0.bucket) }) else {
            return nil
        }
        do throws(Failure) {
            try flush()
            return nil
        } catch { return flushFailed || isFull ? error : nil }
    }

    /// One bucket: all of it or nothing.
    private func store(_ commit: BucketCommit) throws(SQLiteError) -> BucketCommitResult {
        guard let bucket = try place(of: commit.bucket), bucket.epoch == commit.epoch, bucket.stored == commit.oldOffset
        else { return Self.result(commit, .commitConflict, nil) }
        var placed = Placed()
        if let failure = try place(commit.rows, in: commit.bucket, &placed) {
            return Self.result(commit, .commitConflict, failure)
        }
        unflushed.add(commit, placed, number: commits)
        for row in commit.rows {
            purge.newest = max(purge.newest, row.timeMs)
            if !row.dedupKey.isEmpty { keys.insert(row.dedupKey) }
        }
        return Self.result(commit, .commitDone, nil)
    }

    /// Where a bucket stands; nil when nobody ever claimed it.
    func place(of bucket: UInt32) throws(SQLiteError) -> Unflushed.Bucket? {
        if let known = unflushed[bucket] { return known }
        let get = statements.bucketGet
        get.bind(1, Int64(bucket))
        guard try get.step() else { return nil }
        defer { get.reset() }
        unflushed.place(bucket, epoch: get.uint(0), stored: get.uint(1))
        return unflushed[bucket]
    }

    /// Moves the heads by the rows. A failure when the rows do not continue what is stored: their writer has lost the
    /// bucket, or its cached heads are wrong.
    private func place(
        _ rows: [StoredRow], in bucket: UInt32, _ placed: inout Placed
    ) throws(SQLiteError) -> Failure? {
        var slots: [Name: Int] = [:]
        placed.slots.reserveCapacity(rows.count)
        for row in rows {
            let name = Name(app: row.appID, conversation: row.conversation)
            let slot: Int
            if let known = slots[name] {
                slot = known
            } else {
                slot = placed.heads.count
                slots[name] = slot
                placed.names.append(name)
                placed.heads.append(try head(name, in: bucket) ?? HeadEntry())
            }
            if let failure = placed.heads[slot].take(row, commit: commits) { return failure }
            placed.slots.append(slot)
        }
        return nil
    }
}
