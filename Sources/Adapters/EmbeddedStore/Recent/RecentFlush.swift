import Foundation
import Ports
import Wire

/// From memory to the file: rows, dedup entries, heads and the position of a bucket in one transaction.
extension SQLiteRecentStore {
    /// Rows and message bytes that wait for the file at most; above them a commit waits for a flush.
    static let unflushedRows = 1 << 16
    static let unflushedBytes = 64 << 20

    public var unflushedRowCount: Int { unflushed.rows }

    /// Writes whole buckets, longest waiting first, until at least `rows` rows are written. A part that would have to
    /// wait for a checkpoint is left for the next time; all of it waits.
    public func flush(rows: Int = .max) throws(Failure) {
        if rows < .max, database.isCheckpointing { return }
        var chosen: [UInt32] = []
        var count = 0
        for number in unflushed.dirty {
            guard count < rows else { break }
            chosen.append(number)
            count += unflushed[number]?.rows.count ?? 0
        }
        do throws(SQLiteError) { try flush(chosen) } catch { throw error.failure }
    }

    /// Before somebody reads rows or heads of the bucket out of the file. On a full disk the file keeps an older state,
    /// which is one consistent cut of each bucket: better read that than nothing.
    func flush(bucketOf name: Name) {
        for number in unflushed.dirty where unflushed.head(number, name) != nil {
            do throws(SQLiteError) { try flush([number]) } catch { return }
        }
    }

    func flush(_ numbers: [UInt32]) throws(SQLiteError) {
        guard !numbers.isEmpty else { return }
        do throws(SQLiteError) {
            var moved: [(Name, HeadEntry)] = []
            var oldest = UInt64.max
            try database.transaction(
                { () throws(SQLiteError) in
                    for number in numbers { try write(number, &moved, &oldest) }
                    statements.metaMove.bind(1, commits)
                    try statements.metaMove.run()
                    if dedupFloor == 0, oldest != .max {
                        statements.metaFloor.bind(1, oldest)
                        try statements.metaFloor.run()
                    }
                }, failed: { $0 })
            if dedupFloor == 0, oldest != .max { dedupFloor = oldest }
            for (name, head) in moved { cachedHeads[name] = head }
            for number in numbers { unflushed.flushed(number) }
            flushFailed = false
        } catch {
            flushFailed = true
            throw error
        }
    }

    private func write(
        _ number: UInt32, _ moved: inout [(Name, HeadEntry)], _ oldest: inout UInt64
    ) throws(SQLiteError) {
        guard var bucket = unflushed[number], !bucket.isClean else { return }
        let move = statements.bucketMove
        move.bind(1, Int64(number))
        move.bind(2, bucket.epoch)
        move.bind(3, bucket.flushed)
        move.bind(4, bucket.stored)
        move.bind(5, bucket.newest)
        try move.run()
        guard database.changes == 1 else {
            throw SQLiteError(code: -1, message: "bucket \(number) is not where this process left it")
        }
        for slot in bucket.heads.indices {
            let isNew = bucket.heads[slot].no == 0
            let put = isNew ? statements.headAdd : statements.headMove
            try writeHead(put, bucket.names[slot], bucket.heads[slot], bucket: isNew ? number : nil)
            if isNew { bucket.heads[slot].no = database.lastRow }
            moved.append((bucket.names[slot], bucket.heads[slot]))
        }
        // By conversation: rows that follow each other share a page and the way to it.
        let order = bucket.slots.indices.sorted { (bucket.slots[$0], $0) < (bucket.slots[$1], $1) }
        for index in order { try write(bucket.rows[index], bucket.heads[bucket.slots[index]].no, &oldest) }
        for dead in bucket.dead {
            statements.deadAdd.bind(1, Int64(number))
            statements.deadAdd.bind(2, dead.offset)
            try Self.runWith(dead.bytes, statements.deadAdd, 3)
        }
    }

    private func write(_ row: StoredRow, _ conversation: Int64, _ oldest: inout UInt64) throws(SQLiteError) {
        try writeMessage(row, conversation)
        if !row.dedupKey.isEmpty {
            oldest = min(oldest, row.timeMs)
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
