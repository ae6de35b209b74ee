import Identity
import RPC
import Wire

/// A sync on its way. It looks at all of the user's entries in steps, because a head can move without the entry.
struct SyncJob: Sendable {
    let slot: PartedCalls<ServiceReply>.Slot
    let caller: Caller
    let limit: Int
    var token: SyncToken
    /// The page that is being put together.
    var entries: [ConversationEntry] = []
    var bytes = 0
    var steps = 0
    /// The step's rows, in the order in which their heads were asked for.
    var rows: [IndexRow] = []
    var hasMoreRows = false
    /// Other sides' rows that have not come yet.
    var peersMissing = 0
    var more = false
}

/// svid 4 method 1: the entries that changed since a token, or whose conversation's head did, with exact unread counts.
/// Base version and marks of the next token are those of the first page: what changes while a client pages is newer
/// and comes with the next sync.
extension UserMachine {
    mutating func sync(_ slot: ServiceSlot, _ call: ServiceCall) -> [Action] {
        guard let request = try? SyncRequest(serializedBytes: call.body) else {
            return respond(slot, failure: Failure(.malformedRequest, "the body is no SyncRequest"))
        }
        guard request.limit <= config.maxEntries else {
            return respond(slot, failure: Failure(.limitExceeded, "limit is at most \(config.maxEntries)"))
        }
        guard let token = request.token.isEmpty ? SyncToken() : SyncToken(request.token) else {
            return respond(slot, failure: Failure(.malformedRequest, "the token is not one of ours; start with none"))
        }
        guard syncJobs.count < config.maxSyncs else {
            return respond(slot, failure: Failure(.overloaded, "\(config.maxSyncs) syncs are under way"))
        }
        let limit = Int(request.limit == 0 ? config.usualEntries : request.limit)
        let job = newJob()
        syncJobs[job] = SyncJob(slot: slot, caller: call.caller, limit: limit, token: token)
        step(job)
        return []
    }

    private mutating func step(_ job: UInt64) {
        guard var sync = syncJobs[job] else { return }
        sync.steps += 1
        var query = IndexQuery()
        query.appID = sync.caller.appID
        query.userID = sync.caller.userID
        query.after = sync.token.cursor
        query.limit = config.scannedRows
        syncJobs[job] = sync
        indexLoads.append((.sync(job), query))
    }

    mutating func rowsCame(_ job: UInt64, _ page: IndexPage?, _ failure: Failure) -> [Action] {
        guard var sync = syncJobs[job] else { return [] }
        guard let page else { return give(job, up: failure) }
        let isFirst = sync.token.cursor.isEmpty
        if isFirst {
            sync.token.nextBase = page.version
            sync.token.session = Self.sessionHash(sync)
        }
        sync.rows = page.rows
        sync.hasMoreRows = page.more && !page.rows.isEmpty
        syncJobs[job] = sync
        // The first page asks even without rows: the marks are needed.
        guard !page.rows.isEmpty || isFirst else { return seekPeers(job) }
        askHeads(job)
        return []
    }

    private mutating func askHeads(_ job: UInt64) {
        guard let sync = syncJobs[job] else { return }
        var request = ReadHeads()
        request.shardMarks = sync.token.marks
        request.queries = sync.rows.map { Self.headQuery($0, sync) }
        let asked = (sync: job, count: request.queries.count)
        let index = heads.firstIndex {
            $0.request.shardMarks == request.shardMarks
                && $0.request.queries.count + request.queries.count <= config.mergedHeads
        }
        if let index {
            heads[index].request.queries += request.queries
            heads[index].syncs.append(asked)
        } else {
            heads.append((request, [asked]))
        }
    }

    private static func headQuery(_ row: IndexRow, _ sync: SyncJob) -> HeadQuery {
        var query = HeadQuery()
        query.appID = sync.caller.appID
        query.conversation = row.conversation
        query.userID = sync.caller.userID
        query.readSeq = row.readSeq
        query.joinedSeq = row.joinedSeq
        query.leftSeq = row.leftSeq
        query.clearedSeq = row.clearedSeq
        query.always = row.version > sync.token.base || sync.token.marks.isEmpty
        return query
    }

    /// The answer has the first heads, as many as fit and at least one. A sync that got some of its own goes on behind
    /// them; one that got none asks again.
    mutating func headsCame(_ syncs: [(sync: UInt64, count: Int)], _ result: CallResult) -> [Action] {
        let count = syncs.reduce(0) { $0 + $1.count }
        guard case .answered(.headsRead(let read)) = result, !read.hasFailure, read.heads.count <= count,
            !read.heads.isEmpty || count == 0
        else {
            var stated: Failure?
            if case .answered(.headsRead(let read)) = result, read.hasFailure { stated = read.failure }
            let failure = Self.failure(of: result, stated)
            return syncs.flatMap { give($0.sync, up: failure) }
        }
        var start = 0
        var actions: [Action] = []
        for asked in syncs {
            guard start < read.heads.count || asked.count == 0 else {
                askHeads(asked.sync)
                continue
            }
            let states = read.heads.dropFirst(start).prefix(asked.count)
            start += asked.count
            if syncJobs[asked.sync]?.token.cursor.isEmpty == true {
                syncJobs[asked.sync]?.token.nextMarks = read.shardMarks
            }
            actions += select(asked.sync, Array(states))
        }
        return actions
    }

