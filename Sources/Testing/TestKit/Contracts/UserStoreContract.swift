import Foundation
import Ports
import Wire

/// What every user store promises. A fresh, empty store per case.
public enum UserStoreContract {
    public typealias Case = ContractCase<any UserStore>

    public static let cases: [Case] = [
        Case("apps are replaced whole, with a version", apps),
        Case("a compared app is written only over its own version", comparedApps),
        Case("users are made, changed, and keep their profile when only the token epoch is raised", users),
        Case("a patch changes the fields that it has, and makes the user", patched),
        Case("an entry is made once; the same again changes nothing", idempotent),
        Case("seqs only grow, unset fields stay", merged),
        Case("pages go by version and conversation", paged),
    ]

    static func key(_ user: String) -> UserKey {
        var key = UserKey()
        key.appID = "demo"
        key.userID = user
        return key
    }

    /// A change of one index entry.
    public static func change(
        _ user: String, _ conversation: String, create: Bool = true, read: UInt64 = 0, joined: UInt64 = 1,
        _ more: (inout StateChange) -> Void = { _ in }
    ) -> IndexChange {
        var item = IndexChange()
        item.appID = "demo"
        item.userID = user
        item.change.conversation = conversation
        item.change.readSeq = read
        item.joinedSeq = joined
        item.create = create
        more(&item.change)
        return item
    }

    private static func save(_ store: any UserStore, _ changes: [IndexChange]) throws -> [IndexRow] {
        var batch = UserBatch()
        batch.changes = changes
        return try store.apply(batch).rows
    }

    static func page(
        _ store: any UserStore, _ user: String, since: UInt64 = 0, after: String = "", limit: UInt32 = 0,
        only: String = ""
    ) throws -> IndexPage {
        var query = IndexQuery()
        query.appID = "demo"
        query.userID = user
        query.sinceVersion = since
        query.after = after
        query.limit = limit
        query.conversation = only
        return try some(try store.index([query]).first, "a page")
    }

    private static func apps(_ store: any UserStore) throws {
        var app = App()
        app.appID = "demo"
        app.name = "Demo"
        var key = AppKey()
        key.keyID = "k1"
        key.secret = Data([1, 2, 3])
        app.keys = [key]
        app.multiSession = true
        var batch = UserBatch()
        batch.apps = [app]
        _ = try store.apply(batch)
        let found = try store.apps(["absent", "demo"])
        try same(found.map(\.exists), [false, true], "which exist")
        try same(found.map(\.appID), ["absent", "demo"], "in the order asked")
        try same(found[1].keys, [key], "keys")
        try same([found[1].multiSession, found[1].suspended], [true, false], "settings")
        key.keyID = "k2"
        key.retired = true
        batch.apps[0].keys = [key]
        batch.apps[0].suspended = true
        _ = try store.apply(batch)
        let changed = try some(try store.apps([]).first, "the listed app")
        try same(changed.keys, [key], "keys are replaced")
        try holds(changed.version > found[1].version && changed.suspended, "version and settings move")
    }

    private static func comparedApps(_ store: any UserStore) throws {
        var app = App()
        app.appID = "demo"
        app.name = "first"
        var other = app
        other.name = "second"
        var batch = UserBatch()
        // Both were made from nothing, in one transaction: one of them is.
        batch.comparedApps = [app, other]
        try same(try store.apply(batch).writtenApps, [true, false], "one is made")
        let made = try some(try store.apps(["demo"]).first, "the app")
        try same(made.name, "first", "the one that was told so")
        app.version = made.version
        app.suspended = true
        other.version = made.version
        batch.comparedApps = [app]
        try same(try store.apply(batch).writtenApps, [true], "the version that was read is changed")
        batch.comparedApps = [other]
        try same(try store.apply(batch).writtenApps, [false], "an older one is not")
        let kept = try some(try store.apps(["demo"]).first, "the app")
        try holds(
            kept.suspended && kept.name == "first" && kept.version > made.version, "the refused one left no trace")
    }

    private static func users(_ store: any UserStore) throws {
        var user = UserPut()
        user.appID = "demo"
        user.profile.userID = "alice"
        user.profile.nickname = "Alice"
        user.profile.custom = Data([9])
        var batch = UserBatch()
        batch.users = [user]
        _ = try store.apply(batch)
        user.profile.nickname = ""
        user.profile.custom = Data()
        user.tokenEpoch = 4
        batch.users = [user]
        _ = try store.apply(batch)
        user.tokenEpoch = 2
        batch.users = [user]
        _ = try store.apply(batch)
        let found = try store.users([key("alice"), key("bob")])
        try same(found.map(\.profile.exists), [true, false], "who exists")
        try same(found.map(\.profile.nickname), ["Alice", ""], "nicknames")
        try same(found.map(\.tokenEpoch), [4, 0], "token epochs only grow")
        user.profile.exists = true
        batch.users = [user]
        _ = try store.apply(batch)
        try same(
            try store.users([key("alice")]).map(\.profile.nickname), [""],
            "a profile that says it exists is taken whole")
        _ = try save(store, [change("carol", "p:alice|carol")])
        try same(try store.users([key("carol")]).map(\.profile.exists), [false], "an index entry makes no user")
    }

