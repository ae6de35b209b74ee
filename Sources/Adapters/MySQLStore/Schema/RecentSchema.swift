/// The tables of a shard. Names are bytes (VARBINARY): compared as they are, without a collation's ideas about case,
/// accents or trailing spaces.
///
/// A conversation's number is its bucket times 2^40 plus a count within the bucket: integers in every index, the same
/// on every shard, and a bucket is one range of each table.
enum RecentSchema {
    static let family = "recent"
    static let conversationBits: UInt64 = 40

    static func firstNumber(of bucket: UInt32) -> UInt64 { UInt64(bucket) << conversationBits }

    /// Bits of `messages.flags`.
    static let control: UInt64 = 1
    static let lost: UInt64 = 2

    static let steps = [
        MigrationStep(statements: [
            """
            CREATE TABLE IF NOT EXISTS shard_self(
                one TINYINT UNSIGNED NOT NULL PRIMARY KEY, deployment VARBINARY(64) NOT NULL,
                number INT UNSIGNED NOT NULL) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS buckets(
                bucket INT UNSIGNED NOT NULL PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL,
                stored BIGINT UNSIGNED NOT NULL, incarnation BIGINT UNSIGNED NOT NULL, owner VARBINARY(255) NOT NULL,
                time BIGINT UNSIGNED NOT NULL,
                changed BIGINT UNSIGNED NOT NULL, conversations BIGINT UNSIGNED NOT NULL,
                state TINYINT UNSIGNED NOT NULL DEFAULT 0) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS conversations(
                no BIGINT UNSIGNED NOT NULL PRIMARY KEY, bucket INT UNSIGNED NOT NULL, app VARBINARY(64) NOT NULL,
                name VARBINARY(255) NOT NULL, seq BIGINT UNSIGNED NOT NULL, n BIGINT UNSIGNED NOT NULL,
                time BIGINT UNSIGNED NOT NULL, changed BIGINT UNSIGNED NOT NULL, first_sender VARBINARY(255) NOT NULL,
                first_seq BIGINT UNSIGNED NOT NULL, second_sender VARBINARY(255) NOT NULL,
                second_seq BIGINT UNSIGNED NOT NULL, others_seq BIGINT UNSIGNED NOT NULL,
                recall_seq BIGINT UNSIGNED NOT NULL, base_seq BIGINT UNSIGNED NOT NULL DEFAULT 0,
                base_n BIGINT UNSIGNED NOT NULL DEFAULT 0, UNIQUE KEY by_name(app, name)) ENGINE=InnoDB
            """,
            // The partition's column has to be in every unique key; that (conv, seq) is unique is the writer's doing.
            """
            CREATE TABLE IF NOT EXISTS messages(
                conv BIGINT UNSIGNED NOT NULL, seq BIGINT UNSIGNED NOT NULL, month SMALLINT UNSIGNED NOT NULL,
                n BIGINT UNSIGNED NOT NULL, time BIGINT UNSIGNED NOT NULL, sender VARBINARY(255) NOT NULL,
                flags TINYINT UNSIGNED NOT NULL, target BIGINT UNSIGNED NOT NULL, body MEDIUMBLOB NOT NULL,
                PRIMARY KEY(conv, seq, month)) ENGINE=InnoDB
                PARTITION BY RANGE(month) (PARTITION later VALUES LESS THAN MAXVALUE)
            """,
            // Keys begin with a time, so inserts and the purge each stay at one end of a bucket's part.
            """
            CREATE TABLE IF NOT EXISTS dedup(
                bucket INT UNSIGNED NOT NULL, dkey VARBINARY(32) NOT NULL, conv BIGINT UNSIGNED NOT NULL,
                seq BIGINT UNSIGNED NOT NULL, time BIGINT UNSIGNED NOT NULL, changed BIGINT UNSIGNED NOT NULL,
                PRIMARY KEY(bucket, dkey, conv)) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS targets(
                conv BIGINT UNSIGNED NOT NULL, target BIGINT UNSIGNED NOT NULL, seq BIGINT UNSIGNED NOT NULL,
                recall TINYINT UNSIGNED NOT NULL, PRIMARY KEY(conv, target, seq)) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS dead_letters(
                bucket INT UNSIGNED NOT NULL, stored BIGINT UNSIGNED NOT NULL, place INT UNSIGNED NOT NULL,
                bytes MEDIUMBLOB NOT NULL, PRIMARY KEY(bucket, stored, place)) ENGINE=InnoDB
            """,
        ])
    ]
}

/// What `buckets.state` says.
enum BucketState: UInt64 {
    /// Written and read here.
    case here = 0
    /// Read here; its rows are being copied away and nobody may claim it.
    case leaving = 1
    /// Somewhere else; what is left here may be dropped.
    case gone = 2
}

/// Months as numbers, and the partitions that hold them. Pure.
enum Months {
    /// Months since the year 0, in UTC, of Unix milliseconds.
    static func number(ofMS time: UInt64) -> Int {
        // Days since 0000-03-01, by eras of 400 years (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
        let days = Int(time / 86_400_000) + 719_468
        let era = days / 146_097
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let month = (5 * dayOfYear + 2) / 153
        let year = yearOfEra + era * 400 + (month < 10 ? 0 : 1)
        return min(year * 12 + (month < 10 ? month + 2 : month - 10), Int(UInt16.max))
    }

    /// "m202610" for a month; partitions are named so.
    static func name(_ month: Int) -> String {
        let digits = String(month % 12 + 1)
        return "m\(month / 12)\(digits.count == 1 ? "0" : "")\(digits)"
    }

    /// The statement that makes partitions up to `ahead` months from now out of the last one; nil when they are there.
    ///
    /// - Parameter borders: what each partition is "less than", the last one's left out.
    static func extending(_ borders: [Int], now: Int, ahead: Int) -> String? {
        let first = borders.last ?? now
        guard first <= now + ahead else { return nil }
        let parts = (first...now + ahead).map { "PARTITION \(name($0)) VALUES LESS THAN (\($0 + 1))" }
        let list = (parts + ["PARTITION later VALUES LESS THAN MAXVALUE"]).joined(separator: ", ")
        return "ALTER TABLE messages REORGANIZE PARTITION later INTO (\(list))"
    }
}
