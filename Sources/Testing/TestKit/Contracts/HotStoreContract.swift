import Foundation
import Ports
import Wire

/// What every hot store promises. A fresh, empty store with room for these rows per case.
public enum HotStoreContract {
    public typealias Case = ContractCase<any HotStore>

    public static let cases: [Case] = [
        Case("what was put is answered, both ways", answers),
        Case("a page that is not all there is a miss", misses),
        Case("older rows again change nothing", again),
        Case("a page names what its senders recalled later", recalled),
        Case("after a hole only what is newer is answered", hole),
        Case("the newest 200 rows stay", newest),
        Case("an app's rows are its own", apps),
        Case("a writer whose bucket was taken since writes nothing", fenced),
    ]

    private static let name = "p:alice|bob"

    private static func page(_ store: any HotStore, _ query: RowsQuery) throws -> [UInt64]? {
        let page = try some(store.rows([query]).first, "a page")
        return page.hasFailure ? nil : page.rows.map(\.seq)
    }

    private static func query(_ name: String, _ from: UInt64, _ before: UInt64, _ limit: UInt32, _ atLeast: UInt64)
        -> RowsQuery
    {
        RecentStoreContract.query(name, from: from, before: before, limit: limit, atLeast: atLeast)
    }

    private static func rows(_ range: ClosedRange<UInt64>) -> [StoredRow] {
        range.map { RecentStoreContract.row(name, $0) }
    }

    private static func answers(_ store: any HotStore) throws {
        store.put(rows(1...10))
        try same(try page(store, query(name, 3, 0, 4, 0)), [3, 4, 5, 6], "upwards")
        try same(try page(store, query(name, 9, 0, 4, 0)), [9, 10], "up to the newest")
        try same(try page(store, query(name, 0, 5, 2, 0)), [3, 4], "downwards")
        try same(try page(store, query(name, 0, 3, 5, 0)), [1, 2], "down to the begin")
        try same(try page(store, query(name, 0, 0, 3, 0)), [8, 9, 10], "the newest")
        let found = try some(store.rows([query(name, 3, 0, 1, 0)]).first, "a page")
        try same([found.head.seq, found.head.n], [10, 10], "head")
        try same(found.rows.first, RecentStoreContract.row(name, 3), "the row")
    }

    private static func misses(_ store: any HotStore) throws {
        try same(try page(store, query(name, 1, 0, 4, 0)), nil, "an unknown conversation")
        store.put(rows(50...60))
        try same(try page(store, query(name, 49, 0, 4, 0)), nil, "from below what is there")
        try same(try page(store, query(name, 61, 0, 4, 0)), nil, "from beyond what is there")
        try same(try page(store, query(name, 0, 53, 4, 0)), nil, "downwards past what is there")
        try same(try page(store, query(name, 0, 54, 4, 0)), [50, 51, 52, 53], "downwards just to the border")
        try same(try page(store, query(name, 0, 70, 4, 0)), nil, "below a seq that is not there yet")
        try same(try page(store, query(name, 55, 0, 4, 61)), nil, "a source that is behind")
    }

    private static func again(_ store: any HotStore) throws {
        store.put(rows(1...10))
        store.put(rows(3...5))
        store.put(rows(10...11))
        try same(try page(store, query(name, 1, 0, 20, 0)), Array(1...11), "rows")
    }

    private static func recalled(_ store: any HotStore) throws {
        store.put(RecentStoreContract.recalls(name))
        let pages = store.rows([
            query(name, 1, 0, 3, 0), query(name, 3, 0, 9, 0), query(name, 0, 3, 9, 0), query(name, 0, 0, 2, 0),
        ])
        try same(pages.map(\.recalledSeqs), [[2, 3], [3], [2], []], "recalled seqs of the pages")
    }

    private static func hole(_ store: any HotStore) throws {
        store.put(rows(1...10))
        store.put(rows(12...14))
        try same(try page(store, query(name, 9, 0, 20, 0)), nil, "over the hole")
        try same(try page(store, query(name, 10, 0, 2, 0)), nil, "next to the hole")
        try same(try page(store, query(name, 11, 0, 1, 0)), nil, "in the hole")
        try same(try page(store, query(name, 12, 0, 20, 0)), [12, 13, 14], "after the hole")
    }

    private static func newest(_ store: any HotStore) throws {
        store.put(rows(1...1000))
        try same(try page(store, query(name, 801, 0, 200, 0)), Array(801...1000), "the newest 200")
        try same(try page(store, query(name, 800, 0, 10, 0)), nil, "what is older")
    }

    private static func apps(_ store: any HotStore) throws {
        var other = rows(1...3)
        for index in other.indices { other[index].appID = "other" }
        store.put(rows(1...10))
        store.put(other)
        try same(try page(store, query(name, 0, 0, 20, 0)), Array(1...10), "one app's")
        var question = query(name, 0, 0, 20, 0)
        question.appID = "other"
        try same(try page(store, question), [1, 2, 3], "the other's")
        question.appID = "demo:other"
        try same(try page(store, question), nil, "a third's")
    }

    private static func fence(_ bucket: UInt32, _ epoch: UInt64, _ rows: Int) -> HotFence {
        var fence = HotFence()
        fence.bucket = bucket
        fence.epoch = epoch
        fence.rows = UInt32(rows)
        return fence
    }

    private static func fenced(_ store: any HotStore) throws {
        store.put(rows(1...10), fences: [fence(3, 5, 10)])
        store.put(rows(11...12), fences: [fence(3, 6, 2)])
        store.put(rows(13...14), fences: [fence(3, 5, 2)])
        try same(try page(store, query(name, 1, 0, 20, 0)), Array(1...12), "after the older claim's rows")
        store.put(rows(40...41), fences: [fence(3, 5, 2)])
        try same(try page(store, query(name, 1, 0, 20, 0)), Array(1...12), "nor do its holes count")
        store.put(rows(13...14), fences: [fence(3, 6, 2)])
        try same(try page(store, query(name, 1, 0, 20, 0)), Array(1...14), "the claim in force goes on")
        store.put(rows(15...18), fences: [fence(4, 1, 1), fence(3, 7, 2), fence(3, 6, 1)])
        try same(try page(store, query(name, 1, 0, 20, 0)), Array(1...17), "each claim counts its own rows")
    }
}
