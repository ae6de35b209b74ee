import Foundation
import Ports
import Wire

extension SQLiteRecentStore {
    /// What a transaction has done so far; the caches learn of it only after COMMIT.
    struct Draft {
        var heads: [Name: HeadEntry] = [:]
        let number: UInt64
        var newest: UInt64 = 0
        var oldest = UInt64.max
    }

    /// The heads that a bucket's rows move, and which one each row belongs to.
    struct Placed {
        var names: [Name] = []
        var heads: [HeadEntry] = []
        var slots: [Int] = []
    }

    public func commit(_ buckets: [BucketCommit]) -> [BucketCommitResult] {
        var draft = Draft(number: commits + 1)
        do throws(SQLiteError) {
            let results = try database.transaction(
                { () throws(SQLiteError) in
                    var results: [BucketCommitResult] = []
                    for bucket in buckets { results.append(try store(bucket, &draft)) }
                    statements.metaMove.bind(1, draft.number)
                    try statements.metaMove.run()
                    if dedupFloor == 0, draft.oldest != .max {
                        statements.metaFloor.bind(1, draft.oldest)
                        try statements.metaFloor.run()
                    }
                    return results
                }, failed: { $0 })
            commits = draft.number
            if dedupFloor == 0, draft.oldest != .max { dedupFloor = draft.oldest }
            purge.newest = max(purge.newest, draft.newest)
            for (name, entry) in draft.heads { cachedHeads[name] = entry }
            return results
        } catch {
            return buckets.map { Self.result($0, .commitUnavailable, error.failure) }
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

    /// One bucket within the transaction. Rows are checked against the heads before anything is written, so that a
    /// bucket that must be left alone needs no savepoint.
    private func store(_ commit: BucketCommit, _ draft: inout Draft) throws(SQLiteError) -> BucketCommitResult {
        var placed = Placed()
        if let failure = try place(commit.rows, draft, &placed) {
            return Self.result(commit, .commitConflict, failure)
        }
        let newest = commit.rows.reduce(0) { max($0, $1.timeMs) }
        let move = statements.bucketMove
        move.bind(1, Int64(commit.bucket))
        move.bind(2, commit.epoch)
        move.bind(3, commit.oldOffset)
        move.bind(4, commit.newOffset)
        move.bind(5, newest)
        try move.run()
        guard database.changes == 1 else { return Self.result(commit, .commitConflict, nil) }
        draft.newest = max(draft.newest, newest)
        try write(commit, &placed, &draft)
        for (name, head) in zip(placed.names, placed.heads) { draft.heads[name] = head }
        return Self.result(commit, .commitDone, nil)
    }

    /// Moves the heads by the rows. A failure when the rows do not continue what is stored: their writer has lost the
    /// bucket, or its cached heads are wrong.
    private func place(_ rows: [StoredRow], _ draft: Draft, _ placed: inout Placed) throws(SQLiteError) -> Failure? {
        var slots: [Name: Int] = [:]
        for row in rows {
            let name = Name(app: row.appID, conversation: row.conversation)
            let slot: Int
            if let known = slots[name] {
                slot = known
            } else {
                slot = placed.heads.count
                slots[name] = slot
                placed.names.append(name)
                var known = draft.heads[name]
                if known == nil { known = try head(name) }
                placed.heads.append(known ?? HeadEntry())
            }
            let n = placed.heads[slot].n + (row.control ? 0 : 1)
            let old = placed.heads[slot]
            guard row.seq == old.seq + 1, row.n == n, row.timeMs >= old.time else {
                return Failure(
                    .forbidden,
                    "row \(row.seq) (n \(row.n), time \(row.timeMs)) of \(row.conversation) does not continue "
                        + "\(old.seq) (n \(old.n), time \(old.time))")
            }
            placed.heads[slot].seq = row.seq
            placed.heads[slot].n = row.n
            placed.heads[slot].time = row.timeMs
            placed.heads[slot].changed = draft.number
            if !row.control { placed.heads[slot].noteSender(row.sender, row.seq) }
            if Recall.isOne(row) { placed.heads[slot].recallSeq = row.seq }
            placed.slots.append(slot)
        }
        return nil
    }

    private func write(_ commit: BucketCommit, _ placed: inout Placed, _ draft: inout Draft) throws(SQLiteError) {
        for slot in placed.heads.indices {
            let isNew = placed.heads[slot].no == 0
            let put = isNew ? statements.headAdd : statements.headMove
            try writeHead(put, placed.names[slot], placed.heads[slot], bucket: isNew ? commit.bucket : nil)
            if isNew { placed.heads[slot].no = database.lastRow }
        }
        for (row, slot) in zip(commit.rows, placed.slots) {
            let conversation = placed.heads[slot].no
            try writeMessage(row, conversation)
            if !row.dedupKey.isEmpty {
                draft.oldest = min(draft.oldest, row.timeMs)
                try writeDedup(row, conversation)
            }
            if row.targetSeq > 0 {
                statements.targetAdd.bind(1, conversation)
                statements.targetAdd.bind(2, row.targetSeq)
                statements.targetAdd.bind(3, row.seq)
                statements.targetAdd.bind(4, Recall.isOne(row))
                try statements.targetAdd.run()
            }
        }
        for bytes in commit.dead {
            statements.deadAdd.bind(1, Int64(commit.bucket))
            statements.deadAdd.bind(2, commit.newOffset)
            try Self.runWith(bytes, statements.deadAdd, 3)
        }
    }

    private func writeHead(
        _ put: Statement, _ name: Name, _ head: HeadEntry, bucket: UInt32?
    ) throws(SQLiteError) {
        if bucket == nil { put.bind(1, head.no) }
        put.bind(2, head.seq)
        put.bind(3, head.n)
        put.bind(4, head.time)
        put.bind(5, head.changed)
        put.bind(6, head.firstSender)
        put.bind(7, head.firstSeq)
        put.bind(8, head.secondSender)
        put.bind(9, head.secondSeq)
        put.bind(10, head.othersSeq)
        put.bind(11, head.recallSeq)
        if let bucket {
            put.bind(12, name.app)
            put.bind(13, name.conversation)
            put.bind(14, Int64(bucket))
        }
        try put.run()
    }

    private func writeMessage(_ row: StoredRow, _ conversation: Int64) throws(SQLiteError) {
        let put = statements.messageAdd
        put.bind(1, conversation)
        put.bind(2, row.seq)
        put.bind(3, row.n)
        put.bind(4, row.timeMs)
        put.bind(5, row.sender)
        put.bind(6, (row.control ? RecentSchema.control : 0) | (row.lost ? RecentSchema.lost : 0))
        put.bind(7, row.targetSeq)
        try Self.runWith(row.message, put, 8)
    }

    private func writeDedup(_ row: StoredRow, _ conversation: Int64) throws(SQLiteError) {
        let put = statements.dedupAdd
        put.bind(1, conversation)
        put.bind(3, row.seq)
        put.bind(4, row.timeMs)
        try Self.runWith(row.dedupKey, put, 2)
    }

    /// Binds the bytes in place, runs and lets go of them.
    static func runWith(_ bytes: Data, _ statement: Statement, _ index: Int32) throws(SQLiteError) {
        let result = bytes.withUnsafeBytes { raw in
            Result { () throws(SQLiteError) in
                statement.bind(index, raw)
                try statement.run()
            }
        }
        try result.get()
    }
}
