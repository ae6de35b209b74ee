import Foundation
import Identity
import Ports
import RPC
import Wire

/// Moves a whole bucket to another shard while it is written and read.
///
/// Rows are copied and compared while traffic flows, round after round, until little is missing. Then the bucket is
/// fenced: its epoch grows, so whoever writes it finds a conflict and cannot claim it again. The rest is copied, the
/// books are compared, the new shard gets the bucket's row, the old one says that it is gone, and the map changes.
/// Messages are accepted by the log all the while; the fence only delays their delivery.
///
/// It can die at any point: another run goes on. Before the fence nothing has happened to anybody, after it the bucket
/// waits for that other run. What is left on the old shard is removed by `removeLeftovers`.
///
/// Isolation: one thread's; calls block, for as long as copying takes.
public final class BucketMove: @unchecked Sendable {
    // @unchecked: used by one thread at a time.

    /// What was done.
    public struct Report: Sendable, Equatable {
        public var conversations = 0
        public var messages = 0
        public var dedup = 0
        /// Rounds of copying before the fence.
        public var rounds = 0
        /// From the fence to the new map, in microseconds.
        public var pauseMicros: UInt64 = 0
    }

    /// How far a run is.
    public enum Step: Sendable, Equatable {
        /// Conversations of the bucket as the run began: what `copied` counts up to, roughly.
        case began(conversations: UInt64)
        /// Conversations and rows copied so far, in all rounds together; a conversation counts once for each round in
        /// which it changed.
        case copied(conversations: Int, messages: Int, round: Int)
        /// Nobody writes the bucket from here on.
        case fenced
        /// The books of both shards are equal.
        case compared
        /// The map says the new shard.
        case switched
    }

    let bucket: UInt32
    let from: Int
    let to: Int
    /// Told of every step, on the thread of the run.
    public var watch: (Step) -> Void = { _ in }
    let source: MySQLSession
    let target: MySQLSession
    private let relational: MySQLConfig
    var report = Report()
    /// Fewer changed conversations than this are copied behind the fence.
    private static let few = 200
    private static let mostRounds = 20

    /// - Parameters:
    ///   - shards: all of them, in their order.
    ///   - map: the database with the map.
    public init(bucket: UInt32, from: Int, to: Int, shards: MySQLConfig, map: MySQLConfig) {
        self.bucket = bucket
        self.from = from
        self.to = to
        source = MySQLRecentStore(shards.addresses[from], shards).session
        target = MySQLRecentStore(shards.addresses[to], shards).session
        relational = map
    }

    var first: UInt64 { RecentSchema.firstNumber(of: bucket) }
    var last: UInt64 { RecentSchema.firstNumber(of: bucket + 1) - 1 }

    /// Does all of it, or what a run that died has left.
    ///
    /// - Throws: `storeUnavailable` when a database is away or another run is at it (run it again), `forbidden` when
    /// the
    ///   map says that the bucket is elsewhere, `internalError` when the copy is not equal: nothing was switched then.
    public func run() throws(Failure) -> Report {
        do throws(MySQLError) {
            let map = MapStore(relational.addresses[0], relational)
            let connection = try map.session.connected()
            return try Migrations.locked("martlet.move.\(bucket)", waitS: 1, on: connection) { () throws(MySQLError) in
                guard let known = try MapStore.load(connection) else { throw MySQLError(.refused, "there is no map") }
                if known.shard(of: bucket) == to { return report }
                guard known.shard(of: bucket) == from else {
                    throw MySQLError(.refused, "bucket \(bucket) is not in shard \(from)")
                }
                try move(connection)
                return report
            }
        } catch {
            switch error.kind {
            case .refused: throw Failure(.forbidden, error.message)
            case .rows: throw Failure(.internalError, error.message)
            default: throw error.failure
            }
        }
    }

    private func move(_ map: MySQLConnection) throws(MySQLError) {
        let state = try self.state(source)
        if state != .gone {
            try makeRoom(isResumed: state == .leaving)
            watch(.began(conversations: try conversations()))
            var mark: UInt64 = 0
            while state == .here, report.rounds < Self.mostRounds {
                let next = try changed()
                let copied = try copy(since: mark)
                mark = next
                report.rounds += 1
                // The lock in the map's database lives as long as its connection.
                try map.run("DO 0")
                if copied < Self.few { break }
            }
            let began = SystemClock.now().micros
            try fence()
            watch(.fenced)
            _ = try copy(since: mark)
            try copyDead()
            try compareBooks()
            watch(.compared)
            try settle()
            try switchOver(map)
            report.pauseMicros = SystemClock.now().micros - began
        } else {
            try switchOver(map)
        }
        watch(.switched)
    }

    private func conversations() throws(MySQLError) -> UInt64 {
        try source.reading { (connection) throws(MySQLError) in
            try connection.number(
                "SELECT count(*) FROM conversations WHERE no >= ? AND no <= ?", MySQLValues(self.first, self.last)) ?? 0
        }
    }

    // MARK: the bucket's rows

    private func state(_ session: MySQLSession) throws(MySQLError) -> BucketState? {
        let number = try session.reading { (connection) throws(MySQLError) in
            try connection.number("SELECT state FROM buckets WHERE bucket = ?", MySQLValues(UInt64(self.bucket)))
        }
        return number.flatMap { BucketState(rawValue: $0) }
    }

