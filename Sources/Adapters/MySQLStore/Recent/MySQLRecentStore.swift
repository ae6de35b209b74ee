import Foundation
import Machinery
import Ports
import RPC
import Wire

/// One shard of the recent store. Every commit is one transaction of the database, durable when it is answered; its
/// first statement compares and sets the bucket's row, so a writer that has lost its claim stores nothing.
///
/// Isolation: one thread's; calls block. Several of them, in any number of processes, may use one shard.
public final class MySQLRecentStore: RecentStore, @unchecked Sendable {
    // @unchecked: confined to the thread of the pool, or the lane, that made it.
    struct Name: Hashable, Sendable {
        let app: String
        let conversation: String
    }

    /// What is known of a bucket while its epoch is this one: nobody else can have changed it, or the compare-and-set
    /// finds another row.
    struct Held {
        let epoch: UInt64
        var stored: UInt64
        var changed: UInt64
        var conversations: UInt64
        var heads: BoundedCache<Name, ConversationPlace>
    }

    let session: MySQLSession
    var held: [UInt32: Held] = [:]
    var purge = PurgeTurn()
    static let headsPerBucket = 8192

    /// A store of one shard; connects when it is first asked, and makes or checks the tables then.
    public convenience init(_ address: MySQLAddress, _ config: MySQLConfig) {
        self.init(
            session: MySQLSession(address, config) { (connection) throws(MySQLError) in
                try Migrations.apply(RecentSchema.family, RecentSchema.steps, on: connection)
                try Partitions.extend(connection, nowMS: SystemClock.now().wallMS)
            })
    }

    init(session: MySQLSession) { self.session = session }

    /// Connects, makes or brings up to date the tables, and makes the months that are missing.
    ///
    /// - Throws: one sentence: no way in, no such database, written by a newer version.
    public func open() throws(StoreOpenError) {
        do throws(MySQLError) { _ = try session.connected() } catch { throw error.opening(session.address) }
    }

    // MARK: claims

    public func claim(_ claims: [BucketClaim]) -> [BucketClaimResult] {
        var results: [BucketClaimResult] = []
        // One transaction each: a bucket that somebody holds must not keep the others waiting.
        for claim in claims {
            held[claim.bucket] = nil
            switch session.transaction({ (connection) throws(MySQLError) in try Self.claim(claim, connection) }) {
            case .committed(let result): results.append(result)
            // Claimed or not: an epoch more does no harm, and nobody was told it.
            case .undone(let error), .unknown(_, let error):
                var result = BucketClaimResult()
                result.bucket = claim.bucket
                result.failure = error.failure
                results.append(result)
            }
        }
        return results
    }

    private static func claim(
        _ claim: BucketClaim, _ connection: MySQLConnection
    ) throws(MySQLError) -> BucketClaimResult {
        var result = BucketClaimResult()
        result.bucket = claim.bucket
        var found: (epoch: UInt64, incarnation: UInt64, state: UInt64)?
        // Waits for a commit that is under way, whoever makes it.
        try connection.query(
            "SELECT epoch, stored, incarnation, state FROM buckets WHERE bucket = ? FOR UPDATE",
            MySQLValues(UInt64(claim.bucket))
        ) { row in
            found = (row.uint(0), row.uint(2), row.uint(3))
            result.stored = row.uint(1)
        }
        if let found {
            if found.state != BucketState.here.rawValue {
                result.failure = movedFailure(claim.bucket)
                return result
            }
            if let failure = refusal(of: claim, stored: result.stored, incarnation: found.incarnation) {
                result.failure = failure
                return result
            }
        }
        result.epoch = (found?.epoch ?? 0) + 1
        var values = MySQLValues(UInt64(claim.bucket), result.epoch, result.stored, claim.incarnation)
        values.add(claim.owner)
        // `changed` jumps to the clock's microseconds: a replica that was promoted without its last transactions must
        // not give a number again that is below a mark which somebody holds. Commits count up from there, slower.
        let clock = "CAST(unix_timestamp(now(6)) * 1000000 AS UNSIGNED)"
        try connection.execute(
            """
            INSERT INTO buckets(bucket, epoch, stored, incarnation, owner, time, changed, conversations)
            VALUES(?, ?, ?, ?, ?, 0, \(clock), 0) ON DUPLICATE KEY UPDATE epoch = VALUES(epoch),
            incarnation = VALUES(incarnation), owner = VALUES(owner),
            changed = greatest(changed + 1, VALUES(changed))
            """, values)
        return result
    }

    private static func refusal(of claim: BucketClaim, stored: UInt64, incarnation: UInt64) -> Failure? {
        if stored > 0, incarnation != claim.incarnation {
            return Failure(
                .forbidden,
                "bucket \(claim.bucket) was stored from log \(incarnation), and this is log \(claim.incarnation)")
        }
        if claim.logEnd < stored {
            return Failure(
                .forbidden,
                "bucket \(claim.bucket) was stored up to \(stored), but the log ends at \(claim.logEnd): it has lost "
                    + "records")
        }
        return nil
    }

    /// For a bucket that is not here: the map says where, perhaps a moment later.
    static func movedFailure(_ bucket: UInt32) -> Failure {
        Failure(.storeUnavailable, "\(movedWords) \(bucket)")
    }

    static let movedWords = "this shard does not hold bucket"

    // MARK: what is never held back

    public var unflushedRowCount: Int { 0 }

    public func flush(rows: Int) throws(Failure) {}

    public func deadLetters(limit: Int) throws(Failure) -> [DeadLetter] {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                var letters: [DeadLetter] = []
                try connection.query(
                    "SELECT bucket, stored, bytes FROM dead_letters ORDER BY bucket, stored, place LIMIT ?",
                    MySQLValues(UInt64(limit))
                ) { row in
                    letters.append(
                        DeadLetter(bucket: UInt32(clamping: row.uint(0)), offset: row.uint(1), bytes: row.data(2)))
                }
                return letters
            }
        } catch { throw error.failure }
    }
}
