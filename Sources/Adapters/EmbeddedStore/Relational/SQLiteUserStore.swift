import Foundation
import Ports
import Wire

/// Apps, users and the user index in one SQLite file, synchronous=FULL: every write is durable when it is answered.
///
/// Isolation: the lane of its machine.
public final class SQLiteUserStore: UserStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.
    private static let cacheBytes = 32 << 20

    let database: SQLiteDatabase
    let statements: UserStatements

    /// Opens or makes the store.
    ///
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
        try database.migrate(UserSchema.steps, path: path)
        do throws(SQLiteError) { statements = try UserStatements(database) } catch { throw error.opening(path) }
    }

    public func apps(_ ids: [String]) throws(Failure) -> [App] {
        do throws(SQLiteError) {
            var apps: [App] = []
            if ids.isEmpty {
                statements.appList.bind(1, Int64(UserLimits.listedApps))
                while try statements.appList.step() { apps.append(Self.app(statements.appList)) }
            } else {
                for id in ids { apps.append(try app(id)) }
            }
            for index in apps.indices where apps[index].exists { apps[index].keys = try keys(apps[index].appID) }
            return apps
        } catch { throw error.failure }
    }

    func app(_ id: String) throws(SQLiteError) -> App {
        let get = statements.appGet
        get.bind(1, id)
        defer { get.reset() }
        if try get.step() { return Self.app(get) }
        var absent = App()
        absent.appID = id
        return absent
    }

    private static func app(_ statement: Statement) -> App {
        var app = App()
        app.appID = statement.text(0)
        app.name = statement.text(1)
        app.suspended = statement.bool(2)
        app.multiSession = statement.bool(3)
        app.version = statement.uint(4)
        app.exists = true
        return app
    }

    private func keys(_ app: String) throws(SQLiteError) -> [AppKey] {
        let get = statements.keyGet
        get.bind(1, app)
        var keys: [AppKey] = []
        while try get.step() {
            var key = AppKey()
            key.keyID = get.text(0)
            key.secret = get.blob(1)
            key.retired = get.bool(2)
            keys.append(key)
        }
        return keys
    }

    public func users(_ users: [UserKey]) throws(Failure) -> [UserRow] {
        do throws(SQLiteError) {
            var rows: [UserRow] = []
            for key in users {
                var row = UserRow()
                row.appID = key.appID
                row.profile.userID = key.userID
                let get = statements.userGet
                get.bind(1, key.appID)
                get.bind(2, key.userID)
                if try get.step() {
                    row.version = get.uint(1)
                    row.tokenEpoch = get.uint(2)
                    row.profile.exists = get.bool(3)
                    row.profile.nickname = get.text(4)
                    row.profile.avatarURL = get.text(5)
                    row.profile.custom = get.blob(6)
                    get.reset()
                }
                rows.append(row)
            }
            return rows
        } catch { throw error.failure }
    }

    public func index(_ queries: [IndexQuery]) throws(Failure) -> [IndexPage] {
        do throws(SQLiteError) {
            var pages: [IndexPage] = []
            for query in queries { pages.append(try page(query)) }
            return pages
        } catch { throw error.failure }
    }

    private func page(_ query: IndexQuery) throws(SQLiteError) -> IndexPage {
        var page = IndexPage()
        guard let owner = try owner(query.appID, query.userID) else { return page }
        page.version = owner.version
        if !query.conversation.isEmpty {
            if let row = try entry(owner.no, query.conversation) { page.rows = [row] }
            return page
        }
        guard query.sinceVersion < owner.version else { return page }
        let wanted = query.limit == 0 ? UserLimits.indexPageDefault : Int(query.limit)
        let limit = min(wanted, UserLimits.indexPageRows)
        let get = statements.entryPage
        get.bind(1, owner.no)
        get.bind(2, query.after)
        get.bind(3, query.sinceVersion)
        get.bind(4, Int64(limit + 1))
        while try get.step() {
            if page.rows.count == limit {
                page.more = true
                get.reset()
                break
            }
            page.rows.append(Self.row(get))
        }
        return page
    }

    /// The number and the index version of a user; nil when nothing is known of it.
    func owner(_ app: String, _ user: String) throws(SQLiteError) -> (no: Int64, version: UInt64)? {
        let get = statements.userGet
        get.bind(1, app)
        get.bind(2, user)
        guard try get.step() else { return nil }
        defer { get.reset() }
        return (get.int(0), get.uint(1))
    }

    func entry(_ owner: Int64, _ conversation: String) throws(SQLiteError) -> IndexRow? {
        let get = statements.entryGet
        get.bind(1, owner)
        get.bind(2, conversation)
        guard try get.step() else { return nil }
        defer { get.reset() }
        return Self.row(get)
    }

    private static func row(_ statement: Statement) -> IndexRow {
        var row = IndexRow()
        row.conversation = statement.text(0)
        row.version = statement.uint(1)
        row.joinedSeq = statement.uint(2)
        row.leftSeq = statement.uint(3)
        row.clearedSeq = statement.uint(4)
        row.readSeq = statement.uint(5)
        row.deliveredSeq = statement.uint(6)
        row.pinned = statement.bool(7)
        row.muted = statement.bool(8)
        row.draft = statement.text(9)
        row.peer = statement.text(10)
        return row
    }
}
