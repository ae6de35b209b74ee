import Foundation
import Ports
import Wire

extension MySQLUserStore {
    /// A batch is tried again after a lost answer: users and entries are merged, and merging twice is merging once.
    /// Apps are not, so each write of one leaves a ticket, by which its own transaction is known again.
    public func apply(_ batch: UserBatch) throws(Failure) -> UserBatchResult {
        var batch = batch
        let ticket = UInt64.random(in: 1 ... .max)
        var written: [Bool]?
        var lost: MySQLError?
        for attempt in 1...max(1, session.config.attempts) {
            switch session.transaction({ (connection) throws(MySQLError) in
                try Self.apply(batch, ticket, connection)
            }) {
            case .committed(let result):
                return UserBatchResult(rows: result.rows, writtenApps: written ?? result.writtenApps)
            case .undone(let error):
                // A row that two made at the same time is found by the next attempt.
                if error.code == Self.duplicate, attempt < session.config.attempts { continue }
                // After a lost answer this does not say how the first attempt ended.
                throw lost.map(Self.unknown) ?? error.failure
            case .unknown(let result, let error):
                lost = error
                let names =
                    batch.apps.map(\.appID) + zip(batch.comparedApps, result.writtenApps).filter(\.1).map(\.0.appID)
                guard let name = names.first else { continue }
                guard let isOurs = wrote(name, ticket) else { throw Self.unknown(error) }
                guard isOurs else { continue }
                written = result.writtenApps
                batch.apps = []
                batch.comparedApps = []
            }
        }
        throw Self.unknown(lost ?? MySQLError(.lost, "the connection broke at every attempt"))
    }

    private static var duplicate: UInt32 { 1062 }

    private static func unknown(_ error: MySQLError) -> Failure {
        Failure(.outcomeUnknown, "the database did not say whether it was stored: \(error.message)")
    }

    /// Whether the app's last write carries the ticket; nil when nobody can say. Waits for a transaction that holds it.
    private func wrote(_ app: String, _ ticket: UInt64) -> Bool? {
        var values = MySQLValues()
        values.add(app)
        let seen = session.transaction { (connection) throws(MySQLError) in
            try connection.number("SELECT ticket FROM apps WHERE id = ? FOR UPDATE", values)
        }
        switch seen {
        case .committed(let found), .unknown(let found, _): return found == ticket
        case .undone: return nil
        }
    }

    private static func apply(
        _ batch: UserBatch, _ ticket: UInt64, _ connection: MySQLConnection
    ) throws(MySQLError) -> UserBatchResult {
        let written = try putApps(batch, ticket, connection)
        var plan = try load(batch, connection)
        for user in batch.users { plan.put(user) }
        let rows = batch.changes.map { plan.save($0) }
        try write(plan, connection)
        return UserBatchResult(rows: rows, writtenApps: written)
    }

    // MARK: apps

    private static func putApps(
        _ batch: UserBatch, _ ticket: UInt64, _ connection: MySQLConnection
    ) throws(MySQLError) -> [Bool] {
        let names = Set((batch.apps + batch.comparedApps).map(\.appID)).sorted()
        guard !names.isEmpty else { return [] }
        var versions: [String: UInt64] = [:]
        for name in names {
            var values = MySQLValues()
            values.add(name)
            versions[name] = try connection.number("SELECT version FROM apps WHERE id = ? FOR UPDATE", values)
        }
        func put(_ app: App) throws(MySQLError) {
            try Self.put(app, was: versions[app.appID], ticket, connection)
            versions[app.appID] = (versions[app.appID] ?? 0) + 1
        }
        for app in batch.apps { try put(app) }
        var written: [Bool] = []
        for app in batch.comparedApps {
            let same = (versions[app.appID] ?? 0) == app.version
            if same { try put(app) }
            written.append(same)
        }
        return written
    }

    private static func put(
        _ app: App, was version: UInt64?, _ ticket: UInt64, _ connection: MySQLConnection
    ) throws(MySQLError) {
        var values = MySQLValues()
        values.add(app.name)
        values.add(app.suspended)
        values.add(app.multiSession)
        values.add((version ?? 0) + 1)
        values.add(ticket)
        values.add(app.appID)
        // Made by an INSERT that fails where another made it meanwhile: nobody's is written over unseen.
        try connection.execute(
            version == nil
                ? "INSERT INTO apps(name, suspended, multi_session, version, ticket, id) VALUES(?, ?, ?, ?, ?, ?)"
                : "UPDATE apps SET name = ?, suspended = ?, multi_session = ?, version = ?, ticket = ? WHERE id = ?",
            values)
        var name = MySQLValues()
        name.add(app.appID)
        try connection.execute("DELETE FROM app_keys WHERE app = ?", name)
        let keys = Array(app.keys.enumerated())
        try MySQLRecentStore.insert(
            "INSERT INTO app_keys(app, place, id, secret, retired) VALUES ", 5, keys, connection
        ) { item, values in
            values.add(app.appID)
            values.add(UInt64(item.offset))
            values.add(item.element.keyID)
            values.add(item.element.secret)
            values.add(item.element.retired)
        }
    }

