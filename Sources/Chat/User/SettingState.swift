import Identity
import RPC
import Wire

/// A set_state on its way: answered when every change is durable or refused.
struct StateJob: Sendable {
    let slot: PartedCalls<ServiceReply>.Slot
    let caller: Caller
    let changes: [StateChange]
    /// Changes that create their entry: tried once.
    var creating: Set<Int> = []
    var results: [StateResult?]
    var missing: Int
}

/// svid 4 method 2: read, delivered, cleared, pin, mute and draft, merged into one write a second per entry; then
/// hints to the user's other devices and, for what they show of it, to the other side.
extension UserMachine {
    mutating func setState(_ slot: ServiceSlot, _ call: ServiceCall, _ now: Instant) -> [Action] {
        guard let request = try? SetStateRequest(serializedBytes: call.body) else {
            return respond(slot, failure: Failure(.malformedRequest, "the body is no SetStateRequest"))
        }
        guard request.changes.count <= config.maxChanges else {
            return respond(slot, failure: Failure(.limitExceeded, "at most \(config.maxChanges) changes in one call"))
        }
        guard !isWriterFull, stateChanges + request.changes.count <= config.maxItems else {
            return respond(slot, failure: Failure(.overloaded, "user has too many writes waiting"))
        }
        guard !request.changes.isEmpty else { return respond(slot, ServiceReply()) }
        let job = newJob()
        let count = request.changes.count
        stateChanges += count
        stateJobs[job] = StateJob(
            slot: slot, caller: call.caller, changes: request.changes,
            results: Array(repeating: nil, count: count), missing: count)
        var actions: [Action] = []
        for (index, change) in request.changes.enumerated() {
            if let failure = fault(change) {
                actions += finish(job, index, failure: failure)
            } else if isReached(call.caller.appID, change) {
                write(job, index, create: false, now)
            } else {
                seek(job, index)
            }
        }
        return actions
    }

    private func fault(_ change: StateChange) -> Failure? {
        guard ConversationName(change.conversation) != nil else {
            return Failure(.badConversation, "a conversation is p:<user>|<user>, g:<group> or u:<user>")
        }
        guard max(change.readSeq, change.clearedSeq, change.deliveredSeq) <= config.maxSeq else {
            return Failure(.malformedRequest, "a seq is at most \(config.maxSeq)")
        }
        guard change.draft.utf8.count <= config.maxDraftBytes else {
            return Failure(.limitExceeded, "a draft has at most \(config.maxDraftBytes) bytes")
        }
        return nil
    }

    mutating func write(_ job: UInt64, _ index: Int, create: Bool, _ now: Instant) {
        guard let state = stateJobs[job] else { return }
        let new = state.changes[index]
        let key = EntryKey(app: state.caller.appID, user: state.caller.userID, conversation: new.conversation)
        var change = EntryChange(key)
        change.change.change = new
        change.waiters = [.state(job: job, index: index)]
        change.sessions = [state.caller.sessionID]
        if create {
            change.change.create = true
            change.change.joinedSeq = 1
            change.change.peer = ConversationName(new.conversation)?.peer(of: key.user) ?? ""
        }
        writer.add(key, change, now: now.micros)
    }

    /// `row` is nil when the store did not answer, and of version 0 when there is no such entry.
    mutating func stateSaved(
        _ job: UInt64, _ index: Int, _ key: EntryKey, _ row: IndexRow?, _ failure: Failure, _ now: Instant
    ) -> [Action] {
        guard let row else { return finish(job, index, failure: failure) }
        guard row.version == 0 else {
            var result = StateResult()
            result.ok = true
            result.version = row.version
            return finish(job, index, result)
        }
        // The user's own conversations may be written to before their first message: a draft, or a push that was faster
        // than the entry. Anybody else's not.
        let name = ConversationName(key.conversation)
        guard stateJobs[job]?.creating.contains(index) == false, name?.members.contains(key.user) == true else {
            return finish(job, index, failure: Self.notAMember)
        }
        stateJobs[job]?.creating.insert(index)
        if let peer = name?.peer(of: key.user) {
            loads.append((.peer(job: job, index: index), Self.key(key.app, peer)))
        } else {
            write(job, index, create: true, now)
        }
        return []
    }

    mutating func peerLoaded(
        _ job: UInt64, _ index: Int, _ exists: Bool?, _ failure: Failure, _ now: Instant
    ) -> [Action] {
        guard let exists else { return finish(job, index, failure: failure) }
        guard exists else { return finish(job, index, failure: Failure(.noSuchUser, "the other side does not exist")) }
        write(job, index, create: true, now)
        return []
    }

    mutating func finish(_ job: UInt64, _ index: Int, failure: Failure) -> [Action] {
        var result = StateResult()
        result.failure = failure
        return finish(job, index, result)
    }

    private mutating func finish(_ job: UInt64, _ index: Int, _ result: StateResult) -> [Action] {
        guard var state = stateJobs[job], state.results[index] == nil else { return [] }
        state.results[index] = result
        state.missing -= 1
        stateChanges -= 1
        guard state.missing == 0 else {
            stateJobs[job] = state
            return []
        }
        stateJobs[job] = nil
        var response = SetStateResponse()
        response.results = state.results.compactMap { $0 }
        var reply = ServiceReply()
        reply.body = (try? response.serializedData()) ?? .init()
        return respond(state.slot, reply)
    }

    /// Best effort: who misses it learns by sync.
    mutating func hint(_ key: EntryKey, _ written: EntryChange, _ row: IndexRow) {
        let change = written.change.change
        let movedSeqs = change.readSeq > 0 || change.deliveredSeq > 0
        var hint = StateHint()
        hint.conversation = key.conversation
        hint.userID = key.user
        hint.readSeq = row.readSeq
        hint.deliveredSeq = row.deliveredSeq
        if movedSeqs, let peer = ConversationName(key.conversation)?.peer(of: key.user) {
            push(hint, to: Self.key(key.app, peer), notSession: "")
        }
        hint.entryChanged = change.hasPinned || change.hasMuted || change.hasDraft || change.clearedSeq > 0
        // Several sessions in one write: each learns of the others' part, so nobody is left out.
        let only = written.sessions.count == 1 ? written.sessions.first ?? "" : ""
        push(hint, to: Self.key(key.app, key.user), notSession: only)
    }

    private mutating func push(_ hint: StateHint, to user: UserKey, notSession: String) {
        var event = PushEvent()
        event.users = [user]
        event.event.svid = WellKnownService.user
        event.event.name = "state"
        event.event.body = (try? hint.serializedData()) ?? .init()
        event.notSession = notSession
        events.append(event)
    }
}