    /// Takes from a step's rows what changed, until the page is full.
    private mutating func select(_ job: UInt64, _ states: [HeadState]) -> [Action] {
        guard var sync = syncJobs[job] else { return [] }
        let everything = sync.token.base == 0 && sync.token.marks.isEmpty
        if states.count < sync.rows.count { sync.hasMoreRows = true }
        var isFull = false
        for (row, state) in zip(sync.rows, states) {
            if everything || state.changed || row.version > sync.token.base {
                let entry = Self.entry(row, state, user: sync.caller.userID)
                let names = 2 * row.conversation.utf8.count + entry.peer.utf8.count
                let size = entry.last.message.count + entry.draft.utf8.count + names + Self.entryFieldBytes
                let fits = sync.entries.isEmpty || sync.bytes + size <= config.maxResponseBytes
                guard sync.entries.count < sync.limit, fits else {
                    isFull = true
                    break
                }
                sync.entries.append(entry)
                sync.bytes += size
            }
            sync.token.cursor = row.conversation
        }
        sync.more = isFull || sync.hasMoreRows
        let goesOn = !isFull && sync.hasMoreRows && sync.entries.count < sync.limit && sync.steps < config.maxSteps
        syncJobs[job] = sync
        if goesOn {
            step(job)
            return []
        }
        return seekPeers(job)
    }

    /// Tags, lengths and numbers of an entry: those of a busy conversation, not the largest that could be.
    private static let entryFieldBytes = 96

    private static func entry(_ row: IndexRow, _ state: HeadState, user: String) -> ConversationEntry {
        var entry = ConversationEntry()
        entry.conversation = row.conversation
        entry.version = row.version
        entry.joinedSeq = row.joinedSeq
        entry.leftSeq = row.leftSeq
        entry.clearedSeq = row.clearedSeq
        entry.readSeq = row.readSeq
        entry.deliveredSeq = row.deliveredSeq
        entry.pinned = row.pinned
        entry.muted = row.muted
        entry.draft = row.draft
        entry.headSeq = row.leftSeq > 0 ? min(state.seq, row.leftSeq - 1) : state.seq
        entry.headN = state.n
        entry.headTimeMs = state.timeMs
        entry.unread = state.unread
        if state.hasLast, state.last.seq > 0 {
            entry.last.conversation = row.conversation
            entry.last.seq = state.last.seq
            entry.last.n = state.last.n
            entry.last.timeMs = state.last.timeMs
            entry.last.message = state.last.message
        }
        entry.peer = row.peer.isEmpty ? ConversationName(row.conversation)?.peer(of: user) ?? "" : row.peer
        return entry
    }

    // MARK: the other sides

    private mutating func seekPeers(_ job: UInt64) -> [Action] {
        guard var sync = syncJobs[job] else { return [] }
        for (index, entry) in sync.entries.enumerated() where !entry.peer.isEmpty {
            var query = IndexQuery()
            query.appID = sync.caller.appID
            query.userID = entry.peer
            query.conversation = entry.conversation
            indexLoads.append((.peer(job, entry: index), query))
            sync.peersMissing += 1
        }
        syncJobs[job] = sync
        return sync.peersMissing == 0 ? finish(job) : []
    }

    mutating func peerCame(_ job: UInt64, _ index: Int, _ page: IndexPage?, _ failure: Failure) -> [Action] {
        guard var sync = syncJobs[job] else { return [] }
        guard let page else { return give(job, up: failure) }
        if let row = page.rows.first(where: { $0.conversation == sync.entries[index].conversation }) {
            sync.entries[index].peerReadSeq = row.readSeq
            sync.entries[index].peerDeliveredSeq = row.deliveredSeq
        }
        sync.peersMissing -= 1
        syncJobs[job] = sync
        return sync.peersMissing == 0 ? finish(job) : []
    }

    private mutating func finish(_ job: UInt64) -> [Action] {
        guard let sync = syncJobs.removeValue(forKey: job) else { return [] }
        var token = sync.token
        var more = sync.more
        if !sync.more {
            token = SyncToken()
            token.base = sync.token.nextBase
            token.marks = sync.token.nextMarks
            // The first pages were read before this session was registered: what was pushed to nobody in between may
            // belong to them. So the client goes round once more, from where they were.
            more = sync.token.session != Self.sessionHash(sync)
        }
        var response = SyncResponse()
        response.token = token.bytes
        response.more = more
        response.entries = sync.entries
        var reply = ServiceReply()
        reply.body = (try? response.serializedData()) ?? .init()
        return respond(sync.slot, reply)
    }

    private static func sessionHash(_ sync: SyncJob) -> UInt64 { max(1, StableHash.of(sync.caller.sessionID)) }

    private mutating func give(_ job: UInt64, up failure: Failure) -> [Action] {
        guard let sync = syncJobs.removeValue(forKey: job) else { return [] }
        return respond(sync.slot, failure: failure)
    }
}
