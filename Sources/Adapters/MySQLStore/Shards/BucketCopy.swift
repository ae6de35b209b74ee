import Foundation
import Identity
import Ports
import Wire

/// Copying and comparing. What is copied is compared at once, with sums that both servers make of their own rows.
extension BucketMove {
    /// A conversation whose rows are to be copied: those above what the new shard has.
    private struct Range {
        let conversation: UInt64
        var low: UInt64
        let high: UInt64
    }

    /// Conversations looked at together, and rows of one of them copied at once.
    private static var conversationsAtOnce: Int { 64 }
    private static var rowsAtOnce: UInt64 { 200 }
    private static let headColumns = """
        no, bucket, seq, n, time, changed, first_seq, second_seq, others_seq, recall_seq, base_seq, base_n, app, name,
        first_sender, second_sender
        """
    private static let headNumbers = 12

    /// Copies what has changed since a commit number; how many conversations.
    func copy(since mark: UInt64) throws(MySQLError) -> Int {
        var copied = 0
        var next = first
        while true {
            let heads = try changedHeads(from: next, since: mark)
            guard let last = heads.last else { break }
            try copyRows(of: heads)
            try writeHeads(heads)
            copied += heads.count
            next = last.no + 1
            watch(
                .copied(
                    conversations: report.conversations + copied, messages: report.messages, round: report.rounds + 1))
        }
        report.conversations += copied
        try copyDedup(since: mark)
        return copied
    }

    /// A conversation's row, to be written as it was read.
    private struct Head {
        let no: UInt64
        let seq: UInt64
        let values: MySQLValues
    }

    private func changedHeads(from no: UInt64, since mark: UInt64) throws(MySQLError) -> [Head] {
        try source.reading { (connection) throws(MySQLError) in
            var heads: [Head] = []
            try connection.query(
                """
                SELECT \(Self.headColumns) FROM conversations WHERE no >= ? AND no <= ? AND changed > ?
                ORDER BY no LIMIT ?
                """,
                MySQLValues(no, self.last, mark, UInt64(Self.conversationsAtOnce))
            ) { row in
                var values = MySQLValues()
                for column in 0..<Self.headNumbers { values.add(row.uint(column)) }
                for column in Self.headNumbers..<Self.headNumbers + 4 { values.add(row.text(column)) }
                heads.append(Head(no: row.uint(0), seq: row.uint(2), values: values))
            }
            return heads
        }
    }

    private func writeHeads(_ heads: [Head]) throws(MySQLError) {
        let marks = Array(repeating: "?", count: Self.headNumbers + 4).joined(separator: ",")
        try once(target) { (connection) throws(MySQLError) in
            for head in heads {
                try connection.execute("REPLACE INTO conversations(\(Self.headColumns)) VALUES(\(marks))", head.values)
            }
        }
    }

    // MARK: rows

    private func copyRows(of heads: [Head]) throws(MySQLError) {
        let known = try target.reading { (connection) throws(MySQLError) in
            var seqs: [UInt64: UInt64] = [:]
            try MySQLRecentStore.listed(
                heads.map(\.no), "no", 1, connection, { $1.add($0) }, "SELECT no, seq FROM conversations WHERE"
            ) { row in seqs[row.uint(0)] = row.uint(1) }
            return seqs
        }
        var rest = heads.compactMap { head -> Range? in
            let low = known[head.no] ?? 0
            return low < head.seq ? Range(conversation: head.no, low: low, high: head.seq) : nil
        }
        while !rest.isEmpty {
            let now = rest.map {
                Range(conversation: $0.conversation, low: $0.low, high: min($0.high, $0.low + Self.rowsAtOnce))
            }
            try copy(now)
            rest = zip(rest, now).compactMap { range, done in
                done.high < range.high
                    ? Range(conversation: range.conversation, low: done.high, high: range.high) : nil
            }
        }
    }

    private static func condition(_ ranges: [Range]) -> (sql: String, values: MySQLValues) {
        var values = MySQLValues()
        for range in ranges {
            values.add(range.conversation)
            values.add(range.low)
            values.add(range.high)
        }
        let part = "(conv = ? AND seq > ? AND seq <= ?)"
        return (Array(repeating: part, count: ranges.count).joined(separator: " OR "), values)
    }

    private func copy(_ ranges: [Range]) throws(MySQLError) {
        let (condition, values) = Self.condition(ranges)
        let columns = "conv, seq, month, n, time, flags, target, sender, body"
        let rows = try read(source, "SELECT \(columns) FROM messages WHERE \(condition)", values, numbers: 7, bytes: 2)
        let targets = try read(
            source, "SELECT conv, target, seq, recall FROM targets WHERE \(condition)", values, numbers: 4, bytes: 0)
        try once(target) { (connection) throws(MySQLError) in
            try Self.write(
                "INSERT INTO messages(\(columns)) VALUES ", 9, rows, " ON DUPLICATE KEY UPDATE body = VALUES(body)",
                connection)
            try Self.write(
                "INSERT INTO targets(conv, target, seq, recall) VALUES ", 4, targets,
                " ON DUPLICATE KEY UPDATE recall = VALUES(recall)", connection)
        }
        report.messages += rows.count
        let sum = """
            SELECT concat_ws(' ', count(*), bit_xor(crc32(concat_ws('|', conv, seq, month, n, time, flags, target,
            hex(sender), md5(body)))), sum(length(body))) FROM messages WHERE \(condition)
            """
        let (here, there) = (try text(source, sum, values), try text(target, sum, values))
        guard here == there else {
            throw MySQLError(.rows, "copied rows of bucket \(bucket) are not equal: \(here) and \(there)")
        }
    }

