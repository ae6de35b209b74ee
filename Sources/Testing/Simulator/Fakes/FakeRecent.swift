import Foundation
import Machinery
import RPC
import Wire

/// The recent store's port in memory; all of it is durable. A share `trouble` of calls fails, commits one bucket at a
/// time and one half of them after they were carried out.
public struct FakeRecent: RoleMachine {
    public static let role = RoleName.recentStore

    public struct BucketRow: Sendable, Equatable {
        public var epoch: UInt64 = 0
        public var stored: UInt64 = 0
        public var incarnation: UInt64 = 0
    }

    /// A conversation across apps: "app conversation".
    public private(set) var rows: [String: [StoredRow]] = [:]
    public private(set) var buckets: [UInt32: BucketRow] = [:]
    public private(set) var dead: [Data] = []
    /// Rows that a commit brought and the store had to refuse: a writer's mistake.
    public private(set) var mistakes: [String] = []
    public var trouble: Double
    private var places: [String: [Data: Int]] = [:]
    private var random: SeededRandom

    public init(seed: UInt64, trouble: Double = 0) {
        self.random = SeededRandom(seed: seed)
        self.trouble = trouble
    }

    public static func name(_ app: String, _ conversation: String) -> String { "\(app) \(conversation)" }

    /// The row of a dedup key.
    public func row(_ app: String, _ conversation: String, key: Data) -> StoredRow? {
        let name = Self.name(app, conversation)
        guard let place = places[name]?[key] else { return nil }
        return rows[name]?[place]
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, _) = event else { return [] }
        switch payload {
        case .storeCommit(let body): return [.reply(id, .storeCommitted(commit(body)))]
        case .bucketClaims(let body): return [.reply(id, .bucketClaimed(claim(body)))]
        case .writerLookup(let body): return [.reply(id, .writerFound(look(body)))]
        case .readRows(let body): return [.reply(id, .rowsRead(read(body)))]
        default: return [.refuse(id, Failure(.noSuchMethod, "not a recent store's call"))]
        }
    }

    private mutating func claim(_ body: BucketClaims) -> BucketClaimed {
        var reply = BucketClaimed()
        for claim in body.claims {
            var result = BucketClaimResult()
            result.bucket = claim.bucket
            var bucket = buckets[claim.bucket] ?? BucketRow(epoch: 0, stored: 0, incarnation: claim.incarnation)
            if random.chance(trouble) {
                result.failure = Failure(.storeUnavailable, "the store is away")
            } else if bucket.incarnation != claim.incarnation {
                result.failure = Failure(.forbidden, "another incarnation of the log")
            } else if claim.logEnd < bucket.stored {
                result.failure = Failure(.forbidden, "the log ends before what is stored")
            } else {
                bucket.epoch += 1
                buckets[claim.bucket] = bucket
                result.epoch = bucket.epoch
                result.stored = bucket.stored
            }
            reply.results.append(result)
        }
        return reply
    }

    private mutating func look(_ body: WriterLookup) -> WriterFound {
        var reply = WriterFound()
        if random.chance(trouble) {
            reply.failure = Failure(.storeUnavailable, "the store is away")
            return reply
        }
        reply.hits = body.keys.map { row($0.appID, $0.conversation, key: $0.key) ?? StoredRow() }
        reply.heads = body.conversations.map { head($0.appID, $0.conversation) }
        return reply
    }

    private func head(_ app: String, _ conversation: String) -> Head {
        var head = Head()
        head.appID = app
        head.conversation = conversation
        guard let last = rows[Self.name(app, conversation)]?.last else { return head }
        head.seq = last.seq
        head.n = last.n
        head.timeMs = last.timeMs
        return head
    }

    private mutating func commit(_ body: StoreCommit) -> StoreCommitted {
        var reply = StoreCommitted()
        for commit in body.buckets {
            var result = BucketCommitResult()
            result.bucket = commit.bucket
            let failing = random.chance(trouble)
            if failing, random.chance(0.5) {
                result.state = .commitUnavailable
            } else {
                result.state = carryOut(commit)
                if failing { result.state = .commitUnavailable }
            }
            reply.results.append(result)
        }
        return reply
    }

    private mutating func carryOut(_ commit: BucketCommit) -> CommitState {
        guard let bucket = buckets[commit.bucket], bucket.epoch == commit.epoch, bucket.stored == commit.oldOffset
        else { return .commitConflict }
        for row in commit.rows {
            let name = Self.name(row.appID, row.conversation)
            let last = rows[name]?.last
            if row.seq != (last?.seq ?? 0) + 1 || row.timeMs < (last?.timeMs ?? 0) || row.n < (last?.n ?? 0) {
                mistakes.append("row \(row.seq) of \(name) behind \(last?.seq ?? 0)")
            }
            if places[name]?[row.dedupKey] != nil { mistakes.append("row \(row.seq) of \(name) is there already") }
            places[name, default: [:]][row.dedupKey] = rows[name]?.count ?? 0
            rows[name, default: []].append(row)
        }
        dead += commit.dead
        buckets[commit.bucket]?.stored = commit.newOffset
        return .commitDone
    }

    private func read(_ body: ReadRows) -> RowsRead {
        var reply = RowsRead()
        reply.pages = body.queries.map { query in
            var page = RowsPage()
            page.head = head(query.appID, query.conversation)
            let all = rows[Self.name(query.appID, query.conversation)] ?? []
            if query.beforeSeq > 0 {
                page.rows = Array(all.filter { $0.seq < query.beforeSeq }.suffix(Int(query.limit)))
            } else if query.fromSeq > 0 {
                page.rows = Array(all.filter { $0.seq >= query.fromSeq }.prefix(Int(query.limit)))
            } else {
                page.rows = Array(all.suffix(Int(query.limit)))
            }
            return page
        }
        return reply
    }
}
