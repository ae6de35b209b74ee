import Foundation
import Ports
import Wire

/// What every recent store promises. A fresh, empty store per case.
public enum RecentStoreContract {
    public typealias Case = ContractCase<any RecentStore>

    public static let cases: [Case] =
        writing + [
            Case("pages are dense, ascending and limited, both ways", pages),
            Case("a page names what its senders recalled later", recalled),
            Case("unread is exact over own, recalled, control, cleared, joined and left", unread),
            Case("unread equals a count by hand in random histories", randomUnread),
            Case("heads say what changed since the marks", marks),
        ]

    /// A row whose n and time are right when the rows of the conversation before it were made the same way.
    public static func row(
        _ conversation: String, _ seq: UInt64, from sender: String = "alice", n: UInt64? = nil, control: Bool = false,
        target: UInt64 = 0, kind: ContentKind = .contentText, key: UInt8? = nil
    ) -> StoredRow {
        var message = ChatMessage()
        message.sender = sender
        message.kind = kind
        message.content = Data("message \(seq)".utf8)
        message.control = control
        message.targetSeq = target
        var row = StoredRow()
        row.appID = "demo"
        row.conversation = conversation
        row.seq = seq
        row.n = n ?? seq
        row.timeMs = 1_760_000_000_000 + seq
        row.sender = sender
        row.control = control
        row.targetSeq = target
        row.message = message.buffer.withUnsafeReadableBytes { Data($0) }
        row.dedupKey = key.map { Data(repeating: $0, count: 32) } ?? Data()
        return row
    }

    public static func claim(_ store: any RecentStore, _ bucket: UInt32, incarnation: UInt64 = 7, end: UInt64 = 1000)
        -> BucketClaimResult
    {
        var claim = BucketClaim()
        claim.bucket = bucket
        claim.incarnation = incarnation
        claim.logEnd = end
        claim.owner = "writer"
        return store.claim([claim]).first ?? BucketClaimResult()
    }

    public static func commit(
        _ bucket: UInt32, _ epoch: UInt64, _ old: UInt64, _ new: UInt64, _ rows: [StoredRow], dead: [Data] = []
    ) -> BucketCommit {
        var commit = BucketCommit()
        commit.bucket = bucket
        commit.epoch = epoch
        commit.oldOffset = old
        commit.newOffset = new
        commit.rows = rows
        commit.dead = dead
        return commit
    }

    /// Claims the bucket and stores the rows.
    static func store(_ store: any RecentStore, _ rows: [StoredRow], bucket: UInt32 = 0) throws {
        let claimed = claim(store, bucket)
        let new = claimed.stored + UInt64(rows.count)
        let result = store.commit([commit(bucket, claimed.epoch, claimed.stored, new, rows)])
        try same(result.map(\.state), [.commitDone], "storing \(rows.count) rows")
    }

    public static func query(
        _ conversation: String, from: UInt64 = 0, before: UInt64 = 0, limit: UInt32 = 10, atLeast: UInt64 = 0
    ) -> RowsQuery {
        var query = RowsQuery()
        query.appID = "demo"
        query.conversation = conversation
        query.fromSeq = from
        query.beforeSeq = before
        query.limit = limit
        query.atLeast = atLeast
        return query
    }

    private static func pages(_ store: any RecentStore) throws {
        try Self.store(store, (1...1300).map { row("p:alice|bob", $0) })
        func seqs(_ query: RowsQuery) throws -> [UInt64] {
            let page = try some(store.rows([query]).first, "a page")
            try holds(!page.hasFailure, "page without failure: \(page.failure.message)")
            return page.rows.map(\.seq)
        }
        let name = "p:alice|bob"
        try same(try seqs(query(name, from: 5, limit: 3)), [5, 6, 7], "upwards")
        try same(try seqs(query(name, from: 1299, limit: 10)), [1299, 1300], "at the end")
        try same(try seqs(query(name, from: 1301, limit: 10)), [], "beyond the end")
        try same(try seqs(query(name, before: 10, limit: 4)), [6, 7, 8, 9], "downwards")
        try same(try seqs(query(name, before: 3, limit: 4)), [1, 2], "downwards to the begin")
        try same(try seqs(query(name, limit: 2)), [1299, 1300], "the newest")
        try same(try seqs(query(name, before: .max, limit: 2)), [1299, 1300], "below far beyond the end")
        try same(try seqs(query(name, from: 4, before: 6, limit: 10)), [4, 5], "both borders")
        try same(try seqs(query(name, from: 1, limit: 5000)).count, RowLimits.pageRows, "the limit")
        try same(try seqs(query(name, from: 1, limit: 0)).count, RowLimits.pageRowsDefault, "no limit said")
        try same(try seqs(query("p:alice|carol")), [], "an unknown conversation")
        let behind = try some(store.rows([query(name, atLeast: 1301)]).first, "a page")
        try holds(behind.failure.retryable && behind.rows.isEmpty, "a source that is behind says so")
        let page = try some(store.rows([query(name, from: 7, limit: 1)]).first, "a page")
        try same(page.head.seq, 1300, "head of the page")
        var wanted = row(name, 7)
        wanted.dedupKey = Data()
        try same(page.rows.first, wanted, "the row")
    }

