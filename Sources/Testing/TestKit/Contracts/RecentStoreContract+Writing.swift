import Foundation
import Ports
import Wire

extension RecentStoreContract {
    static let writing: [Case] = [
        Case("claims count epochs and keep the stored offset", claims),
        Case("a claim with another or a shorter log is refused", badClaims),
        Case("rows, heads and dedup entries are found again", foundAgain),
        Case("a bucket with the wrong epoch or offset is left alone, the others go on", conflicts),
        Case("rows that do not continue a conversation are a conflict", gaps),
        Case("the same bucket twice in a call goes on from its own rows", twice),
        Case("dead letters are kept", deadLetters),
        Case("the same name in two apps is two conversations", tenants),
    ]

    private static func claims(_ store: any RecentStore) throws {
        try same(claim(store, 3).epoch, 1, "first epoch")
        try same(claim(store, 3).epoch, 2, "second epoch")
        let third = claim(store, 3)
        try same(store.commit([commit(3, third.epoch, 0, 9, [])]).map(\.state), [.commitDone], "an empty commit")
        let next = claim(store, 3)
        try same([next.epoch, next.stored], [4, 9], "epoch and offset")
        try same(claim(store, 4).epoch, 1, "another bucket")
    }

    private static func badClaims(_ store: any RecentStore) throws {
        let first = claim(store, 1)
        _ = store.commit([commit(1, first.epoch, 0, 50, [])])
        let other = claim(store, 1, incarnation: 8)
        try holds(other.hasFailure && !other.failure.retryable, "another incarnation")
        let short = claim(store, 1, end: 49)
        try holds(short.hasFailure && !short.failure.retryable, "a shorter log")
        try same(claim(store, 1, end: 50).epoch, first.epoch + 1, "refused claims change nothing")
    }

    private static func foundAgain(_ store: any RecentStore) throws {
        let name = "p:alice|bob"
        try Self.store(store, [row(name, 1, key: 1), row(name, 2, from: "bob", key: 2)])
        var request = WriterLookup()
        request.keys = [UInt8(2), 3, 1].map { byte in
            var key = DedupKey()
            key.appID = "demo"
            key.conversation = name
            key.key = Data(repeating: byte, count: 32)
            return key
        }
        request.keys.append(request.keys[0])
        request.keys[3].conversation = "p:alice|carol"
        request.conversations = [name, "p:alice|carol"].map { name in
            var key = ConversationKey()
            key.appID = "demo"
            key.conversation = name
            return key
        }
        let found = store.lookup(request)
        try holds(!found.hasFailure, "look-up works")
        try same(found.hits.map(\.seq), [2, 0, 1, 0], "hits in the order asked")
        try same(found.hits.first, row(name, 2, from: "bob", key: 2), "the whole row")
        try same(found.heads.map(\.seq), [2, 0], "heads")
        try same(found.heads.map(\.n), [2, 0], "counts")
        try same(found.heads.first?.timeMs, row(name, 2).timeMs, "time of the head")
    }

    private static func conflicts(_ store: any RecentStore) throws {
        let old = claim(store, 1)
        let new = claim(store, 1)
        let other = claim(store, 2)
        let results = store.commit([
            commit(1, old.epoch, 0, 1, [row("p:a|b", 1)]), commit(2, other.epoch, 0, 1, [row("p:c|d", 1)]),
            commit(1, new.epoch, 5, 6, [row("p:a|b", 1)]), commit(1, new.epoch, 0, 1, [row("p:a|b", 1)]),
        ])
        try same(
            results.map(\.state), [.commitConflict, .commitDone, .commitConflict, .commitDone],
            "old epoch, good, wrong offset, good")
        try same(results.map(\.bucket), [1, 2, 1, 1], "buckets")
        try same(store.rows([query("p:a|b"), query("p:c|d")]).map(\.rows.count), [1, 1], "rows that were stored")
    }

    private static func gaps(_ store: any RecentStore) throws {
        let bucket = claim(store, 1)
        let name = "p:a|b"
        try same(
            store.commit([commit(1, bucket.epoch, 0, 2, [row(name, 1), row(name, 3)])]).map(\.state), [.commitConflict],
            "a gap in the rows")
        try same(store.rows([query(name)]).map(\.rows.count), [0], "nothing of it was stored")
        try same(
            store.commit([commit(1, bucket.epoch, 0, 1, [row(name, 1)])]).map(\.state), [.commitDone], "the first row")
        try same(
            store.commit([commit(1, bucket.epoch, 1, 2, [row(name, 1)])]).map(\.state), [.commitConflict],
            "the same seq again")
        try same(
            store.commit([commit(1, bucket.epoch, 1, 2, [row(name, 2, n: 1)])]).map(\.state), [.commitConflict],
            "a wrong n")
        try same(store.commit([commit(1, bucket.epoch, 1, 2, [row(name, 2)])]).map(\.state), [.commitDone], "and on")
    }

    private static func twice(_ store: any RecentStore) throws {
        let bucket = claim(store, 1)
        let results = store.commit([
            commit(1, bucket.epoch, 0, 1, [row("p:a|b", 1)]),
            commit(1, bucket.epoch, 1, 3, [row("p:a|b", 2), row("p:a|b", 3)]),
        ])
        try same(results.map(\.state), [.commitDone, .commitDone], "both")
        try same(store.rows([query("p:a|b")]).map(\.head.seq), [3], "head")
    }

    private static func deadLetters(_ store: any RecentStore) throws {
        let bucket = claim(store, 6)
        _ = store.commit([commit(6, bucket.epoch, 0, 2, [], dead: [Data("broken".utf8), Data()])])
        let wanted = [
            DeadLetter(bucket: 6, offset: 2, bytes: Data("broken".utf8)),
            DeadLetter(bucket: 6, offset: 2, bytes: Data()),
        ]
        try same(try store.deadLetters(limit: 10), wanted, "dead letters")
    }

    private static func tenants(_ store: any RecentStore) throws {
        var other = row("p:a|b", 1)
        other.appID = "other"
        try Self.store(store, [row("p:a|b", 1), other, row("p:a|b", 2)])
        try same(store.rows([query("p:a|b")]).map(\.head.seq), [2], "head of one app")
        var question = query("p:a|b")
        question.appID = "other"
        try same(store.rows([question]).map(\.head.seq), [1], "head of the other")
    }
}
