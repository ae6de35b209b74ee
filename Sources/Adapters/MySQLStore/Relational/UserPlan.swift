import Ports
import Wire

/// What a transaction of the relational store makes of what it has read and locked. Pure.
struct UserPlan {
    struct Key: Hashable, Comparable {
        let app: String
        let user: String

        // By bytes, as the index has them: everybody locks users in this order.
        static func < (one: Key, other: Key) -> Bool {
            one.app == other.app
                ? one.user.utf8.lexicographicallyPrecedes(other.user.utf8)
                : one.app.utf8.lexicographicallyPrecedes(other.app.utf8)
        }
    }

    struct EntryKey: Hashable {
        let user: Key
        let conversation: String
    }

    struct User: Equatable {
        var no: UInt64
        var version: UInt64 = 0
        var tokenEpoch: UInt64 = 0
        var profile = Profile()
    }

    var users: [Key: User] = [:]
    var entries: [EntryKey: IndexRow] = [:]
    /// In the order in which they were first touched.
    private(set) var changedUsers: [Key] = []
    private(set) var changedEntries: [EntryKey] = []
    private var touchedUsers: Set<Key> = []
    private var touchedEntries: Set<EntryKey> = []

    static func key(_ item: IndexChange) -> Key { Key(app: item.appID, user: item.userID) }
    static func key(_ user: UserPut) -> Key { Key(app: user.appID, user: user.profile.userID) }

    /// Everybody whom the batch may change, in the order of the locks.
    static func everybody(_ batch: UserBatch) -> [Key] {
        Set(batch.users.map { key($0) } + batch.changes.map { key($0) }).sorted()
    }

    /// Those who are made when they are not there.
    static func needed(_ batch: UserBatch) -> Set<Key> {
        Set(batch.users.map { key($0) } + batch.changes.filter(\.create).map { key($0) })
    }

    mutating func put(_ item: UserPut) {
        let key = Self.key(item)
        guard var user = users[key] else { return }
        if let profile = item.profile(over: user.profile) { user.profile = profile }
        user.profile.exists = true
        user.tokenEpoch = max(user.tokenEpoch, item.tokenEpoch)
        guard user != users[key] else { return }
        touch(key, user)
    }

    /// The entry after the change; version 0 when there is none and none was to be made.
    mutating func save(_ item: IndexChange) -> IndexRow {
        let key = Self.key(item)
        let place = EntryKey(user: key, conversation: item.change.conversation)
        let old = entries[place]
        guard old != nil || item.create, var user = users[key] else { return IndexRow() }
        var row = old ?? IndexRow()
        row.merge(item)
        if row == old { return row }
        user.version += 1
        row.version = user.version
        touch(key, user)
        entries[place] = row
        if touchedEntries.insert(place).inserted { changedEntries.append(place) }
        return row
    }

    private mutating func touch(_ key: Key, _ user: User) {
        users[key] = user
        if touchedUsers.insert(key).inserted { changedUsers.append(key) }
    }
}
