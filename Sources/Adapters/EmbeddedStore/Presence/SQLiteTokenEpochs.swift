import Foundation
import Machinery
import Ports
import Wire

/// Token epochs in a small SQLite file, synchronous=FULL: a revoked token must stay revoked over any restart.
///
/// Isolation: the lane of the presence machine.
public final class SQLiteTokenEpochs: TokenEpochs, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.
    private struct User: Hashable, Sendable {
        let app: String
        let id: String
    }

    private static let steps = [
        """
        CREATE TABLE epoch(
            app TEXT NOT NULL, user TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY(app, user)) WITHOUT ROWID
        """
    ]
    private static let cacheBytes = 2 << 20
    private static let cachedUsers = 65_536

    private let database: SQLiteDatabase
    private let get: Statement
    private let put: Statement
    private var cache = BoundedCache<User, UInt64>(limit: cachedUsers)

    /// - Parameters:
    ///   - path: the database file, or `":memory:"`.
    ///   - files: where the file is; nil for this machine's file system, through SQLite's own layer.
    public init(
        path: String, config: EmbeddedConfig = EmbeddedConfig(), files: (any FileLayer)? = nil
    ) throws(StoreOpenError) {
        do throws(SQLiteError) {
            database = try SQLiteDatabase(
                path, durability: .full, cacheBytes: Self.cacheBytes, files: files,
                checkpointPages: config.checkpointPages)
        } catch { throw error.opening(path) }
        try database.migrate(Self.steps, path: path)
        do throws(SQLiteError) {
            get = try database.prepare("SELECT epoch FROM epoch WHERE app = ?1 AND user = ?2")
            put = try database.prepare(
                "INSERT INTO epoch VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET epoch = max(epoch, excluded.epoch)")
        } catch { throw error.opening(path) }
    }

    public func epochs(_ users: [UserKey]) throws(Failure) -> [UInt64] {
        do throws(SQLiteError) {
            var epochs: [UInt64] = []
            for key in users {
                let user = User(app: key.appID, id: key.userID)
                if let known = cache[user] {
                    epochs.append(known)
                    continue
                }
                get.bind(1, user.app)
                get.bind(2, user.id)
                let epoch = try get.step() ? get.uint(0) : 0
                get.reset()
                cache[user] = epoch
                epochs.append(epoch)
            }
            return epochs
        } catch { throw error.failure }
    }

    public func raise(_ items: [RevokeItem]) throws(Failure) {
        do throws(SQLiteError) {
            try database.transaction(
                { () throws(SQLiteError) in
                    for item in items {
                        put.bind(1, item.appID)
                        put.bind(2, item.userID)
                        put.bind(3, item.tokenEpoch)
                        try put.run()
                    }
                }, failed: { $0 })
        } catch { throw error.failure }
        for item in items { cache[User(app: item.appID, id: item.userID)] = nil }
    }
}
