import Ports
import Wire

/// What every presence store promises. A fresh, empty store per case, begun by the case itself.
public enum PresenceStoreContract {
    public typealias Case = ContractCase<any PresenceStore>

    public static let cases: [Case] = [
        Case("epochs grow, and over restarts", epochs),
        Case("the same platform is displaced, others stay", displaced),
        Case("the same session again keeps its epoch", again),
        Case("a late goodbye does not remove a newer registration", lateGoodbye),
        Case("a silent Login's sessions are gone after its lease", leases),
        Case("a Login is known when all it counts is there", known),
        Case("nobody is called offline in the first lease period", unknownFirst),
        Case("revoked tokens are refused, epochs only grow", revoked),
        Case("who keeps others displaces nobody", keepsOthers),
        Case("a session that comes back late does not displace a newer one", lateReturn),
    ]

    static let wall: UInt64 = 1_760_000_000_000
    static let lateMicros: UInt64 = 60_000_000

    public static func registration(
        _ user: String, _ session: String, platform: String = "web", login: String = "login-1", epoch: UInt64 = 0,
        token: UInt64 = 0
    ) -> Registration {
        var item = Registration()
        item.appID = "demo"
        item.userID = user
        item.deviceID = "device-\(session)"
        item.platform = platform
        item.sessionID = session
        item.loginID = login
        item.epoch = epoch
        item.tokenEpoch = token
        return item
    }

    static func key(_ user: String) -> UserKey {
        var key = UserKey()
        key.appID = "demo"
        key.userID = user
        return key
    }

    private static func lookup(_ store: any PresenceStore, _ user: String, _ micros: UInt64) throws -> LookupResult {
        try some(try store.lookup([key(user)], micros: micros).first, "a result")
    }

    private static func register(
        _ store: any PresenceStore, _ item: Registration, _ micros: UInt64 = 0
    ) throws -> RegisterResult {
        try some(store.register([item], micros: micros).first, "a result")
    }

    private static func lease(_ login: String, _ sessions: UInt64) -> LeaseRequest {
        var lease = LeaseRequest()
        lease.loginID = login
        lease.leaseMs = 6000
        lease.sessions = sessions
        return lease
    }

    private static func epochs(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let results = store.register([registration("a", "1"), registration("b", "2")], micros: 0)
        try holds(results[0].epoch > 0 && results[1].epoch > results[0].epoch, "epochs grow")
        store.begin(micros: 0, wallMS: wall + 1000)
        try holds(try register(store, registration("c", "3")).epoch > results[1].epoch, "and after a restart")
    }

    private static func displaced(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let first = try register(store, registration("a", "1"))
        try same(try register(store, registration("a", "2", platform: "ios")).displaced.count, 0, "another platform")
        try same(try register(store, registration("b", "3")).displaced.count, 0, "another user")
        let second = try register(store, registration("a", "4", login: "login-2"))
        try same(second.displaced.map(\.sessionID), ["1"], "the same platform")
        try same(second.displaced.map(\.epoch), [first.epoch], "with its epoch")
        let found = try lookup(store, "a", 0)
        try same(Set(found.registrations.map(\.sessionID)), ["2", "4"], "who is left")
        try same(found.state, .presenceOnline, "state")
    }

    private static func again(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let first = try register(store, registration("a", "1"))
        let second = try register(store, registration("a", "1"))
        try same(second.epoch, first.epoch, "epoch")
        try same(second.displaced.count, 0, "displaced")
        try same(try lookup(store, "a", 0).registrations.count, 1, "registrations")
    }

    private static func lateGoodbye(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let first = try register(store, registration("a", "1"))
        store.unregister([registration("a", "1", epoch: first.epoch)], micros: 0)
        let second = try register(store, registration("a", "1"))
        store.unregister([registration("a", "1", epoch: first.epoch)], micros: 0)
        try same(try lookup(store, "a", 0).registrations.map(\.epoch), [second.epoch], "the newer registration")
        store.unregister([registration("a", "1", epoch: second.epoch)], micros: 0)
        try same(try lookup(store, "a", lateMicros).state, .presenceOffline, "after the right goodbye")
        store.unregister([registration("nobody", "9", epoch: 5)], micros: 0)
    }

    private static func leases(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        _ = try register(store, registration("a", "1"), lateMicros)
        _ = try register(store, registration("b", "2", login: "login-2"), lateMicros)
        _ = store.lease(lease("login-1", 1), micros: lateMicros + 3_000_000)
        let when = lateMicros + 7_000_000
        store.expire(micros: when)
        try same(try lookup(store, "a", when).state, .presenceOnline, "renewed")
        try same(try lookup(store, "b", when).state, .presenceOffline, "silent")
        try same(store.lease(lease("login-2", 1), micros: when).known, false, "the silent one must register again")
    }

    private static func known(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        try same(store.lease(lease("login-1", 2), micros: 0).known, false, "nothing is here")
        _ = try register(store, registration("a", "1"))
        try same(store.lease(lease("login-1", 2), micros: 1).known, false, "one of two")
        _ = try register(store, registration("b", "2"))
        try same(store.lease(lease("login-1", 2), micros: 2).known, true, "both")
        try same(
            store.lease(lease("login-1", 5), micros: 3).known, true, "once known, registrations may be on their way")
    }

    private static func unknownFirst(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        _ = try register(store, registration("a", "1"))
        try same(try lookup(store, "a", 1_000_000).state, .presenceOnline, "registered")
        try same(try lookup(store, "b", 1_000_000).state, .presenceUnknown, "not registered yet")
        try same(try lookup(store, "b", lateMicros).state, .presenceOffline, "later")
    }

    private static func revoked(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        var item = RevokeItem()
        item.appID = "demo"
        item.userID = "a"
        item.tokenEpoch = 5
        _ = try register(store, registration("a", "0", platform: "ios", token: 4))
        try store.revoke([item])
        let old = try register(store, registration("a", "1", token: 4))
        try holds(old.failure.isCode(.tokenRevoked), "an old token: \(old.failure.reason)")
        try holds(try !register(store, registration("a", "2", token: 5)).hasFailure, "a new token")
        item.tokenEpoch = 3
        try store.revoke([item])
        let found = try lookup(store, "a", 0)
        try same(found.tokenEpoch, 5, "epochs never go back")
        try same(Set(found.registrations.map(\.tokenEpoch)), [4, 5], "whom to kick")
        try same(try lookup(store, "b", 0).tokenEpoch, 0, "another user")
    }

    private static func keepsOthers(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        _ = try register(store, registration("a", "1"))
        var second = registration("a", "2")
        second.keepOthers = true
        try same(try register(store, second).displaced.count, 0, "displaced")
        try same(try lookup(store, "a", 0).registrations.map(\.sessionID), ["1", "2"], "both are there")
    }

    private static func lateReturn(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let old = wall << 16 - 10
        _ = try register(store, registration("a", "newer", epoch: old + 5))
        let late = try register(store, registration("a", "older", epoch: old))
        try holds(late.failure.isCode(.displaced), "the older session: \(late.failure.reason)")
        let newest = try register(store, registration("a", "newest"))
        try same(newest.displaced.map(\.sessionID), ["newer"], "a new login wins")
    }
}
