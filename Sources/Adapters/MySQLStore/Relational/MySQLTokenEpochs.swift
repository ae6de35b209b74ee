import Foundation
import Machinery
import Ports
import RPC
import Wire

/// Token epochs in the relational database: max-merged, durable with the transaction that raises them, the same for
/// every process that serves presence.
///
/// What was read is believed for a second. Another process may raise an epoch in that time; it tells Redis, which has
/// the last word, so a revoked token could only pass here if Redis came back empty within that very second.
///
/// Isolation: one thread's; `epochs` and `raise` block it, for a few seconds at most while the database is away.
public final class MySQLTokenEpochs: TokenEpochs, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it.
    private struct Known: Sendable {
        var epoch: UInt64
        var readMicros: UInt64
    }

    /// How long an epoch that was read is not read again.
    static let freshMicros: UInt64 = 1_000_000
    private static let cachedUsers = 65_536

    private let session: MySQLSession
    private let clock: @Sendable () -> UInt64
    private var cache = BoundedCache<UserPlan.Key, Known>(limit: cachedUsers)

    /// Connects when it is first asked, and makes or checks the tables then.
    ///
    /// - Parameter clock: monotonic microseconds.
    public init(
        _ address: MySQLAddress, _ config: MySQLConfig,
        clock: @escaping @Sendable () -> UInt64 = { SystemClock.now().micros }
    ) {
        self.clock = clock
        var config = config
        // Whoever looks users up waits behind this.
        config.connectTimeoutS = 1
        config.readTimeoutS = 2
        config.writeTimeoutS = 2
        session = MySQLSession(address, config) { (connection) throws(MySQLError) in
            try Migrations.apply(RelationalSchema.family, RelationalSchema.steps, on: connection)
            try Migrations.apply(TokenSchema.family, TokenSchema.steps, on: connection)
        }
    }

    public func epochs(_ users: [UserKey]) throws(Failure) -> [UInt64] {
        let keys = users.map { UserPlan.Key(app: $0.appID, user: $0.userID) }
        let now = clock()
        var wanted: Set<UserPlan.Key> = []
        for key in keys {
            guard let known = cache[key], now - known.readMicros < Self.freshMicros else {
                wanted.insert(key)
                continue
            }
        }
        if !wanted.isEmpty {
            let found = try read(wanted.sorted())
            for key in wanted { cache[key] = Known(epoch: found[key] ?? 0, readMicros: now) }
            // More users than the cache holds.
            return keys.map { found[$0] ?? cache[$0]?.epoch ?? 0 }
        }
        return keys.map { cache[$0]?.epoch ?? 0 }
    }

    /// The users' own rows count too: revoking begins there, and presence may have had its epochs elsewhere before.
    private func read(_ keys: [UserPlan.Key]) throws(Failure) -> [UserPlan.Key: UInt64] {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                var found: [UserPlan.Key: UInt64] = [:]
                for (select, columns) in [
                    ("SELECT app, user, epoch FROM token_epochs WHERE", "(app, user)"),
                    ("SELECT app, id, token_epoch FROM users FORCE INDEX(by_id) WHERE", "(app, id)"),
                ] {
                    try MySQLRecentStore.listed(
                        keys, columns, 2, connection,
                        {
                            $1.add($0.app)
                            $1.add($0.user)
                        }, select
                    ) { row in
                        let key = UserPlan.Key(app: row.text(0), user: row.text(1))
                        found[key] = max(found[key] ?? 0, row.uint(2))
                    }
                }
                return found
            }
        } catch { throw error.failure }
    }

    public func known(_ users: [UserKey]) -> [UInt64] {
        users.map { cache[UserPlan.Key(app: $0.appID, user: $0.userID)]?.epoch ?? 0 }
    }

    public func raise(_ items: [RevokeItem]) throws(Failure) {
        guard !items.isEmpty else { return }
        // In one order, so that processes wait for each other and never in a circle.
        let sorted = items.sorted { ($0.appID, $0.userID, $0.tokenEpoch) < ($1.appID, $1.userID, $1.tokenEpoch) }
        let end = session.transaction { (connection) throws(MySQLError) in
            for item in sorted {
                var values = MySQLValues()
                values.add(item.appID)
                values.add(item.userID)
                values.add(item.tokenEpoch)
                try connection.execute(
                    "INSERT INTO token_epochs(app, user, epoch) VALUES(?, ?, ?) "
                        + "ON DUPLICATE KEY UPDATE epoch = greatest(epoch, VALUES(epoch))", values)
            }
        }
        for item in items { cache[UserPlan.Key(app: item.appID, user: item.userID)] = nil }
        switch end {
        case .committed: return
        case .undone(let error): throw error.failure
        // Raising twice is the same as once: whoever asked does it again.
        case .unknown(_, let error): throw error.failure
        }
    }
}

/// The table of the token epochs: a family of its own, as only presence needs it.
enum TokenSchema {
    static let family = "tokens"
    static let steps = [
        MigrationStep(statements: [
            """
            CREATE TABLE IF NOT EXISTS token_epochs(
                app VARBINARY(64) NOT NULL, user VARBINARY(255) NOT NULL, epoch BIGINT UNSIGNED NOT NULL,
                PRIMARY KEY(app, user)) ENGINE=InnoDB
            """
        ])
    ]
}
