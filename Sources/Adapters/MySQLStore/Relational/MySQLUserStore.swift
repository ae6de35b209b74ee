import Foundation
import Ports
import RPC
import Wire

/// Apps, users and the user index in a database. A batch is one transaction; users are locked in one order, so that
/// batches wait for each other and never in a circle. Several of these, in any number of processes, may use one
/// database.
///
/// Isolation: one thread's; calls block.
public final class MySQLUserStore: UserStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it.
    let session: MySQLSession

    /// A store of one database; connects when it is first asked, and makes or checks the tables then.
    public init(_ address: MySQLAddress, _ config: MySQLConfig) {
        session = MySQLSession(address, config) { (connection) throws(MySQLError) in
            try Migrations.apply(RelationalSchema.family, RelationalSchema.steps, on: connection)
        }
    }

    /// Connects, and makes or brings up to date the tables.
    ///
    /// - Throws: one sentence: no way in, no such database, written by a newer version.
    public func open() throws(StoreOpenError) {
        do throws(MySQLError) { _ = try session.connected() } catch { throw error.opening(session.address) }
    }

    // MARK: reading

    public func apps(_ ids: [String]) throws(Failure) -> [App] {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in try Self.apps(ids, connection) }
        } catch { throw error.failure }
    }

    private static func apps(_ ids: [String], _ connection: MySQLConnection) throws(MySQLError) -> [App] {
        let columns = "SELECT id, name, suspended, multi_session, version FROM apps"
        var found: [App] = []
        func take(_ row: borrowing MySQLRow) {
            var app = App()
            app.appID = row.text(0)
            app.name = row.text(1)
            app.suspended = row.bool(2)
            app.multiSession = row.bool(3)
            app.version = row.uint(4)
            app.exists = true
            found.append(app)
        }
        if ids.isEmpty {
            let limit = MySQLValues(UInt64(UserLimits.listedApps))
            try connection.query("\(columns) ORDER BY id LIMIT ?", limit) { take($0) }
        } else {
            try MySQLRecentStore.listed(ids, "id", 1, connection, { $1.add($0) }, "\(columns) WHERE") { take($0) }
        }
        var keys: [String: [AppKey]] = [:]
        let names = Set(found.map(\.appID)).sorted()
        try MySQLRecentStore.listed(
            names, "app", 1, connection, { $1.add($0) }, "SELECT app, id, secret, retired FROM app_keys WHERE",
            suffix: " ORDER BY app, place"
        ) { row in
            var key = AppKey()
            key.keyID = row.text(1)
            key.secret = row.data(2)
            key.retired = row.bool(3)
            keys[row.text(0), default: []].append(key)
        }
        for index in found.indices { found[index].keys = keys[found[index].appID] ?? [] }
        if ids.isEmpty { return found }
        let byID = Dictionary(found.map { ($0.appID, $0) }) { one, _ in one }
        return ids.map { id in
            if let app = byID[id] { return app }
            var absent = App()
            absent.appID = id
            return absent
        }
    }

    public func users(_ users: [UserKey]) throws(Failure) -> [UserRow] {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                let keys = Set(users.map { UserPlan.Key(app: $0.appID, user: $0.userID) }).sorted()
                let found = try Self.users(keys, connection)
                return users.map { key in
                    var row = UserRow()
                    row.appID = key.appID
                    if let user = found[UserPlan.Key(app: key.appID, user: key.userID)] {
                        row.version = user.version
                        row.tokenEpoch = user.tokenEpoch
                        row.profile = user.profile
                    }
                    row.profile.userID = key.userID
                    return row
                }
            }
        } catch { throw error.failure }
    }

    /// - Parameter suffix: " FOR UPDATE" to lock them, in the order of the keys.
    static func users(
        _ keys: [UserPlan.Key], _ connection: MySQLConnection, suffix: String = ""
    ) throws(MySQLError) -> [UserPlan.Key: UserPlan.User] {
        var found: [UserPlan.Key: UserPlan.User] = [:]
        try MySQLRecentStore.listed(
            keys, "(app, id)", 2, connection,
            {
                $1.add($0.app)
                $1.add($0.user)
            },
            """
            SELECT app, id, no, version, token_epoch, present, nickname, avatar, custom
            FROM users FORCE INDEX(by_id) WHERE
            """,
            suffix: suffix
        ) { row in
            var user = UserPlan.User(no: row.uint(2))
            user.version = row.uint(3)
            user.tokenEpoch = row.uint(4)
            user.profile.exists = row.bool(5)
            user.profile.nickname = row.text(6)
            user.profile.avatarURL = row.text(7)
            user.profile.custom = row.data(8)
            found[UserPlan.Key(app: row.text(0), user: row.text(1))] = user
        }
        return found
    }

    public func index(_ queries: [IndexQuery]) throws(Failure) -> [IndexPage] {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                let keys = Set(queries.map { UserPlan.Key(app: $0.appID, user: $0.userID) }).sorted()
                // Versions first: what changes in between is newer than the version, and comes again.
                let users = try Self.users(keys, connection)
                var pages: [IndexPage] = []
                for query in queries {
                    let user = users[UserPlan.Key(app: query.appID, user: query.userID)]
                    pages.append(try Self.page(query, user, connection))
                }
                return pages
            }
        } catch { throw error.failure }
    }

    static let entryColumns = """
        conversation, version, joined, left_seq, cleared, read_seq, delivered, pinned, muted, draft, peer
        """

    private static func page(
        _ query: IndexQuery, _ user: UserPlan.User?, _ connection: MySQLConnection
    ) throws(MySQLError) -> IndexPage {
        var page = IndexPage()
        guard let user else { return page }
        page.version = user.version
        var rows: [IndexRow] = []
        let select = "SELECT \(entryColumns) FROM entries WHERE user = ?"
        var values = MySQLValues(user.no)
        if !query.conversation.isEmpty {
            values.add(query.conversation)
            try connection.query("\(select) AND conversation = ?", values) { rows.append(Self.entry($0)) }
            page.rows = rows
            return page
        }
        guard query.sinceVersion < user.version else { return page }
        let wanted = query.limit == 0 ? UserLimits.indexPageDefault : Int(query.limit)
        let limit = min(wanted, UserLimits.indexPageRows)
        values.add(query.after)
        values.add(query.sinceVersion)
        values.add(UInt64(limit + 1))
        try connection.query(
            "\(select) AND conversation > ? AND version > ? ORDER BY conversation LIMIT ?", values
        ) { rows.append(Self.entry($0)) }
        page.more = rows.count > limit
        page.rows = Array(rows.prefix(limit))
        return page
    }

    static func entry(_ row: borrowing MySQLRow, from column: Int = 0) -> IndexRow {
        var entry = IndexRow()
        entry.conversation = row.text(column)
        entry.version = row.uint(column + 1)
        entry.joinedSeq = row.uint(column + 2)
        entry.leftSeq = row.uint(column + 3)
        entry.clearedSeq = row.uint(column + 4)
        entry.readSeq = row.uint(column + 5)
        entry.deliveredSeq = row.uint(column + 6)
        entry.pinned = row.bool(column + 7)
        entry.muted = row.bool(column + 8)
        entry.draft = row.text(column + 9)
        entry.peer = row.text(column + 10)
        return entry
    }
}
