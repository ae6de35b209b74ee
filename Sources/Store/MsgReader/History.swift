import Identity
import RPC
import Wire

/// A user's history request on its way: every page first needs the user's index entry, then its rows.
struct HistoryJob: Sendable {
    /// Seqs that the user may see: [first, end).
    struct Window: Sendable {
        var first: UInt64 = 1
        var end: UInt64 = .max
    }

    let slot: PartedCalls<ServiceReply>.Slot
    let caller: Caller
    let queries: [HistoryQuery]
    var windows: [Window]
    var pages: [HistoryPage?]
    var missing: Int
}

/// svid 6 method 1: pages of messages for a user, through the window of the user's index entry.
extension MsgReaderMachine {
    mutating func serve(_ id: CallID, _ calls: [ServiceCall]) -> [Action] {
        guard !calls.isEmpty else { return [.reply(id, .serviceReplies(ServiceReplies()))] }
        let job = services.open(id, count: calls.count)
        var actions: [Action] = []
        for (index, call) in calls.enumerated() {
            let slot = PartedCalls<ServiceReply>.Slot(job: job, index: index)
            switch request(of: call) {
            case .failure(let failure): actions += respond(slot, failure: failure)
            case .success(let request): actions += begin(slot, call.caller, request.queries)
            }
        }
        return actions
    }

    private func request(of call: ServiceCall) -> Result<HistoryRequest, Failure> {
        guard call.svid == WellKnownService.history else {
            return .failure(Failure(.noSuchService, "this is service \(WellKnownService.history), not \(call.svid)"))
        }
        guard call.method == 1 else {
            return .failure(Failure(.noSuchMethod, "history has method 1 only, not \(call.method)"))
        }
        guard let request = try? HistoryRequest(serializedBytes: call.body) else {
            return .failure(Failure(.malformedRequest, "the body is no HistoryRequest"))
        }
        guard request.queries.count <= config.maxQueries else {
            return .failure(Failure(.limitExceeded, "at most \(config.maxQueries) pages in one request"))
        }
        let rows = request.queries.reduce(UInt64(0)) { $0 + UInt64($1.limit) }
        guard rows <= UInt64(max(config.maxRowsPerRequest, config.maxRows)) else {
            let text = "the pages of one request may have \(config.maxRowsPerRequest) rows together"
            return .failure(Failure(.limitExceeded, text))
        }
        guard !isFull(request.queries.count) else {
            return .failure(Failure(.overloaded, "msgreader has \(config.maxItems) queries waiting"))
        }
        return .success(request)
    }

    private mutating func begin(
        _ slot: PartedCalls<ServiceReply>.Slot, _ caller: Caller, _ queries: [HistoryQuery]
    ) -> [Action] {
        guard !queries.isEmpty else { return respond(slot, HistoryResponse()) }
        let job = nextHistory
        nextHistory += 1
        historyPages += queries.count
        histories[job] = HistoryJob(
            slot: slot, caller: caller, queries: queries,
            windows: Array(repeating: .init(), count: queries.count),
            pages: Array(repeating: nil, count: queries.count), missing: queries.count)
        var actions: [Action] = []
        for (index, query) in queries.enumerated() {
            if let failure = fault(query) {
                actions += fill(job, index, failure: failure)
                continue
            }
            var entry = IndexQuery()
            entry.appID = caller.appID
            entry.userID = caller.userID
            entry.conversation = query.conversation
            entries.append((entry, job, index))
        }
        return actions
    }

    private func fault(_ query: HistoryQuery) -> Failure? {
        guard ConversationName(query.conversation) != nil else {
            return Failure(.badConversation, "a conversation is p:<user>|<user>, g:<group> or u:<user>")
        }
        guard (1...config.maxRows).contains(query.limit) else {
            return Failure(.limitExceeded, "limit is 1 to \(config.maxRows)")
        }
        guard query.beforeSeq == 0 || query.fromSeq < query.beforeSeq else {
            return Failure(.malformedRequest, "from_seq must be below before_seq")
        }
        return nil
    }

    /// Index entries of pages: they say what may be read.
    mutating func entriesCame(
        _ items: [(job: UInt64, page: Int)], _ result: CallResult, _ now: Instant
    ) -> [Action] {
        guard case .answered(.indexLoaded(let loaded)) = result, !loaded.hasFailure, loaded.pages.count == items.count
        else {
            let failure = Failure(.storeUnavailable, "the user index did not answer")
            return items.flatMap { fill($0.job, $0.page, failure: failure) }
        }
        var actions: [Action] = []
        for (item, entry) in zip(items, loaded.pages) {
            guard let job = histories[item.job] else { continue }
            let query = job.queries[item.page]
            guard let row = entry.rows.first(where: { $0.conversation == query.conversation }) else {
                actions += withoutEntry(item.job, item.page, query, job.caller.userID)
                continue
            }
            var window = HistoryJob.Window()
            window.first = max(1, row.joinedSeq, row.clearedSeq + 1)
            if row.leftSeq > 0 { window.end = row.leftSeq }
            histories[item.job]?.windows[item.page] = window
            let rows = Self.rowsQuery(query, window, app: job.caller.appID)
            want(RowsWish(wish: .history(job: item.job, page: item.page), query: rows), now)
        }
        return actions
    }

