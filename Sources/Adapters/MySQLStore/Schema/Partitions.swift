/// The monthly partitions of a shard's message rows: made ahead of time, dropped when their rows have expired.
enum Partitions {
    /// Months that are there before they begin.
    static let ahead = 2
    private static let lock = "martlet.partitions"

    /// What each partition is "less than", but for the last one, which takes whatever is later.
    static func borders(_ connection: MySQLConnection) throws(MySQLError) -> [Int] {
        var found: [Int] = []
        try connection.query(
            """
            SELECT CAST(partition_description AS UNSIGNED) FROM information_schema.partitions
            WHERE table_schema = database() AND table_name = 'messages' AND partition_description <> 'MAXVALUE'
            ORDER BY partition_ordinal_position
            """
        ) { row in found.append(Int(row.uint(0))) }
        return found
    }

    /// Makes the months that are missing. Programs that run this at the same time do it once.
    static func extend(_ connection: MySQLConnection, nowMS: UInt64) throws(MySQLError) {
        let now = Months.number(ofMS: nowMS)
        guard Months.extending(try borders(connection), now: now, ahead: ahead) != nil else { return }
        try Migrations.locked(lock, waitS: 10, on: connection) { () throws(MySQLError) in
            if let sql = Months.extending(try borders(connection), now: now, ahead: ahead) { try connection.run(sql) }
        }
    }

    /// Drops the partitions whose rows are all older than `month`; how many. Each conversation remembers how far its
    /// rows are gone, so that unread counts stay exact for what can still be read. The caller has made sure that the
    /// rows are somewhere else, or wanted by nobody.
    static func drop(_ connection: MySQLConnection, before month: Int) throws(MySQLError) -> Int {
        try Migrations.locked(lock, waitS: 10, on: connection) { () throws(MySQLError) in
            // The newest month is never dropped: rows older than all partitions go into the oldest.
            let expired = try borders(connection).dropLast().filter { $0 <= month }
            for border in expired {
                let name = Months.name(border - 1)
                try connection.run(
                    """
                    UPDATE conversations c JOIN (
                        SELECT conv, max(seq) AS seq, max(n) AS n FROM messages PARTITION (\(name)) GROUP BY conv
                    ) m ON m.conv = c.no
                    SET c.base_n = greatest(c.base_n, m.n), c.base_seq = greatest(c.base_seq, m.seq)
                    """)
                try connection.run("ALTER TABLE messages DROP PARTITION \(name)")
            }
            return expired.count
        }
    }
}
