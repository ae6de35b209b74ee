/// The recent store's tables, one string per version of the layout; never change one that was
/// released. Dedup keys begin
/// with a UUIDv7, so with the key in front their inserts stay together on the newest pages.
enum RecentSchema {
    static let steps = [
        """
        CREATE TABLE meta(
            one INTEGER PRIMARY KEY CHECK (one = 1), commits INTEGER NOT NULL, dedup_floor INTEGER NOT NULL);
        INSERT INTO meta VALUES(1, 0, 0);
        CREATE TABLE bucket(
            bucket INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, stored INTEGER NOT NULL, incarnation INTEGER NOT NULL,
            owner TEXT NOT NULL, time INTEGER NOT NULL);
        CREATE TABLE conversation(
            no INTEGER PRIMARY KEY, app TEXT NOT NULL, name TEXT NOT NULL, bucket INTEGER NOT NULL,
            seq INTEGER NOT NULL, n INTEGER NOT NULL, time INTEGER NOT NULL, changed INTEGER NOT NULL,
            first_sender TEXT NOT NULL,
            first_seq INTEGER NOT NULL, second_sender TEXT NOT NULL, second_seq INTEGER NOT NULL,
            others_seq INTEGER NOT NULL, recall_seq INTEGER NOT NULL, UNIQUE(app, name));
        CREATE TABLE message(
            conv INTEGER NOT NULL, seq INTEGER NOT NULL, n INTEGER NOT NULL, time INTEGER NOT NULL,
            sender TEXT NOT NULL, flags INTEGER NOT NULL, target INTEGER NOT NULL, blob BLOB NOT NULL,
            PRIMARY KEY(conv, seq)) WITHOUT ROWID;
        CREATE TABLE dedup(
            key BLOB NOT NULL, conv INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
            PRIMARY KEY(key, conv)) WITHOUT ROWID;
        CREATE TABLE target(
            conv INTEGER NOT NULL, target_seq INTEGER NOT NULL, seq INTEGER NOT NULL, recall INTEGER NOT NULL,
            PRIMARY KEY(conv, target_seq, seq)) WITHOUT ROWID;
        CREATE TABLE dead(
            no INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, offset INTEGER NOT NULL, bytes BLOB NOT NULL);
        """
    ]

    /// Bits of `message.flags`.
    static let control: Int64 = 1
    static let lost: Int64 = 2
}

/// The statements of the recent store, compiled once.
struct RecentStatements {
    let bucketGet, bucketPut, bucketMove: Statement
    let headGet, headAdd, headMove: Statement
    let messageAdd, messageGet, countAt, pageUp, pageDown: Statement
    let dedupAdd, dedupGet, dedupNewest, dedupScan, dedupDrop: Statement
    let targetAdd, ownCount, recalledCount, recalledIn: Statement
    let deadAdd, deadGet: Statement
    let metaMove, metaFloor: Statement

    init(_ database: SQLiteDatabase) throws(SQLiteError) {
        bucketGet = try database.prepare("SELECT epoch, stored, incarnation FROM bucket WHERE bucket = ?1")
        bucketPut = try database.prepare(
            """
            INSERT INTO bucket(bucket, epoch, stored, incarnation, owner, time) VALUES(?1, ?2, ?3, ?4, ?5, 0)
            ON CONFLICT(bucket) DO UPDATE SET epoch = ?2, incarnation = ?4, owner = ?5
            """)
        bucketMove = try database.prepare(
            "UPDATE bucket SET stored = ?4, time = max(time, ?5) WHERE bucket = ?1 AND epoch = ?2 AND stored = ?3")
        let head = "seq, n, time, changed, first_sender, first_seq, second_sender, second_seq, others_seq, recall_seq"
        headGet = try database.prepare("SELECT no, \(head) FROM conversation WHERE app = ?1 AND name = ?2")
        headAdd = try database.prepare(
            """
            INSERT INTO conversation(app, name, bucket, \(head))
            VALUES(?12, ?13, ?14, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
            """)
        headMove = try database.prepare(
            """
            UPDATE conversation SET seq = ?2, n = ?3, time = ?4, changed = ?5, first_sender = ?6, first_seq = ?7,
            second_sender = ?8, second_seq = ?9, others_seq = ?10, recall_seq = ?11 WHERE no = ?1
            """)
        messageAdd = try database.prepare(
            """
            INSERT INTO message(conv, seq, n, time, sender, flags, target, blob)
            VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
            """
        )
        let row = "SELECT seq, n, time, sender, flags, target, blob FROM message WHERE conv = ?1"
        messageGet = try database.prepare("\(row) AND seq = ?2")
        countAt = try database.prepare("SELECT n FROM message WHERE conv = ?1 AND seq = ?2")
        pageUp = try database.prepare("\(row) AND seq >= ?2 AND seq < ?3 ORDER BY seq LIMIT ?4")
        pageDown = try database.prepare("\(row) AND seq >= ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4")
        dedupAdd = try database.prepare("INSERT OR IGNORE INTO dedup(conv, key, seq, time) VALUES(?1, ?2, ?3, ?4)")
        dedupGet = try database.prepare("SELECT seq FROM dedup WHERE key = ?2 AND conv = ?1")
        dedupNewest = try database.prepare("SELECT key FROM dedup ORDER BY key DESC LIMIT ?1")
        dedupScan = try database.prepare(
            """
            SELECT d.conv, d.key, d.time, b.time FROM dedup d JOIN conversation c ON c.no = d.conv
            JOIN bucket b ON b.bucket = c.bucket WHERE (d.key, d.conv) > (?2, ?1) ORDER BY d.key, d.conv LIMIT ?3
            """)
        dedupDrop = try database.prepare("DELETE FROM dedup WHERE key = ?2 AND conv = ?1")
        targetAdd = try database.prepare(
            "INSERT OR IGNORE INTO target(conv, target_seq, seq, recall) VALUES(?1, ?2, ?3, ?4)")
        ownCount = try database.prepare(
            """
            SELECT count(*) FROM message WHERE conv = ?1 AND seq > ?2 AND seq <= ?3 AND (flags & 1) = 0 AND sender = ?4
            """)
        // Recalled: a later row of the same sender says so. The border is what the user may see.
        let recalled = """
            FROM target t JOIN message m ON m.conv = t.conv AND m.seq = t.target_seq
            JOIN message r ON r.conv = t.conv AND r.seq = t.seq
            WHERE t.conv = ?1 AND t.target_seq > ?2 AND t.target_seq <= ?3 AND t.recall = 1 AND (m.flags & 1) = 0
            AND r.sender = m.sender
            """
        recalledCount = try database.prepare(
            "SELECT count(DISTINCT t.target_seq) \(recalled) AND t.seq <= ?3 AND m.sender <> ?4")
        recalledIn = try database.prepare("SELECT DISTINCT t.target_seq \(recalled) ORDER BY 1")
        deadAdd = try database.prepare("INSERT INTO dead(bucket, offset, bytes) VALUES(?1, ?2, ?3)")
        deadGet = try database.prepare("SELECT bucket, offset, bytes FROM dead ORDER BY no LIMIT ?1")
        metaMove = try database.prepare("UPDATE meta SET commits = ?1")
        metaFloor = try database.prepare("UPDATE meta SET dedup_floor = ?1")
    }
}
