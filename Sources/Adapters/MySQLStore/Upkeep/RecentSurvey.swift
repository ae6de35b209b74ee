import Ports
import Wire

/// A conversation as its row says.
public struct ConversationFigures: Sendable, Equatable {
    /// Its number in the shard.
    public let number: UInt64
    public let app: String
    public let conversation: String
    /// The last row's.
    public let seq: UInt64
    public let n: UInt64
    /// What the rows that were dropped with their months went up to.
    public let baseSeq: UInt64
    public let baseN: UInt64
}

/// Row by row and without judging it: for whoever compares tiers.
extension ShardSurvey {
    /// Conversations of a shard, in the order of their numbers; none of buckets that have left.
    ///
    /// - Parameter number: the last one that is known already.
    public func conversations(
        of shard: Int, after number: UInt64, limit: Int
    ) throws(Failure) -> [ConversationFigures] {
        try ask(shard) { (connection) throws(MySQLError) in
            var found: [ConversationFigures] = []
            try connection.query(
                """
                SELECT c.no, c.app, c.name, c.seq, c.n, c.base_seq, c.base_n FROM conversations c
                JOIN buckets b ON b.bucket = c.bucket WHERE c.no > ? AND b.state < \(BucketState.gone.rawValue)
                ORDER BY c.no LIMIT ?
                """, MySQLValues(number, UInt64(limit))
            ) { row in
                found.append(
                    ConversationFigures(
                        number: row.uint(0), app: row.text(1), conversation: row.text(2), seq: row.uint(3),
                        n: row.uint(4), baseSeq: row.uint(5), baseN: row.uint(6)))
            }
            return found
        }
    }

    /// How many conversations there are, for whoever shows progress.
    public func conversationCount(of shard: Int) throws(Failure) -> UInt64 {
        try ask(shard) { (connection) throws(MySQLError) in
            try connection.number(
                """
                SELECT count(*) FROM conversations c JOIN buckets b ON b.bucket = c.bucket
                WHERE b.state < \(BucketState.gone.rawValue)
                """) ?? 0
        }
    }

    /// Rows of a conversation above a seq, ascending.
    public func rows(
        of conversation: ConversationFigures, in shard: Int, above seq: UInt64, limit: Int
    ) throws(Failure) -> [StoredRow] {
        let name = MySQLRecentStore.Name(app: conversation.app, conversation: conversation.conversation)
        return try ask(shard) { (connection) throws(MySQLError) in
            var found: [StoredRow] = []
            try connection.query(
                """
                SELECT \(MySQLRecentStore.rowColumns) FROM messages WHERE conv = ? AND seq > ? ORDER BY seq LIMIT ?
                """, MySQLValues(conversation.number, seq, UInt64(limit))
            ) { row in found.append(MySQLRecentStore.row(row, name, from: 0)) }
            return found
        }
    }
}
