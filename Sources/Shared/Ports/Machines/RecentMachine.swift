import Machinery
import RPC
import Wire

/// Port role `recent` over any recent store: commits of a flush are one transaction; look-ups are answered at once.
///
/// Isolation: a lane with a thread of its own; the store may block.
public struct RecentMachine<Store: RecentStore>: RoleMachine {
    public static var role: RoleName { .recentStore }

    private let store: Store
    private var pending: [(id: CallID, buckets: Range<Int>)] = []
    private var gathered: [BucketCommit] = []
    private static var purgeTimer: UInt64 { 1 }
    /// Between two looks at whether the dedup table wants purging, and between two steps of it.
    private static var purgeIdleMS: UInt32 { 60_000 }
    private static var purgeStepMS: UInt32 { 50 }
    /// Entries of one step: about a millisecond of work.
    private static var purgeEntries: Int { 1000 }
    private var hasComplained = false
    private var clock = PatientClock()
    private var isFlushing = false
    private var hasFlushComplained = false
    private static var flushTimer: UInt64 { 2 }
    /// How long rows gather before the file gets them: those of one conversation then share a page.
    private static var gatherMS: UInt32 { 400 }
    private static var flushStepMS: UInt32 { 5 }
    private static var flushRetryMS: UInt32 { 1000 }
    /// Rows of one step: a few milliseconds of work.
    private static var flushRows: Int { 512 }

    public init(_ store: Store) { self.store = store }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start:
            _ = clock.nowMS(micros: now.micros, wallMS: now.wallMS)
            return [.timer(Self.purgeTimer, afterMS: Self.purgeIdleMS)]
        case .call(let id, let payload, _): return call(id, payload)
        case .reply: return []
        case .timer(Self.flushTimer): return writeFile()
        case .timer: return purge(now)
        case .flush: return flush()
        }
    }

    private mutating func call(_ id: CallID, _ payload: Payload) -> [RoleAction<Never>] {
        switch payload {
        case .storeCommit(let request):
            pending.append((id, gathered.count..<gathered.count + request.buckets.count))
            gathered += request.buckets
            return []
        case .writerLookup(let request): return [.reply(id, .writerFound(store.lookup(request)))]
        case .bucketClaims(let request):
            var answer = BucketClaimed()
            answer.results = store.claim(request.claims)
            return [.reply(id, .bucketClaimed(answer))]
        case .readRows(let request): return [PortAnswers.rows(id, request, store)]
        case .readHeads(let request):
            if let failure = PortAnswers.tooMany(request.queries.count) { return [.refuse(id, failure)] }
            return [.reply(id, .headsRead(store.heads(request.queries, since: request.shardMarks)))]
        default:
            return [.refuse(id, Failure(.noSuchMethod, "the recent store does not answer payload \(payload.kind)"))]
        }
    }

    private mutating func flush() -> [RoleAction<Never>] {
        guard !pending.isEmpty else { return [] }
        let results = store.commit(gathered)
        let replies: [RoleAction<Never>] = pending.map { call in
            var answer = StoreCommitted()
            answer.results = Array(results[call.buckets])
            return .reply(call.id, .storeCommitted(answer))
        }
        pending.removeAll(keepingCapacity: true)
        gathered.removeAll(keepingCapacity: true)
        guard !isFlushing, store.unflushedRowCount > 0 else { return replies }
        isFlushing = true
        return replies + [.timer(Self.flushTimer, afterMS: Self.gatherMS)]
    }

    /// A part of what waits for the file. The next part a little later: commits must not wait for all of it.
    private mutating func writeFile() -> [RoleAction<Never>] {
        var warnings: [RoleAction<Never>] = []
        var failed = false
        do throws(Failure) { try store.flush(rows: Self.flushRows) } catch {
            failed = true
            if !hasFlushComplained {
                let values = ["rows": "\(store.unflushedRowCount)", "why": error.message]
                warnings = [.warn("the recent store cannot write its file; nothing is lost, new messages wait", values)]
            }
        }
        hasFlushComplained = failed
        isFlushing = store.unflushedRowCount > 0
        guard isFlushing else { return warnings }
        return warnings + [.timer(Self.flushTimer, afterMS: failed ? Self.flushRetryMS : Self.flushStepMS)]
    }

    private mutating func purge(_ now: Instant) -> [RoleAction<Never>] {
        let nowMS = clock.nowMS(micros: now.micros, wallMS: now.wallMS)
        do throws(Failure) {
            let goOn = try store.purgeDedup(limit: Self.purgeEntries, nowMS: nowMS)
            hasComplained = false
            return [.timer(Self.purgeTimer, afterMS: goOn ? Self.purgeStepMS : Self.purgeIdleMS)]
        } catch {
            defer { hasComplained = true }
            let next = RoleAction<Never>.timer(Self.purgeTimer, afterMS: Self.purgeIdleMS)
            return hasComplained ? [next] : [.warn("dedup purge failed", ["why": error.message]), next]
        }
    }
}

/// What the recent and the hot machine answer alike.
enum PortAnswers {
    static func tooMany(_ count: Int) -> Failure? {
        count <= RowLimits.queries ? nil : Failure(.limitExceeded, "a call has at most \(RowLimits.queries) queries")
    }

    static func rows(_ id: CallID, _ request: ReadRows, _ store: some RowReader) -> RoleAction<Never> {
        if let failure = tooMany(request.queries.count) { return .refuse(id, failure) }
        var answer = RowsRead()
        answer.pages = store.rows(request.queries)
        return .reply(id, .rowsRead(answer))
    }
}
