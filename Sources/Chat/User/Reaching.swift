import Identity
import RPC
import Wire

/// A conversation, across apps.
struct ConversationRef: Hashable, Sendable {
    let app: String
    let conversation: String
}

/// A set_state names only seqs that exist: a read seq above the head would hide messages that are yet to be written.
/// Heads only grow, so whoever was once seen there need not be asked for again; the writer's touches tell of most.
extension UserMachine {
    /// Whether the conversation certainly has every seq that the change names.
    mutating func isReached(_ app: String, _ change: StateChange) -> Bool {
        let seq = change.highestSeq
        guard seq > 0 else { return true }
        let head = reached[ConversationRef(app: app, conversation: change.conversation)] ?? 0
        return seq <= head
    }

    /// The conversation has this seq: a service says so, who has seen the row.
    mutating func learn(_ app: String, _ conversation: String, reached seq: UInt64) {
        let ref = ConversationRef(app: app, conversation: conversation)
        guard seq > 0, seq > reached[ref] ?? 0 else { return }
        reached[ref] = seq
    }

    /// Finds out whether the seqs exist. Members only may learn that, and a group's name does not tell who they are.
    mutating func seek(_ job: UInt64, _ index: Int) {
        guard let state = stateJobs[job] else { return }
        let conversation = state.changes[index].conversation
        if ConversationName(conversation)?.members.contains(state.caller.userID) == true {
            return seekRow(job, index)
        }
        var query = IndexQuery()
        query.appID = state.caller.appID
        query.userID = state.caller.userID
        query.conversation = conversation
        indexLoads.append((.state(job: job, index: index), query))
    }

    mutating func entryCame(_ job: UInt64, _ index: Int, _ page: IndexPage?, _ failure: Failure) -> [Action] {
        guard let page else { return finish(job, index, failure: failure) }
        guard !page.rows.isEmpty else { return finish(job, index, failure: Self.notAMember) }
        seekRow(job, index)
        return []
    }

    static var notAMember: Failure { Failure(.notAMember, "you are not in this conversation") }

    /// Asks MsgReader for the row with the highest seq: it looks wherever rows are, and says when none has it yet.
    private mutating func seekRow(_ job: UInt64, _ index: Int) {
        guard let state = stateJobs[job] else { return }
        var query = RowsQuery()
        query.appID = state.caller.appID
        query.conversation = state.changes[index].conversation
        query.fromSeq = state.changes[index].highestSeq
        query.limit = 1
        query.atLeast = query.fromSeq
        seeks.append((job, index, query))
    }

    /// Above every row: refused and worth a retry, as after a crash the store may be behind what clients were shown,
    /// and a smaller seq in its place would make messages unread that were read.
    mutating func sought(
        _ items: [(job: UInt64, index: Int, query: RowsQuery)], _ result: CallResult, _ now: Instant
    ) -> [Action] {
        var pages: [RowsPage]?
        if case .answered(.rowsRead(let read)) = result, read.pages.count == items.count { pages = read.pages }
        let unanswered = Self.failure(of: result)
        var actions: [Action] = []
        for (place, item) in items.enumerated() {
            guard let page = pages?[place] else {
                actions += finish(item.job, item.index, failure: unanswered)
                continue
            }
            guard !page.hasFailure, page.head.seq >= item.query.fromSeq else {
                let text = "there is no message \(item.query.fromSeq) yet"
                actions += finish(item.job, item.index, failure: Failure(.historyUnavailable, text))
                continue
            }
            learn(item.query.appID, item.query.conversation, reached: page.head.seq)
            write(item.job, item.index, create: false, now)
        }
        return actions
    }
}

extension StateChange {
    var highestSeq: UInt64 { max(readSeq, deliveredSeq, clearedSeq) }
}