    /// 1 to 6: messages of a, b, a, b, a, b; 7: a recalls 3; 8: a stranger to it recalls 4; 9: b recalls 2; 10: a.
    static func recalls(_ name: String) -> [StoredRow] {
        (1...6).map { row(name, $0, from: $0 % 2 == 1 ? "a" : "b") } + [
            row(name, 7, from: "a", n: 6, control: true, target: 3, kind: .contentRecall),
            row(name, 8, from: "a", n: 6, control: true, target: 4, kind: .contentRecall),
            row(name, 9, from: "b", n: 6, control: true, target: 2, kind: .contentRecall),
            row(name, 10, from: "a", n: 7),
        ]
    }

    private static func recalled(_ store: any RecentStore) throws {
        try Self.store(store, recalls("g:team"))
        let queries = [
            query("g:team", from: 1, limit: 3), query("g:team", from: 3), query("g:team", before: 3),
            query("g:team", limit: 2),
        ]
        try same(store.rows(queries).map(\.recalledSeqs), [[2, 3], [3], [2], []], "recalled seqs of the pages")
    }

    /// A query for the state of a conversation.
    public static func head(
        _ conversation: String, _ user: String, read: UInt64 = 0, joined: UInt64 = 0, left: UInt64 = 0,
        cleared: UInt64 = 0
    ) -> HeadQuery {
        var query = HeadQuery()
        query.appID = "demo"
        query.conversation = conversation
        query.userID = user
        query.readSeq = read
        query.joinedSeq = joined
        query.leftSeq = left
        query.clearedSeq = cleared
        query.always = true
        return query
    }

    private static func unread(_ store: any RecentStore) throws {
        let name = "g:team"
        // 1 a, 2 b, 3 control, 4 c, 5 b, 6 recall of 4 by c, 7 recall of 5 by a stranger to it, 8 a
        try Self.store(
            store,
            [
                row(name, 1, from: "a", n: 1), row(name, 2, from: "b", n: 2),
                row(name, 3, from: "a", n: 2, control: true, kind: .contentNotice), row(name, 4, from: "c", n: 3),
                row(name, 5, from: "b", n: 4),
                row(name, 6, from: "c", n: 4, control: true, target: 4, kind: .contentRecall),
                row(name, 7, from: "a", n: 4, control: true, target: 5, kind: .contentRecall),
                row(name, 8, from: "a", n: 5),
            ])
        func count(_ query: HeadQuery) throws -> UInt64 {
            try some(store.heads([query], since: Data()).heads.first, "a head").unread
        }
        try same(try count(head(name, "d")), 4, "a stranger: 1, 2, 5, 8")
        try same(try count(head(name, "a")), 2, "a: 2, 5")
        try same(try count(head(name, "b")), 2, "b: 1, 8")
        try same(try count(head(name, "c")), 4, "c: 1, 2, 5, 8")
        try same(try count(head(name, "d", read: 2)), 2, "read 2: 5, 8")
        try same(try count(head(name, "d", cleared: 5)), 1, "cleared 5: 8")
        try same(try count(head(name, "d", joined: 2)), 3, "joined at 2: 2, 5, 8")
        try same(try count(head(name, "d", left: 6)), 4, "left before the recall: 1, 2, 4, 5")
        try same(try count(head(name, "d", read: 8)), 0, "read everything")
        try same(try count(head(name, "d", read: 20)), 0, "read more than there is")
        try same(try count(head("g:empty", "d")), 0, "an unknown conversation")
        let left = try some(store.heads([head(name, "d", left: 6)], since: Data()).heads.first, "a head")
        try same([left.seq, left.n, left.last.seq], [5, 4, 5], "what somebody who left sees last")
        let cleared = try some(store.heads([head(name, "d", cleared: 8)], since: Data()).heads.first, "a head")
        try same(cleared.hasLast, false, "nothing is visible after clearing everything")
    }

    private static func randomUnread(_ store: any RecentStore) throws {
        var random = SeededRows(seed: 42)
        for number in 0..<20 {
            let name = "g:random-\(number)"
            let rows = random.history(name, count: 60)
            try Self.store(store, rows, bucket: UInt32(number))
            for _ in 0..<40 {
                let query = random.query(name, count: 60)
                let found = try some(store.heads([query], since: Data()).heads.first, "a head")
                try same(found.unread, SeededRows.unread(rows, query), "unread of \(query) in history \(number)")
            }
        }
    }

    private static func marks(_ store: any RecentStore) throws {
        let (one, two) = ("p:alice|bob", "p:alice|carol")
        try Self.store(store, [row(one, 1)], bucket: 1)
        let first = store.heads([head(one, "bob")], since: Data())
        try same(first.heads.map(\.changed), [true], "without marks")
        try Self.store(store, [row(two, 1)], bucket: 2)
        var queries = [head(one, "bob"), head(two, "carol")]
        for index in queries.indices { queries[index].always = false }
        let second = store.heads(queries, since: first.shardMarks)
        try same(second.heads.map(\.changed), [false, true], "since the first marks")
        try same(second.heads.map(\.seq), [0, 1], "only what changed is answered in full")
        queries[0].always = true
        let third = store.heads(queries, since: second.shardMarks)
        try same(third.heads.map(\.changed), [false, false], "since the second marks")
        try same(third.heads.map(\.seq), [1, 0], "always: in full although nothing changed")
        let strange = store.heads(queries, since: Data(repeating: 0xff, count: 8))
        try same(strange.heads.map(\.changed), [true, true], "marks of another store")
    }
}
