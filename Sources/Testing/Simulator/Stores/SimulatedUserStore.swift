import Foundation
import Ports
import Wire

/// Apps, users and the user index as dictionaries; all of it survives a crash.
///
/// Isolation: none; a simulation has one thread.
public final class SimulatedUserStore: UserStore, @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    private struct Who: Hashable {
        let app: String
        let user: String
    }

    private struct Account {
        var row = UserRow()
        var index: [String: IndexRow] = [:]
    }

    private let trouble: StoreTrouble
    private var apps: [String: App] = [:]
    private var accounts: [Who: Account] = [:]

    public init(trouble: StoreTrouble = StoreTrouble()) { self.trouble = trouble }

    /// An index entry; nil when there is none.
    public func entry(_ app: String, _ user: String, _ conversation: String) -> IndexRow? {
        accounts[Who(app: app, user: user)]?.index[conversation]
    }

    public func apps(_ ids: [String]) throws(Failure) -> [App] {
        try trouble.strike()
        return (ids.isEmpty ? apps.keys.sorted() : ids).map { id in
            if let app = apps[id] { return app }
            var absent = App()
            absent.appID = id
            return absent
        }
    }

    public func apply(_ batch: UserBatch) throws(Failure) -> UserBatchResult {
        try trouble.strike()
        for app in batch.apps { put(app) }
        let written = batch.comparedApps.map { app in
            let same = (apps[app.appID]?.version ?? 0) == app.version
            if same { put(app) }
            return same
        }
        for user in batch.users { put(user) }
        return UserBatchResult(rows: batch.changes.map(save), writtenApps: written)
    }

    private func put(_ app: App) {
        var stored = app
        stored.exists = true
        stored.version = (apps[app.appID]?.version ?? 0) + 1
        apps[app.appID] = stored
    }

    private func put(_ user: UserPut) {
        let who = Who(app: user.appID, user: user.profile.userID)
        var account = accounts[who] ?? Account()
        var profile = user.profile
        if user.hasPatch {
            profile = account.row.profile
            profile.userID = user.profile.userID
            profile.apply(user.patch)
        }
        if profile.exists || !profile.nickname.isEmpty || !profile.avatarURL.isEmpty || !profile.custom.isEmpty {
            account.row.profile = profile
            account.row.profile.exists = true
        }
        account.row.tokenEpoch = max(account.row.tokenEpoch, user.tokenEpoch)
        accounts[who] = account
    }

    private func save(_ item: IndexChange) -> IndexRow {
        let who = Who(app: item.appID, user: item.userID)
        let old = accounts[who]?.index[item.change.conversation]
        guard old != nil || item.create else { return IndexRow() }
        let change = item.change
        var row = old ?? IndexRow()
        row.conversation = change.conversation
        row.joinedSeq = max(row.joinedSeq, item.joinedSeq)
        row.readSeq = max(row.readSeq, change.readSeq)
        row.clearedSeq = max(row.clearedSeq, change.clearedSeq)
        row.deliveredSeq = max(row.deliveredSeq, change.deliveredSeq)
        if change.hasPinned { row.pinned = change.pinned }
        if change.hasMuted { row.muted = change.muted }
        if change.hasDraft { row.draft = change.draft }
        if row.peer.isEmpty { row.peer = item.peer }
        if row == old { return row }
        var account = accounts[who] ?? Account()
        account.row.version += 1
        row.version = account.row.version
        account.index[change.conversation] = row
        accounts[who] = account
        return row
    }

    public func users(_ users: [UserKey]) throws(Failure) -> [UserRow] {
        try trouble.strike()
        return users.map { user in
            var row = accounts[Who(app: user.appID, user: user.userID)]?.row ?? UserRow()
            row.appID = user.appID
            row.profile.userID = user.userID
            return row
        }
    }

    public func index(_ queries: [IndexQuery]) throws(Failure) -> [IndexPage] {
        try trouble.strike()
        return queries.map(page)
    }

    private func page(_ query: IndexQuery) -> IndexPage {
        var page = IndexPage()
        guard let account = accounts[Who(app: query.appID, user: query.userID)] else { return page }
        page.version = account.row.version
        if !query.conversation.isEmpty {
            if let row = account.index[query.conversation] { page.rows = [row] }
            return page
        }
        let limit = min(
            query.limit == 0 ? UserLimits.indexPageDefault : Int(query.limit), UserLimits.indexPageRows)
        let wanted = account.index.values.filter {
            $0.version > query.sinceVersion && Self.isBehind($0.conversation, query.after)
        }
        let sorted = wanted.sorted { Self.isBehind($1.conversation, $0.conversation) }
        page.rows = Array(sorted.prefix(limit))
        page.more = sorted.count > limit
        return page
    }

    /// Byte order, as databases compare.
    private static func isBehind(_ name: String, _ other: String) -> Bool {
        other.utf8.lexicographicallyPrecedes(name.utf8)
    }
}