    // MARK: users and entries

    /// Locks everybody in the batch, makes those who are missing, and reads the entries that it may change.
    private static func load(_ batch: UserBatch, _ connection: MySQLConnection) throws(MySQLError) -> UserPlan {
        var plan = UserPlan()
        let everybody = UserPlan.everybody(batch)
        guard !everybody.isEmpty else { return plan }
        plan.users = try users(everybody, connection, suffix: " FOR UPDATE")
        let needed = UserPlan.needed(batch)
        let missing = everybody.filter { plan.users[$0] == nil && needed.contains($0) }
        if !missing.isEmpty {
            // Somebody else may be making the same ones: then theirs are taken.
            try MySQLRecentStore.insert(
                "INSERT INTO users(app, id, nickname, avatar, custom) VALUES ", 5, missing,
                suffix: " ON DUPLICATE KEY UPDATE no = no", connection
            ) { key, values in
                values.add(key.app)
                values.add(key.user)
                for _ in 0..<3 { values.add("") }
            }
            plan.users.merge(try users(missing, connection, suffix: " FOR UPDATE")) { $1 }
        }
        try loadEntries(batch, &plan, connection)
        return plan
    }

    private static func loadEntries(
        _ batch: UserBatch, _ plan: inout UserPlan, _ connection: MySQLConnection
    ) throws(MySQLError) {
        var keys: [UInt64: UserPlan.Key] = [:]
        var wanted: [(user: UInt64, conversation: String)] = []
        var seen: Set<UserPlan.EntryKey> = []
        for item in batch.changes {
            let key = UserPlan.key(item)
            guard let user = plan.users[key],
                seen.insert(UserPlan.EntryKey(user: key, conversation: item.change.conversation)).inserted
            else { continue }
            keys[user.no] = key
            wanted.append((user.no, item.change.conversation))
        }
        var found: [UserPlan.EntryKey: IndexRow] = [:]
        // Read after their users are locked: nobody else changes them now.
        try MySQLRecentStore.listed(
            wanted, "(user, conversation)", 2, connection,
            {
                $1.add($0.user)
                $1.add($0.conversation)
            }, "SELECT user, \(entryColumns) FROM entries WHERE"
        ) { row in
            guard let key = keys[row.uint(0)] else { return }
            let entry = entry(row, from: 1)
            found[UserPlan.EntryKey(user: key, conversation: entry.conversation)] = entry
        }
        plan.entries = found
    }

    private static func write(_ plan: UserPlan, _ connection: MySQLConnection) throws(MySQLError) {
        let users = plan.changedUsers.sorted().compactMap { key in plan.users[key].map { (key, $0) } }
        let columns = ["version", "token_epoch", "present", "nickname", "avatar", "custom"]
        try MySQLRecentStore.insert(
            "INSERT INTO users(no, app, id, \(columns.joined(separator: ", "))) VALUES ", 9, users,
            suffix: updating(columns), connection
        ) { item, values in
            values.add(item.1.no)
            values.add(item.0.app)
            values.add(item.0.user)
            values.add(item.1.version)
            values.add(item.1.tokenEpoch)
            values.add(item.1.profile.exists)
            values.add(item.1.profile.nickname)
            values.add(item.1.profile.avatarURL)
            values.add(item.1.profile.custom)
        }
        let entries = plan.changedEntries.compactMap { place in
            plan.entries[place].flatMap { row in plan.users[place.user].map { (no: $0.no, row: row) } }
        }
        let fields = [
            "version", "joined", "left_seq", "cleared", "read_seq", "delivered", "pinned", "muted", "draft", "peer",
        ]
        try MySQLRecentStore.insert(
            "INSERT INTO entries(user, conversation, \(fields.joined(separator: ", "))) VALUES ", 12, entries,
            suffix: updating(fields), connection
        ) { item, values in fill(item.no, item.row, &values) }
    }

    private static func updating(_ columns: [String]) -> String {
        " ON DUPLICATE KEY UPDATE " + columns.map { "\($0) = VALUES(\($0))" }.joined(separator: ", ")
    }

    private static func fill(_ user: UInt64, _ row: IndexRow, _ values: inout MySQLValues) {
        values.add(user)
        values.add(row.conversation)
        values.add(row.version)
        values.add(row.joinedSeq)
        values.add(row.leftSeq)
        values.add(row.clearedSeq)
        values.add(row.readSeq)
        values.add(row.deliveredSeq)
        values.add(row.pinned)
        values.add(row.muted)
        values.add(row.draft)
        values.add(row.peer)
    }
}
