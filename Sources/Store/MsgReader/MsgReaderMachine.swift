import Identity
import RPC
import Wire

/// MsgReader: answers reads over the tiers as one dense sequence. What comes between two flushes goes out as one call
/// per store; a page that the hot store does not have in full is asked of the recent store.
///
/// Isolation: the lane of its host.
public struct MsgReaderMachine: RoleMachine {
    public static var role: RoleName { .msgReader }
    public typealias Action = RoleAction<Never>
    typealias Slot = PartedCalls<RowsPage>.Slot

    /// Who wants a page.
    enum Wish: Sendable {
        case service(Slot)
        case history(job: UInt64, page: Int)
    }

    struct RowsWish: Sendable {
        let wish: Wish
        let query: RowsQuery
    }

    /// Head queries that one call to the store answers: those with the same marks.
    struct HeadsBatch: Sendable {
        var request: ReadHeads
        var callers: [(id: CallID, count: Int)]
    }

    /// What an answer is for.
    enum Flight: Sendable {
        case hot([RowsWish])
        case recent([RowsWish])
        case heads(HeadsBatch)
        case index([(job: UInt64, page: Int)])
    }

    let instance: String
    let config: MsgReaderConfig
    var pages = PartedCalls<RowsPage>()
    var services = PartedCalls<ServiceReply>()
    var histories: [UInt64: HistoryJob] = [:]
    var nextHistory: UInt64 = 1
    /// Pages of users' requests not answered yet.
    var historyPages = 0
    var headsWaiting = 0
    private var flights: [UInt64: Flight] = [:]
    private var nextToken: UInt64 = 1

    private var forHot: [RowsWish] = []
    private var forRecent: [RowsWish] = []
    private var heads: [HeadsBatch] = []
    var entries: [(query: IndexQuery, job: UInt64, page: Int)] = []
    /// After the hot store kept somebody waiting it is left alone until then.
    private var hotSkippedUntil: UInt64 = 0
    private static let hotSkipMicros: UInt64 = 2_000_000
    private static let announceTimer: UInt64 = 1
    private var miscount: Miscount