    /// The user has no entry: somebody else's conversation, or one of the user's own in which nothing has happened yet.
    private mutating func withoutEntry(
        _ job: UInt64, _ index: Int, _ query: HistoryQuery, _ user: String
    ) -> [Action] {
        guard ConversationName(query.conversation)?.members.contains(user) == true else {
            return fill(job, index, failure: Failure(.notAMember, "you are not in this conversation"))
        }
        // Asked for a seq that somebody has seen: the entry is on its way.
        guard query.atLeast == 0 else {
            let text = "the conversation's first message is on its way"
            return fill(job, index, failure: Failure(.historyUnavailable, text))
        }
        var page = HistoryPage()
        page.conversation = query.conversation
        page.firstVisibleSeq = 1
        return fill(job, index, done: page)
    }

    private static func rowsQuery(_ query: HistoryQuery, _ window: HistoryJob.Window, app: String) -> RowsQuery {
        var rows = RowsQuery()
        rows.appID = app
        rows.conversation = query.conversation
        rows.limit = query.limit
        rows.atLeast = query.atLeast
        if query.beforeSeq > 0 || query.fromSeq == 0 {
            // Below the end of what may be seen; 0 is "the newest".
            let before = query.beforeSeq == 0 ? window.end : min(query.beforeSeq, window.end)
            rows.beforeSeq = before == .max ? 0 : before
        } else {
            rows.fromSeq = max(query.fromSeq, window.first)
        }
        return rows
    }

    /// The rows of a page, or why there are none.
    mutating func fill(_ job: UInt64, _ index: Int, _ rows: RowsPage) -> [Action] {
        guard let history = histories[job] else { return [] }
        if rows.hasFailure { return fill(job, index, failure: rows.failure) }
        let query = history.queries[index]
        let window = history.windows[index]
        var page = HistoryPage()
        page.conversation = query.conversation
        page.headSeq = min(rows.head.seq, window.end - 1)
        page.firstVisibleSeq = window.first
        let first = max(window.first, query.fromSeq)
        page.messages = rows.rows.filter { $0.seq >= first && $0.seq < window.end }.map(Page.pushed)
        return fill(job, index, done: page)
    }

    private mutating func fill(_ job: UInt64, _ index: Int, failure: Failure) -> [Action] {
        var page = HistoryPage()
        page.conversation = histories[job]?.queries[index].conversation ?? ""
        page.failure = failure
        return fill(job, index, done: page)
    }

    private mutating func fill(_ job: UInt64, _ index: Int, done page: HistoryPage) -> [Action] {
        guard var history = histories[job], history.pages[index] == nil else { return [] }
        history.pages[index] = page
        history.missing -= 1
        historyPages -= 1
        guard history.missing == 0 else {
            histories[job] = history
            return []
        }
        histories[job] = nil
        var response = HistoryResponse()
        response.pages = Self.cut(history.pages.compactMap { $0 }, history.queries, bytes: config.maxResponseBytes)
        return respond(history.slot, response)
    }

    /// Cuts pages where the answer would not fit a frame. A page that reads upwards keeps its first rows, one that
    /// reads down keeps its last ones, so it stays dense and the asker goes on from where it ends.
    static func cut(_ pages: [HistoryPage], _ queries: [HistoryQuery], bytes limit: Int) -> [HistoryPage] {
        var left = limit
        var isFirst = true
        return zip(pages, queries).map { page, query in
            guard !page.messages.isEmpty else { return page }
            let upwards = query.fromSeq > 0 && query.beforeSeq == 0
            var kept = 0
            for message in upwards ? page.messages : page.messages.reversed() {
                let size = message.message.count + message.conversation.utf8.count + 40
                guard size <= left || (isFirst && kept == 0) else { break }
                left = max(0, left - size)
                kept += 1
            }
            isFirst = false
            var page = page
            guard kept > 0 else {
                page.messages = []
                page.failure = Failure(.retry, "the answer is full; ask for this page again")
                return page
            }
            page.messages = Array(upwards ? page.messages.prefix(kept) : page.messages.suffix(kept))
            return page
        }
    }

    private mutating func respond(_ slot: PartedCalls<ServiceReply>.Slot, _ response: HistoryResponse) -> [Action] {
        var reply = ServiceReply()
        reply.body = (try? response.serializedData()) ?? .init()
        return respond(slot, reply)
    }

    private mutating func respond(_ slot: PartedCalls<ServiceReply>.Slot, failure: Failure) -> [Action] {
        var reply = ServiceReply()
        reply.failure = failure
        return respond(slot, reply)
    }

    private mutating func respond(_ slot: PartedCalls<ServiceReply>.Slot, _ reply: ServiceReply) -> [Action] {
        guard let done = services.fill(slot, reply) else { return [] }
        var replies = ServiceReplies()
        replies.replies = done.parts
        return [.reply(done.call, .serviceReplies(replies))]
    }
}
