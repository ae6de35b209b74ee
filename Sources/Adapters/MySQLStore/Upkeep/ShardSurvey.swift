import Ports
import Wire

/// What one shard has of one bucket.
public struct BucketHolding: Sendable, Equatable {
    /// Whether the bucket is written there.
    public enum State: String, Sendable {
        case here
        /// Read, and being copied to another shard.
        case leaving
        /// On another shard; rows that are left may be removed.
        case gone
    }
    public let bucket: UInt32
    public let state: State
    public let conversations: UInt64
    /// Rows that can be read: counted by the conversations, whose seqs are dense.
    public let messages: UInt64
    /// Grows by one with every commit, and jumps with every claim.
    public let commits: UInt64
    /// Its part of the tables' bytes by its part of the rows: InnoDB keeps no account of buckets.
    public var bytesAbout: UInt64 = 0
}

/// Figures of the shards, read beside whatever runs. Nothing is changed.
///
/// Isolation: one thread's; calls block.
public final class ShardSurvey {
    private let sessions: [MySQLSession]

    /// - Parameter config: the shards, in their order.
    public init(_ config: MySQLConfig) {
        sessions = config.addresses.map { MySQLSession($0, config) }
    }

    public var shards: Int { sessions.count }

    public func address(of shard: Int) -> MySQLAddress { sessions[shard].address }

    /// Message rows of all shards, counted one by one: rows of a bucket that has left and is not removed count as well.
    ///
    /// - Throws: the failure of the first shard that does not answer.
    public func messageRows() throws(Failure) -> UInt64 {
        var sum: UInt64 = 0
        for session in sessions {
            sum += try ask(session) { (connection) throws(MySQLError) in
                try connection.number("SELECT count(*) FROM messages") ?? 0
            }
        }
        return sum
    }

    /// Data and indexes of all tables of a shard, in bytes, as the server knows them.
    public func bytes(of shard: Int) throws(Failure) -> UInt64 {
        try ask(sessions[shard]) { (connection) throws(MySQLError) in
            try connection.number(
                """
                SELECT CAST(sum(data_length + index_length) AS UNSIGNED) FROM information_schema.tables
                WHERE table_schema = database()
                """) ?? 0
        }
    }

    /// What a shard has, by bucket.
    public func holdings(of shard: Int) throws(Failure) -> [BucketHolding] {
        var found = try ask(sessions[shard]) { (connection) throws(MySQLError) in
            var found: [BucketHolding] = []
            try connection.query(
                """
                SELECT b.bucket, b.state, b.changed, count(c.no), CAST(coalesce(sum(c.seq - c.base_seq), 0) AS UNSIGNED)
                FROM buckets b LEFT JOIN conversations c
                ON c.no >= b.bucket * \(1 << RecentSchema.conversationBits)
                AND c.no < (b.bucket + 1) * \(1 << RecentSchema.conversationBits)
                GROUP BY b.bucket, b.state, b.changed ORDER BY b.bucket
                """
            ) { row in
                found.append(
                    BucketHolding(
                        bucket: UInt32(clamping: row.uint(0)), state: Self.state(row.uint(1)),
                        conversations: row.uint(3), messages: row.uint(4), commits: row.uint(2)))
            }
            return found
        }
        let bytes = try bytes(of: shard)
        let rows = found.reduce(0) { $0 + $1.messages }
        for index in found.indices where rows > 0 {
            found[index].bytesAbout = UInt64(Double(bytes) * Double(found[index].messages) / Double(rows))
        }
        return found
    }

    /// What a shard was given and could not store as messages, oldest first.
    public func deadLetters(of shard: Int, limit: Int) throws(Failure) -> [DeadLetter] {
        let session = sessions[shard]
        // The tables have to be there; whether they are is asked for in a way that says what to do.
        _ = try ask(session) { (connection) throws(MySQLError) in
            try connection.number("SELECT count(*) FROM dead_letters")
        }
        return try MySQLRecentStore(session: session).deadLetters(limit: limit)
    }

    private static func state(_ number: UInt64) -> BucketHolding.State {
        switch BucketState(rawValue: number) {
        case .leaving: .leaving
        case .gone: .gone
        case .here, nil: .here
        }
    }

    func ask<T>(_ shard: Int, _ work: (MySQLConnection) throws(MySQLError) -> T) throws(Failure) -> T {
        try ask(sessions[shard], work)
    }

    private func ask<T>(
        _ session: MySQLSession, _ work: (MySQLConnection) throws(MySQLError) -> T
    ) throws(Failure) -> T {
        do throws(MySQLError) { return try session.reading(work) } catch {
            if error.isAboutMissingTable {
                throw Failure(
                    .notFound, "\(session.address) has no tables of Martlet's; `martlet ops migrate --apply` makes them"
                )
            }
            throw Failure(.storeUnavailable, "\(session.address): \(error.message)")
        }
    }
}

/// The map bucket -> shard, for whoever looks after it. Blocks.
public enum ShardMaps {
    /// The map; nil: none was made yet.
    ///
    /// - Throws: `storeUnavailable` when the database is away or has no such table.
    public static func read(_ relational: MySQLConfig) throws(Failure) -> ShardMap? {
        let session = MySQLSession(relational.addresses[0], relational)
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                let there = try connection.number(
                    """
                    SELECT count(*) FROM information_schema.tables
                    WHERE table_schema = database() AND table_name = 'shard_map'
                    """)
                return there == 1 ? try MapStore.load(connection) : nil
            }
        } catch { throw Failure(.storeUnavailable, "\(session.address): \(error.message)") }
    }
}