    /// - Parameter instance: this MsgReader's name; it announces itself as "msgreader/<name>".
    public init(instance: String, config: MsgReaderConfig = MsgReaderConfig()) {
        self.instance = instance
        self.config = config
        self.miscount = Miscount(config.fault)
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [Action] {
        switch event {
        case .start, .timer: return announce()
        case .call(let id, let payload, _): return take(id, payload, now)
        case .reply(let token, let result):
            guard let flight = flights.removeValue(forKey: token) else { return [] }
            return landed(flight, result, now)
        case .flush: return send()
        }
    }

    private mutating func take(_ id: CallID, _ payload: Payload, _ now: Instant) -> [Action] {
        switch payload {
        case .readRows(let request): return readRows(id, request.queries, now)
        case .readHeads(let request): return readHeads(id, request)
        case .serviceCalls(let request): return serve(id, request.calls)
        default: return [.refuse(id, Failure(.malformedRequest, "msgreader does not answer payload \(payload.kind)"))]
        }
    }

    func isFull(_ more: Int) -> Bool { pages.missing + historyPages + headsWaiting + more > config.maxItems }

    func full(_ id: CallID) -> Action {
        .refuse(id, Failure(.overloaded, "msgreader has \(config.maxItems) queries waiting"))
    }

    // MARK: rows

    private mutating func readRows(_ id: CallID, _ queries: [RowsQuery], _ now: Instant) -> [Action] {
        guard !queries.isEmpty else { return [.reply(id, .rowsRead(RowsRead()))] }
        guard !isFull(queries.count) else { return [full(id)] }
        let job = pages.open(id, count: queries.count)
        var actions: [Action] = []
        for (index, query) in queries.enumerated() {
            let wish = Wish.service(Slot(job: job, index: index))
            guard (1...Page.maxRows).contains(query.limit) else {
                var page = RowsPage()
                page.failure = Failure(.limitExceeded, "limit is 1 to \(Page.maxRows) rows")
                actions += settle(wish, page)
                continue
            }
            want(RowsWish(wish: wish, query: query), now)
        }
        return actions
    }

    mutating func want(_ wish: RowsWish, _ now: Instant) {
        if now.micros < hotSkippedUntil { forRecent.append(wish) } else { forHot.append(wish) }
    }

    private mutating func fromHot(_ wishes: [RowsWish], _ result: CallResult, _ now: Instant) -> [Action] {
        guard case .answered(.rowsRead(let read)) = result, read.pages.count == wishes.count else {
            if case .unknown = result { hotSkippedUntil = now.micros + Self.hotSkipMicros }
            forRecent += wishes
            return []
        }
        var actions: [Action] = []
        for (wish, page) in zip(wishes, read.pages) {
            // A cache that has never heard of a conversation does not know that it is empty.
            if page.head.seq > 0, Page.isComplete(page, for: wish.query) {
                actions += settle(wish.wish, page)
            } else {
                forRecent.append(wish)
            }
        }
        return actions
    }

    private mutating func fromRecent(_ wishes: [RowsWish], _ result: CallResult) -> [Action] {
        guard case .answered(.rowsRead(let read)) = result, read.pages.count == wishes.count else {
            var page = RowsPage()
            page.failure = Failure(.historyUnavailable, "the recent store did not answer")
            return wishes.flatMap { settle($0.wish, page) }
        }
        var actions: [Action] = []
        for (index, (wish, page)) in zip(wishes, read.pages).enumerated() {
            // Too much for one answer together with others' pages: the next call begins with it.
            if index > 0, page.hasFailure, page.failure.isCode(.overloaded) {
                forRecent.append(wish)
                continue
            }
            guard !page.hasFailure, !Page.isComplete(page, for: wish.query) else {
                actions += settle(wish.wish, page)
                continue
            }
            var broken = RowsPage()
            broken.head = page.head
            let isBehind = page.head.seq < wish.query.atLeast
            let behind = "no store has reached seq \(wish.query.atLeast) yet"
            let text = isBehind ? behind : "no store has the page without a hole"
            broken.failure = Failure(.historyUnavailable, text)
            actions += settle(wish.wish, broken)
            if !isBehind {
                let values = ["app": wish.query.appID, "conversation": wish.query.conversation]
                actions.append(.warn("the recent store's page has a hole", values))
            }
        }
        return actions
    }

    private mutating func settle(_ wish: Wish, _ read: RowsPage) -> [Action] {
        var page = read
        if !page.hasFailure { Page.applyRecalls(&page) }
        switch wish {
        case .history(let job, let index): return fill(job, index, page)
        case .service(let slot):
            guard let done = pages.fill(slot, page) else { return [] }
            var read = RowsRead()
            read.pages = done.parts
            return [.reply(done.call, .rowsRead(read))]
        }
    }

    // MARK: heads

    private mutating func readHeads(_ id: CallID, _ request: ReadHeads) -> [Action] {
        guard !isFull(request.queries.count) else { return [full(id)] }
        headsWaiting += request.queries.count
        gatherHeads(id, request)
        return []
    }

    private mutating func gatherHeads(_ id: CallID, _ request: ReadHeads) {
        let caller = (id: id, count: request.queries.count)
        let index = heads.firstIndex {
            $0.request.shardMarks == request.shardMarks
                && $0.request.queries.count + request.queries.count <= config.mergedQueries
        }
        if let index {
            heads[index].request.queries += request.queries
            heads[index].callers.append(caller)
        } else {
            heads.append(HeadsBatch(request: request, callers: [caller]))
        }
    }

    /// The store answers as many as fit, at least one. The caller among whose queries the answer ends gets those that
    /// came, and asks for the others itself; those behind it are asked for again.
    private mutating func headsCame(_ batch: HeadsBatch, _ result: CallResult) -> [Action] {
        let count = batch.request.queries.count
        guard case .answered(.headsRead(var read)) = result, !read.hasFailure, read.heads.count <= count,
            !read.heads.isEmpty || count == 0
        else {
            headsWaiting -= count
            var failure = Failure(.storeUnavailable, "the recent store did not answer")
            if case .answered(.headsRead(let read)) = result, read.hasFailure { failure = read.failure }
            return batch.callers.map { .refuse($0.id, failure) }
        }
        miscount.apply(to: &read.heads, batch.request.queries)
        var start = 0
        var actions: [Action] = []
        for caller in batch.callers {
            let end = start + caller.count
            if start < read.heads.count || caller.count == 0 {
                headsWaiting -= caller.count
                var part = HeadsRead()
                part.heads = Array(read.heads.dropFirst(start).prefix(caller.count))
                part.shardMarks = read.shardMarks
                actions.append(.reply(caller.id, .headsRead(part)))
            } else {
                var again = ReadHeads()
                again.shardMarks = batch.request.shardMarks
                again.queries = Array(batch.request.queries[start..<end])
                gatherHeads(caller.id, again)
            }
            start = end
        }
        return actions
    }

    // MARK: calls of a flush

    private mutating func landed(_ flight: Flight, _ result: CallResult, _ now: Instant) -> [Action] {
        switch flight {
        case .hot(let wishes): fromHot(wishes, result, now)
        case .recent(let wishes): fromRecent(wishes, result)
        case .heads(let batch): headsCame(batch, result)
        case .index(let items): entriesCame(items, result, now)
        }
    }

    private mutating func send() -> [Action] {
        var actions: [Action] = []
        if !entries.isEmpty {
            var load = IndexLoad()
            load.queries = entries.map(\.query)
            let flight = Flight.index(entries.map { ($0.job, $0.page) })
            actions.append(ask(.any(.user), .indexLoad(load), flight, config.storeTimeoutMS))
            entries = []
        }
        for part in parts(forHot) {
            actions.append(ask(.any(.hotStore), Self.rows(part), .hot(part), config.hotTimeoutMS))
        }
        forHot = []
        for part in parts(forRecent) {
            actions.append(ask(.any(.recentStore), Self.rows(part), .recent(part), config.storeTimeoutMS))
        }
        forRecent = []
        for batch in heads {
            let flight = Flight.heads(batch)
            actions.append(ask(.any(.recentStore), .readHeads(batch.request), flight, config.storeTimeoutMS))
        }
        heads = []
        return actions
    }

    private func parts(_ wishes: [RowsWish]) -> [[RowsWish]] {
        if wishes.count <= config.mergedQueries { return wishes.isEmpty ? [] : [wishes] }
        return stride(from: 0, to: wishes.count, by: config.mergedQueries).map { start in
            Array(wishes[start..<min(start + config.mergedQueries, wishes.count)])
        }
    }

    private static func rows(_ wishes: [RowsWish]) -> Payload {
        var request = ReadRows()
        request.queries = wishes.map(\.query)
        return .readRows(request)
    }

    private mutating func ask(_ address: Address, _ payload: Payload, _ flight: Flight, _ timeoutMS: UInt32) -> Action {
        let token = nextToken
        nextToken += 1
        flights[token] = flight
        return .call(token, address, payload, timeoutMS: timeoutMS)
    }

    private func announce() -> [Action] {
        var announce = ServiceAnnounce()
        announce.svids = [WellKnownService.history]
        announce.instanceID = "msgreader/\(instance)"
        return [
            .tell(.all(.route), .serviceAnnounce(announce)),
            .timer(Self.announceTimer, afterMS: config.announceMS),
        ]
    }
}
