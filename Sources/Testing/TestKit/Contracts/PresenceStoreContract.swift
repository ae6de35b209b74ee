import Identity
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
        Case("a lease has another life when it begins empty", lives),
        Case("a lease says what it holds", holdings),
        Case("nobody is called offline in the first lease period", unknownFirst),
        Case("revoked tokens are refused, epochs only grow", revoked),
        Case("who keeps others displaces nobody", keepsOthers),
        Case("the later login has the place, whichever registers first", order),
        Case("what was registered is what is looked up", whole),
        Case("a user has a limited number of sessions", limited),
        Case("many users over many calls, in the order asked", many),
    ]

    static let wall: UInt64 = 1_760_000_000_000
    static let lateMicros: UInt64 = 60_000_000

    public static func registration(
        _ user: String, _ session: String, platform: String = "web", login: String = "login-1", epoch: UInt64 = 0,
        token: UInt64 = 0, welcomed: UInt64 = 0
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
        item.welcomedUs = welcomed
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

    private static func lease(_ login: String, show: [Int] = []) -> LeaseRequest {
        var lease = LeaseRequest()
        lease.loginID = login
        lease.leaseMs = 6000
        lease.show = show.map(UInt32.init)
        return lease
    }

    private static func epochs(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let items = [registration("a", "1"), registration("b", "2"), registration("a", "3", platform: "ios")]
        let results = store.register(items, micros: 0)
        try holds(results.allSatisfy { $0.epoch > 0 }, "there is one")
        try holds(results[2].epoch > results[0].epoch, "a user's epochs grow")
        store.begin(micros: 0, wallMS: wall + 1000)
        try holds(try register(store, registration("a", "4")).epoch > results[2].epoch, "and after a restart")
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
        _ = store.lease(lease("login-1"), micros: lateMicros + 3_000_000)
        let when = lateMicros + 7_000_000
        store.expire(micros: when)
        try same(try lookup(store, "a", when).state, .presenceOnline, "renewed")
        try same(try lookup(store, "b", when).state, .presenceOffline, "silent")
    }

    private static func lives(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let first = store.lease(lease("login-1"), micros: 0).life
        try holds(first > 0, "a life has a number")
        try same(try register(store, registration("a", "1")).life, first, "a registration under the lease")
        try same(try register(store, registration("a", "1")).life, first, "the same again")
        try same(store.lease(lease("login-1"), micros: 1).life, first, "renewed")
        let other = try register(store, registration("b", "2", login: "login-2")).life
        try holds(other > 0, "a registration begins a lease too")
        try same(store.lease(lease("login-2"), micros: 2).life, other, "and the lease goes on with it")

        // The lease runs out, and somebody registers before it is asked for again.
        let later = try register(store, registration("c", "3"), lateMicros).life
        try holds(later > first, "after the end of a lease, \(later)")
        try same(store.lease(lease("login-1"), micros: lateMicros).life, later, "which is what the Login hears")

        store.begin(micros: lateMicros, wallMS: wall + 1)
        let again = try register(store, registration("d", "4"), lateMicros).life
        try holds(again > later, "after a restart, \(again)")
        try same(store.lease(lease("login-1"), micros: lateMicros).life, again, "which is what the Login hears")
        try same(try lookup(store, "c", lateMicros).registrations, [], "a restart forgets")
    }

    private static func holdings(_ store: any PresenceStore) throws {
        func slices(_ sessions: String...) -> [UInt64] {
            var slices = SessionSlices()
            for session in sessions { slices.add(session) }
            return slices.sums
        }
        func shown(_ sessions: String...) -> [String] {
            let request = lease("login-1", show: sessions.map(SessionSlices.slice))
            return store.lease(request, micros: 0).shown.map(\.sessionID)
        }
        store.begin(micros: 0, wallMS: wall)
        try same(store.lease(lease("login-1"), micros: 0).slices, slices(), "nothing")
        let first = try register(store, registration("a", "1", welcomed: 1))
        let second = try register(store, registration("b", "2"))
        _ = try register(store, registration("c", "3", login: "login-2"))
        try same(store.lease(lease("login-1"), micros: 0).slices, slices("1", "2"), "two, and not another Login's")
        try same(shown("1"), ["1"], "one slice")
        try same(shown("2", "1"), ["1", "2"], "two slices")
        try same(shown("3"), [], "another Login's")
        try same(shown(), [], "not asked")
        _ = try register(store, registration("a", "4", login: "login-2", welcomed: 2))
        try same(store.lease(lease("login-1"), micros: 0).slices, slices("2"), "after one was displaced")
        store.unregister([registration("b", "2", epoch: second.epoch + 1)], micros: 0)
        try same(shown("1", "2"), ["2"], "a goodbye with another epoch")
        try same(try lookup(store, "a", 0).registrations.contains { $0.epoch == first.epoch }, false, "displaced")
        store.unregister([registration("b", "2", epoch: second.epoch)], micros: 0)
        try same(store.lease(lease("login-1"), micros: 0).slices, slices(), "after the right one")
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

    private static func order(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        _ = try register(store, registration("a", "newer", welcomed: 20))
        let late = try register(store, registration("a", "older", login: "login-2", welcomed: 10))
        try holds(late.failure.isCode(.displaced), "an earlier login of another device: \(late.failure.reason)")
        var device = registration("a", "older", login: "login-2", welcomed: 10)
        device.deviceID = "device-newer"
        let slow = try register(store, device)
        try holds(slow.failure.isCode(.superseded), "an earlier login of the same device: \(slow.failure.reason)")
        try same(try lookup(store, "a", 0).registrations.map(\.sessionID), ["newer"], "who is left")
        let newest = try register(store, registration("a", "newest", login: "login-2", welcomed: 21))
        try same(newest.displaced.map(\.sessionID), ["newer"], "a later login wins")

        // In the same microsecond the ids decide, the same way in any order.
        try holds(try register(store, registration("a", "never", welcomed: 21)).hasFailure, "the lower id")
        try same(
            try register(store, registration("a", "nextest", welcomed: 21)).displaced.map(\.sessionID), ["newest"],
            "the higher id")
        var free = registration("a", "oldest", welcomed: 1)
        free.keepOthers = true
        try holds(try !register(store, free).hasFailure, "who keeps others has no rivals")
        try same(
            try lookup(store, "a", 0).registrations.map(\.sessionID).sorted(), ["nextest", "oldest"], "both are there")
    }

    /// Every field, with names that a store might take for its own separators.
    private static func whole(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        var item = registration(
            "a{b}:c/\u{e9}", "login-1-77-f00d", token: 1 << 60,
            welcomed: 1_760_000_000_123_456)
        item.site = "north"
        item.deviceID = "dev:{1}"
        let result = try register(store, item)
        try holds(!result.hasFailure, "registered: \(result.failure.message)")
        item.epoch = result.epoch
        try same(try lookup(store, item.userID, 0).registrations, [item], "the registration")
        try same(
            store.lease(lease("login-1", show: [SessionSlices.slice(of: item.sessionID)]), micros: 0).shown, [item],
            "the registration as its lease shows it")
        try same(try lookup(store, "a", 0).registrations, [], "another name")
    }

    private static func limited(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        for number in 0..<PresenceLimits.sessionsPerUser {
            let result = try register(store, registration("a", "s\(number)", platform: "p\(number)"))
            try holds(!result.hasFailure, "session \(number)")
        }
        let over = try register(store, registration("a", "over", platform: "one more"))
        try holds(over.failure.isCode(.limitExceeded), "one too many: \(over.failure.reason)")
        let instead = try register(store, registration("a", "t0", platform: "p0", welcomed: 1))
        try same(instead.displaced.map(\.sessionID), ["s0"], "in the place of another")
    }

    private static func many(_ store: any PresenceStore) throws {
        store.begin(micros: 0, wallMS: wall)
        let names = (0..<300).map { "user-\($0)" }
        let results = store.register(names.map { registration($0, "s-\($0)") }, micros: 0)
        try same(results.filter { !$0.hasFailure }.count, names.count, "registered")
        let asked = names.reversed() + ["nobody"] + names.prefix(3)
        let found = try store.lookup(asked.map(key), micros: lateMicros / 60)
        try same(found.map { $0.registrations.first?.userID ?? "nobody" }, Array(asked), "answers in the order asked")
        try same(store.lease(lease("login-1"), micros: 0).slices.filter { $0 != 0 }.count > 100, true, "slices")
        let gone = zip(names, results).map { registration($0, "s-\($0)", epoch: $1.epoch) }
        store.unregister(gone, micros: 0)
        try same(try store.lookup(names.map(key), micros: 0).filter { !$0.registrations.isEmpty }.count, 0, "gone")
    }
}