    private func changed() throws(MySQLError) -> UInt64 {
        try source.reading { (connection) throws(MySQLError) in
            try connection.number("SELECT changed FROM buckets WHERE bucket = ?", MySQLValues(UInt64(self.bucket))) ?? 0
        }
    }

    /// What an earlier stay of the bucket left on the new shard.
    ///
    /// - Parameter isResumed: an earlier run has fenced the bucket. The new shard's row is then that run's, which died
    ///   before the old shard said "gone": nobody can have used it, as the map never named it.
    private func makeRoom(isResumed: Bool) throws(MySQLError) {
        switch try state(target) {
        case .here where isResumed: break
        case .here, .leaving: throw MySQLError(.refused, "shard \(to) holds bucket \(bucket) already")
        case .gone: try Self.remove(bucket, target)
        case nil: break
        }
    }

    /// From here on nobody stores anything in the bucket; a commit that is under way is waited for.
    private func fence() throws(MySQLError) {
        try once(source) { (connection) throws(MySQLError) in
            // A bucket that nobody ever claimed gets its row now: nobody may do so behind our back.
            try connection.execute(
                """
                INSERT INTO buckets(bucket, epoch, stored, incarnation, owner, time, changed, conversations, state)
                VALUES(?, 0, 0, 0, '', 0, 0, 0, 1)
                ON DUPLICATE KEY UPDATE epoch = epoch + 1, changed = changed + 1, state = 1
                """, MySQLValues(UInt64(self.bucket)))
        }
    }

    /// The bucket's row on the new shard.
    private func settle() throws(MySQLError) {
        let columns = "bucket, epoch, stored, incarnation, owner, time, changed, conversations"
        var rows: [MySQLValues] = []
        try source.reading { (connection) throws(MySQLError) in
            rows = []
            try connection.query(
                "SELECT \(columns) FROM buckets WHERE bucket = ?", MySQLValues(UInt64(self.bucket))
            ) { row in
                var values = MySQLValues(row.uint(0), row.uint(1), row.uint(2), row.uint(3))
                values.add(row.text(4))
                for column in 5...7 { values.add(row.uint(column)) }
                rows.append(values)
            }
        }
        for row in rows {
            try once(target) { (connection) throws(MySQLError) in
                try connection.execute(
                    "REPLACE INTO buckets(\(columns), state) VALUES(?, ?, ?, ?, ?, ?, ?, ?, 0)", row)
            }
        }
    }

    /// The old shard says no before the map says where: in between everybody asks again.
    private func switchOver(_ map: MySQLConnection) throws(MySQLError) {
        try once(source) { (connection) throws(MySQLError) in
            try connection.execute(
                "UPDATE buckets SET state = 2 WHERE bucket = ?", MySQLValues(UInt64(self.bucket)))
        }
        try map.execute(
            """
            UPDATE shard_map SET shard = ?, version = (SELECT v FROM (SELECT max(version) + 1 AS v FROM shard_map) m)
            WHERE bucket = ?
            """, MySQLValues(UInt64(to), UInt64(bucket)))
    }

    /// A change that may be made twice.
    func once(
        _ session: MySQLSession, _ work: (MySQLConnection) throws(MySQLError) -> Void
    ) throws(MySQLError) {
        for _ in 0..<3 {
            switch session.transaction(work) {
            case .committed: return
            case .undone(let error): throw error
            case .unknown: continue
            }
        }
        throw MySQLError(.lost, "the connection broke at every attempt")
    }

    // MARK: afterwards

    /// Removes what a bucket that has gone left on its old shard: not before everybody who may still read there has
    /// seen the new map (an hour is plenty).
    public static func removeLeftovers(bucket: UInt32, shard: Int, of shards: MySQLConfig) throws(Failure) {
        let session = MySQLRecentStore(shards.addresses[shard], shards).session
        do throws(MySQLError) {
            let state = try session.reading { (connection) throws(MySQLError) in
                try connection.number("SELECT state FROM buckets WHERE bucket = ?", MySQLValues(UInt64(bucket)))
            }
            guard state == BucketState.gone.rawValue else {
                throw MySQLError(.refused, "bucket \(bucket) has not left shard \(shard)")
            }
            try remove(bucket, session)
        } catch { throw error.kind == .refused ? Failure(.forbidden, error.message) : error.failure }
    }

    /// In small steps; the bucket's row, which says that it is gone, goes last.
    private static func remove(_ bucket: UInt32, _ session: MySQLSession) throws(MySQLError) {
        let (low, high) = (RecentSchema.firstNumber(of: bucket), RecentSchema.firstNumber(of: bucket + 1))
        let number = MySQLValues(UInt64(bucket))
        let steps: [(String, MySQLValues)] = [
            ("messages WHERE conv >= ? AND conv < ?", MySQLValues(low, high)),
            ("targets WHERE conv >= ? AND conv < ?", MySQLValues(low, high)), ("dedup WHERE bucket = ?", number),
            ("dead_letters WHERE bucket = ?", number),
            ("conversations WHERE no >= ? AND no < ?", MySQLValues(low, high)),
            ("buckets WHERE bucket = ?", number),
        ]
        for (what, values) in steps {
            var deleted = 1
            while deleted > 0 {
                deleted = try session.reading { (connection) throws(MySQLError) in
                    try connection.execute("DELETE FROM \(what) LIMIT 5000", values)
                }
            }
        }
    }
}