    private static func patched(_ store: any UserStore) throws {
        func put(_ change: (inout ProfilePatch) -> Void) throws -> Profile {
            var user = UserPut()
            user.appID = "demo"
            user.profile.userID = "alice"
            change(&user.patch)
            var batch = UserBatch()
            batch.users = [user]
            _ = try store.apply(batch)
            return try some(try store.users([key("alice")]).first, "the user").profile
        }
        func fields(_ profile: Profile) -> [String] {
            [
                profile.exists ? "exists" : "", profile.nickname, profile.avatarURL,
                profile.custom.map { "\($0)" }.joined(),
            ]
        }
        let made = try put { $0 = ProfilePatch() }
        try same(fields(made), ["exists", "", "", ""], "an empty patch makes the user")
        let filled = try put {
            $0.nickname = "Alice"
            $0.avatarURL = "a.png"
            $0.custom = Data([7])
        }
        try same(fields(filled), ["exists", "Alice", "a.png", "7"], "every field")
        try same(fields(try put { $0.nickname = "Al" }), ["exists", "Al", "a.png", "7"], "one field; the others stay")
        try same(fields(try put { $0.custom = Data() }), ["exists", "Al", "a.png", ""], "an empty field is cleared")
    }

    private static func idempotent(_ store: any UserStore) throws {
        let absent = try save(store, [change("alice", "p:alice|bob", create: false, read: 3)])
        try same(absent.map(\.version), [0], "no entry, none made")
        let made = try save(store, [change("alice", "p:alice|bob", read: 1)])
        try same(made.map(\.version), [1], "made")
        let again = try save(store, [change("alice", "p:alice|bob", read: 1)])
        try same(again, made, "the same again")
        try same(try page(store, "alice").version, 1, "version of the user")
        let both = try save(store, [change("alice", "p:alice|bob", read: 2), change("alice", "p:alice|carol")])
        try same(both.map(\.version), [2, 3], "every change has its version")
        try same(try page(store, "bob").version, 0, "other users are not touched")
    }

    private static func merged(_ store: any UserStore) throws {
        _ = try save(
            store,
            [
                change("alice", "g:team", read: 5) {
                    $0.pinned = true
                    $0.draft = "hm"
                    $0.deliveredSeq = 7
                }
            ])
        let row = try some(
            try save(
                store,
                [
                    change("alice", "g:team", create: false, read: 3, joined: 0) {
                        $0.clearedSeq = 2
                        $0.muted = true
                    }
                ]
            ).first,
            "a row")
        try same([row.readSeq, row.clearedSeq, row.deliveredSeq, row.joinedSeq], [5, 2, 7, 1], "seqs")
        try same([row.pinned, row.muted], [true, true], "flags")
        try same(row.draft, "hm", "draft")
        let cleared = try some(
            try save(
                store,
                [
                    change("alice", "g:team") {
                        $0.draft = ""
                        $0.pinned = false
                    }
                ]
            ).first, "a row")
        try same([cleared.draft, String(cleared.pinned)], ["", "false"], "set to nothing")
        try same(try page(store, "alice", only: "g:team").rows, [cleared], "one entry")
        try same(try page(store, "alice", only: "g:other").rows, [], "no such entry")
    }

    private static func paged(_ store: any UserStore) throws {
        let names = (0..<25).map { "g:\($0 + 10)" }
        _ = try save(store, names.reversed().map { change("alice", $0) })
        var seen: [String] = []
        var after = ""
        var pages = 0
        while true {
            let found = try page(store, "alice", after: after, limit: 10)
            seen += found.rows.map(\.conversation)
            pages += 1
            guard found.more, let last = found.rows.last else { break }
            after = last.conversation
        }
        try same(seen, names, "all entries in order")
        try same(pages, 3, "pages")
        let version = try page(store, "alice").version
        try same(try page(store, "alice", since: version).rows.count, 0, "nothing since the version")
        _ = try save(store, [change("alice", "g:15", read: 9)])
        try same(try page(store, "alice", since: version).rows.map(\.conversation), ["g:15"], "what changed since")
    }
}
