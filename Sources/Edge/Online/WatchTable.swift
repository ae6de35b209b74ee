import Wire

/// A user as a key: protobuf messages hash slowly.
struct Who: Hashable, Sendable, Comparable {
    let app: String
    let user: String

    init(app: String, user: String) {
        self.app = app
        self.user = user
    }

    init(_ key: UserKey) { self.init(app: key.appID, user: key.userID) }

    var key: UserKey {
        var key = UserKey()
        key.appID = app
        key.userID = user
        return key
    }

    static func < (one: Who, other: Who) -> Bool { (one.app, one.user) < (other.app, other.user) }
}

/// Presence subscriptions that were made at this Online, by session.
struct WatchTable: Sendable {
    private struct Watch: Sendable {
        let watcher: Who
        let users: [Who]
    }

    private struct Watched: Sendable {
        /// What the watchers were told last; unknown until the first answer.
        var state = PresenceState.presenceUnknown
        var sessions: Set<String> = []
    }

    /// Session ids are unique across apps: a Login makes them.
    private var watches: [String: Watch] = [:]
    private var watched: [Who: Watched] = [:]
    private var sessionsOf: [Who: Set<String>] = [:]
    private(set) var pairs = 0
    private var ring: [Who] = []

    var isEmpty: Bool { watches.isEmpty }

    /// Replaces the session's list; an empty one ends the subscription.
    mutating func watch(session: String, watcher: Who, users: [Who]) {
        end(session: session)
        guard !users.isEmpty else { return }
        watches[session] = Watch(watcher: watcher, users: users)
        sessionsOf[watcher, default: []].insert(session)
        pairs += users.count
        for user in users { watched[user, default: Watched()].sessions.insert(session) }
    }

    func size(session: String) -> Int { watches[session]?.users.count ?? 0 }

    mutating func end(session: String) {
        guard let watch = watches.removeValue(forKey: session) else { return }
        pairs -= watch.users.count
        for user in watch.users {
            watched[user]?.sessions.remove(session)
            if watched[user]?.sessions.isEmpty == true { watched[user] = nil }
        }
        sessionsOf[watch.watcher]?.remove(session)
        if sessionsOf[watch.watcher]?.isEmpty == true { sessionsOf[watch.watcher] = nil }
    }

    /// Whether a change of this user matters here: somebody watches them, or they watch somebody.
    func concerns(_ who: Who) -> Bool { watched[who] != nil || sessionsOf[who] != nil }

    /// Takes a fresh look-up: ends the subscriptions of sessions that are gone, and returns the watchers to be told
    /// when the user's state changed. A store that cannot tell changes nothing.
    mutating func saw(_ who: Who, _ found: LookupResult) -> [Who] {
        guard found.state != .presenceUnknown else { return [] }
        if let sessions = sessionsOf[who] {
            let live = Set(found.registrations.map(\.sessionID))
            for session in sessions where !live.contains(session) { end(session: session) }
        }
        guard let entry = watched[who], entry.state != found.state else { return [] }
        watched[who]?.state = found.state
        // The first answer is what the subscriber was told by the call itself.
        guard entry.state != .presenceUnknown else { return [] }
        return Set(entry.sessions.compactMap { watches[$0]?.watcher }).sorted()
    }

    /// The next users to look at, in a fixed order: watched ones and watchers.
    mutating func nextToPoll(_ most: Int) -> [Who] {
        guard !watches.isEmpty else {
            ring = []
            return []
        }
        if ring.isEmpty { ring = Set(watched.keys).union(sessionsOf.keys).sorted(by: >) }
        let users = ring.suffix(most).reversed().filter { concerns($0) }
        ring.removeLast(min(most, ring.count))
        return users
    }
}
