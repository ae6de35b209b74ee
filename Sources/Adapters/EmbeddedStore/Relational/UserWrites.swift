import Foundation
import Ports
import Wire

extension SQLiteUserStore {
    public func apply(_ batch: UserBatch) throws(Failure) -> UserBatchResult {
        do throws(SQLiteError) {
            return try database.transaction(
                { () throws(SQLiteError) in
                    for app in batch.apps { try put(app) }
                    var written: [Bool] = []
                    for app in batch.comparedApps {
                        let same = try self.app(app.appID).version == app.version
                        if same { try put(app) }
                        written.append(same)
                    }
                    for user in batch.users { try put(user) }
                    var rows: [IndexRow] = []
                    rows.reserveCapacity(batch.changes.count)
                    for change in batch.changes { rows.append(try save(change)) }
                    return UserBatchResult(rows: rows, writtenApps: written)
                }, failed: { $0 })
        } catch { throw error.failure }
    }

    private func put(_ app: App) throws(SQLiteError) {
        statements.appPut.bind(1, app.appID)
        statements.appPut.bind(2, app.name)
        statements.appPut.bind(3, app.suspended)
        statements.appPut.bind(4, app.multiSession)
        try statements.appPut.run()
        statements.keyDrop.bind(1, app.appID)
        try statements.keyDrop.run()
        for (place, key) in app.keys.enumerated() {
            statements.keyPut.bind(1, app.appID)
            statements.keyPut.bind(2, Int64(place))
            statements.keyPut.bind(3, key.keyID)
            statements.keyPut.bind(4, key.retired)
            try SQLiteRecentStore.runWith(key.secret, statements.keyPut, 5)
        }
    }

    /// The number of a user, which is made when there is none yet.
    private func number(_ app: String, _ user: String) throws(SQLiteError) -> (no: Int64, version: UInt64) {
        if let known = try owner(app, user) { return known }
        statements.userAdd.bind(1, app)
        statements.userAdd.bind(2, user)
        try statements.userAdd.run()
        return (database.lastRow, 0)
    }

    private func put(_ user: UserPut) throws(SQLiteError) {
        let number = try number(user.appID, user.profile.userID).no
        if let profile = user.profile(over: user.hasPatch ? try stored(number) : Profile()) {
            statements.profilePut.bind(1, number)
            statements.profilePut.bind(2, profile.nickname)
            statements.profilePut.bind(3, profile.avatarURL)
            try SQLiteRecentStore.runWith(profile.custom, statements.profilePut, 4)
        }
        statements.epochPut.bind(1, number)
        statements.epochPut.bind(2, user.tokenEpoch)
        try statements.epochPut.run()
    }

    private func stored(_ number: Int64) throws(SQLiteError) -> Profile {
        var profile = Profile()
        let get = statements.profileGet
        get.bind(1, number)
        if try get.step() {
            profile.nickname = get.text(0)
            profile.avatarURL = get.text(1)
            profile.custom = get.blob(2)
            get.reset()
        }
        return profile
    }

    /// The entry after the change; version 0 when there is none and none was to be made.
    private func save(_ item: IndexChange) throws(SQLiteError) -> IndexRow {
        let change = item.change
        let known = try owner(item.appID, item.userID)
        var old: IndexRow?
        if let known { old = try entry(known.no, change.conversation) }
        guard old != nil || item.create else { return IndexRow() }
        var row = old ?? IndexRow()
        row.merge(item)
        if row == old { return row }
        var owner = (no: Int64(0), version: UInt64(0))
        if let known { owner = known } else { owner = try number(item.appID, item.userID) }
        row.version = owner.version + 1
        statements.versionPut.bind(1, owner.no)
        statements.versionPut.bind(2, row.version)
        try statements.versionPut.run()
        try write(row, owner.no)
        return row
    }

    private func write(_ row: IndexRow, _ owner: Int64) throws(SQLiteError) {
        let put = statements.entryPut
        put.bind(1, owner)
        put.bind(2, row.conversation)
        put.bind(3, row.version)
        put.bind(4, row.joinedSeq)
        put.bind(5, row.leftSeq)
        put.bind(6, row.clearedSeq)
        put.bind(7, row.readSeq)
        put.bind(8, row.deliveredSeq)
        put.bind(9, row.pinned)
        put.bind(10, row.muted)
        put.bind(11, row.draft)
        put.bind(12, row.peer)
        try put.run()
    }
}