    private func copyDedup(since mark: UInt64) throws(MySQLError) {
        var key = Data()
        var conversation: UInt64 = 0
        while true {
            var values = MySQLValues(UInt64(bucket), mark)
            values.add(key)
            values.add(key)
            values.add(conversation)
            values.add(UInt64(2000))
            let found = try read(
                source,
                """
                SELECT bucket, conv, seq, time, changed, dkey FROM dedup WHERE bucket = ? AND changed > ?
                AND dkey >= ? AND (dkey > ? OR conv > ?) ORDER BY dkey, conv LIMIT ?
                """, values, numbers: 5, bytes: 1)
            guard let last = found.last else { return }
            try once(target) { (connection) throws(MySQLError) in
                try Self.write(
                    "INSERT INTO dedup(bucket, conv, seq, time, changed, dkey) VALUES ", 6, found,
                    " ON DUPLICATE KEY UPDATE seq = VALUES(seq)", connection)
            }
            report.dedup += found.count
            key = last.bytes[0]
            conversation = last.numbers[1]
        }
    }

    func copyDead() throws(MySQLError) {
        let rows = try read(
            source, "SELECT bucket, stored, place, bytes FROM dead_letters WHERE bucket = ?",
            MySQLValues(UInt64(bucket)), numbers: 3, bytes: 1)
        try once(target) { (connection) throws(MySQLError) in
            try Self.write(
                "INSERT INTO dead_letters(bucket, stored, place, bytes) VALUES ", 4, rows,
                " ON DUPLICATE KEY UPDATE bytes = VALUES(bytes)", connection)
        }
    }

    // MARK: the books

    /// Behind the fence: conversations, targets and dedup entries as a whole. Entries that have left their window may
    /// be purged on one side only.
    func compareBooks() throws(MySQLError) {
        let newest = try source.reading { (connection) throws(MySQLError) in
            try connection.number("SELECT time FROM buckets WHERE bucket = ?", MySQLValues(UInt64(self.bucket))) ?? 0
        }
        let floor = newest - min(newest, MessageID.dedupWindowMS)
        let books: [(String, MySQLValues)] = [
            (
                """
                SELECT concat_ws(' ', count(*), bit_xor(crc32(concat_ws('|', \(Self.headColumns)))), sum(seq)) FROM
                conversations WHERE no >= ? AND no <= ?
                """, MySQLValues(first, last)
            ),
            (
                """
                SELECT concat_ws(' ', count(*), bit_xor(crc32(concat_ws('|', conv, target, seq, recall)))) FROM targets
                WHERE conv >= ? AND conv <= ?
                """, MySQLValues(first, last)
            ),
            (
                """
                SELECT concat_ws(' ', count(*), bit_xor(crc32(concat_ws('|', hex(dkey), conv, seq, time)))) FROM dedup
                WHERE bucket = ? AND time >= ?
                """, MySQLValues(UInt64(bucket), floor)
            ),
        ]
        for (sql, values) in books {
            let (here, there) = (try text(source, sql, values), try text(target, sql, values))
            guard here == there else {
                throw MySQLError(.rows, "the copy of bucket \(bucket) is not equal: \(here) and \(there)")
            }
        }
    }

    // MARK: rows without meaning

    /// Columns of a row: numbers first, then bytes.
    private struct Raw {
        let numbers: [UInt64]
        let bytes: [Data]
    }

    private func read(
        _ session: MySQLSession, _ sql: String, _ values: MySQLValues, numbers: Int, bytes: Int
    ) throws(MySQLError) -> [Raw] {
        try session.reading { (connection) throws(MySQLError) in
            var rows: [Raw] = []
            try connection.query(sql, values) { row in
                var found: ([UInt64], [Data]) = ([], [])
                for column in 0..<numbers { found.0.append(row.uint(column)) }
                for column in numbers..<numbers + bytes { found.1.append(row.data(column)) }
                rows.append(Raw(numbers: found.0, bytes: found.1))
            }
            return rows
        }
    }

    private static func write(
        _ head: String, _ columns: Int, _ rows: [Raw], _ suffix: String, _ connection: MySQLConnection
    ) throws(MySQLError) {
        try MySQLRecentStore.insert(
            head, columns, rows, suffix: suffix, bytes: { row in row.bytes.reduce(300) { $0 + $1.count } }, connection
        ) { row, values in
            for number in row.numbers { values.add(number) }
            for bytes in row.bytes { values.add(bytes) }
        }
    }

    private func text(_ session: MySQLSession, _ sql: String, _ values: MySQLValues) throws(MySQLError) -> String {
        try session.reading { (connection) throws(MySQLError) in
            var found = ""
            try connection.query(sql, values) { found = $0.text(0) }
            return found
        }
    }
}
