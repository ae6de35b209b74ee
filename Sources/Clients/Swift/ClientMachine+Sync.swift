import Identity
import NIOCore
import Wire

// Sync, read and delivered positions, presence, events.
extension ClientMachine {
    mutating func requestSync(_ nowMS: UInt64) {
        guard phase == .ready else { return }
        guard !syncRunning else { return syncAgain = true }
        syncRunning = true
        syncAgain = false
        askSync(nowMS)
    }

    /// Begins a sync, or goes on with the one whose page failed.
    mutating func syncIsDue(_ nowMS: UInt64) {
        if syncRunning { askSync(nowMS) } else { requestSync(nowMS) }
    }

    private mutating func askSync(_ nowMS: UInt64) {
        syncDueMS = nil
        var request = SyncRequest()
        request.token = .init(syncToken)
        request.limit = 200
        ask(WellKnownService.user, 1, request.buffer, .sync, nowMS)
    }

    mutating func syncAnswered(_ answer: Answer, _ nowMS: UInt64) {
        guard case .ok(let body) = answer, let response = try? SyncResponse(serializedBytes: body) else {
            // A token that is refused for good is another deployment's.
            if case .failed(let failure) = answer, !failure.retryable { syncToken = [] }
            // It still runs: a reason that comes meanwhile may concern its first pages, so it asks for one more.
            syncDueMS = after(config.repeatMS, jitterMS: config.repeatMS / 2, nowMS, &random)
            return
        }
        syncToken = Array(response.token)
        for entry in response.entries { take(entry, nowMS) }
        if response.more { return askSync(nowMS) }
        syncRunning = false
        synced = true
        for key in conversations.keys.sorted() where conversations[key]?.anchored == false { anchorAtStart(key, nowMS) }
        actions.append(.notify(.synced))
        if syncAgain { return requestSync(nowMS) }
        syncDueMS = nowMS + config.syncEveryMS
    }

    /// The finished sync did not list it, so it began after: everything of it is to be shown.
    private mutating func anchorAtStart(_ key: String, _ nowMS: UInt64) {
        guard var conversation = conversations[key] else { return }
        conversation.anchored = true
        showPrefix(&conversation, nowMS)
        watchGap(&conversation, nowMS)
        conversations[key] = conversation
    }

    private mutating func take(_ entry: ConversationEntry, _ nowMS: UInt64) {
        let key = entry.conversation
        var conversation = conversations[key] ?? LocalConversation(key)
        conversation.state.take(entry)
        conversation.syncedHead = max(conversation.syncedHead, entry.headSeq)
        conversation.head = max(
            conversation.head, entry.leftSeq > 0 ? min(entry.headSeq, entry.leftSeq - 1) : entry.headSeq)
        let isNew = !conversation.anchored
        if isNew {
            let newest = entry.headSeq > config.firstPage ? entry.headSeq - config.firstPage : 0
            conversation.anchored = true
            conversation.hideBelow(max(newest + 1, entry.joinedSeq, entry.clearedSeq + 1))
        } else {
            conversation.hideBelow(entry.clearedSeq + 1)
        }
        actions.append(.notify(.conversation(conversation.state)))
        showPrefix(&conversation, nowMS)
        if isNew && gapExists(conversation) && !conversation.repairing {
            // No push will bring the first page: ask for it at once.
            gapDueMS[key] = nowMS
        } else {
            watchGap(&conversation, nowMS)
        }
        conversations[key] = conversation
    }

    mutating func markRead(_ key: String, _ seq: UInt64, _ nowMS: UInt64) {
        guard var conversation = conversations[key], seq > conversation.state.readSeq else { return }
        let read = min(seq, max(conversation.head, conversation.shown))
        guard read > conversation.state.readSeq else { return }
        conversation.state.readSeq = read
        if read >= conversation.shown { conversation.state.unread = 0 }
        conversations[key] = conversation
        positions[key, default: .init()].merge(PositionChange(read: read))
        if positionsDueMS == nil { positionsDueMS = nowMS + config.stateMS }
        actions.append(.notify(.conversation(conversation.state)))
    }

    mutating func sendPositions(_ nowMS: UInt64) {
        guard !positionsRunning, !positions.isEmpty, openRequests.count < config.requestsInFlight else {
            if positions.isEmpty { positionsDueMS = nil }
            return
        }
        let keys = positions.keys.sorted().prefix(100)
        var request = SetStateRequest()
        var taken: [String: PositionChange] = [:]
        for key in keys {
            guard let change = positions.removeValue(forKey: key) else { continue }
            taken[key] = change
            var wanted = StateChange()
            wanted.conversation = key
            wanted.readSeq = change.read
            wanted.deliveredSeq = change.delivered
            request.changes.append(wanted)
        }
        positionsRunning = true
        positionsDueMS = nil
        ask(WellKnownService.user, 2, request.buffer, .state(taken), nowMS)
    }

    mutating func positionsAnswered(_ taken: [String: PositionChange], _ answer: Answer, _ nowMS: UInt64) {
        positionsRunning = false
        var wait = config.stateMS
        switch answer {
        case .failed(let failure) where failure.retryable:
            for (key, change) in taken { positions[key, default: .init()].merge(change) }
            wait = config.repeatMS
        case .failed: break
        case .ok(let body):
            let results = (try? SetStateResponse(serializedBytes: body))?.results ?? []
            for (key, result) in zip(taken.keys.sorted(), results) {
                if !result.ok && result.failure.retryable, let change = taken[key] {
                    positions[key, default: .init()].merge(change)
                    wait = config.repeatMS
                }
                // Reading a part leaves a number that only the server knows exactly.
                if result.ok, let change = taken[key], change.read > 0,
                    change.read < conversations[key]?.shown ?? 0
                {
                    requestSync(nowMS)
                }
            }
        }
        if !positions.isEmpty { positionsDueMS = nowMS + wait }
    }

    mutating func sendWatch(_ nowMS: UInt64) {
        guard openRequests.count < config.requestsInFlight else { return }
        var request = PresenceRequest()
        request.userIds = watched
        ask(WellKnownService.online, 2, request.buffer, .watch, nowMS)
    }

    mutating func watchAnswered(_ answer: Answer) {
        guard case .ok(let body) = answer, let response = try? PresenceResponse(serializedBytes: body) else { return }
        for user in response.users where user.state != .presenceUnknown {
            actions.append(.notify(.presence(user: user.userID, online: user.state == .presenceOnline)))
        }
    }

    mutating func happened(_ body: ByteBuffer, _ nowMS: UInt64) {
        guard let event = Event(body: body) else { return }
        if event.svid == WellKnownService.online, event.name == "presence",
            let change = try? PresenceChange(serializedBytes: Array(event.body))
        {
            return actions.append(.notify(.presence(user: change.userID, online: change.online)))
        }
        if event.svid == WellKnownService.user, event.name == "state",
            let hint = try? StateHint(serializedBytes: Array(event.body))
        {
            return take(hint, nowMS)
        }
        actions.append(.notify(.event(event)))
    }

    private mutating func take(_ hint: StateHint, _ nowMS: UInt64) {
        guard var conversation = conversations[hint.conversation] else { return requestSync(nowMS) }
        if hint.userID == userID {
            conversation.state.readSeq = max(conversation.state.readSeq, hint.readSeq)
            let readAll = hint.readSeq >= conversation.shown
            if readAll { conversation.state.unread = 0 }
            conversations[hint.conversation] = conversation
            if hint.entryChanged || (hint.readSeq > 0 && !readAll) { requestSync(nowMS) }
        } else {
            conversation.state.peerReadSeq = max(conversation.state.peerReadSeq, hint.readSeq)
            conversation.state.peerDeliveredSeq = max(
                conversation.state.peerDeliveredSeq, hint.deliveredSeq, hint.readSeq)
            conversations[hint.conversation] = conversation
        }
        actions.append(.notify(.conversation(conversation.state)))
    }
}

extension ConversationState {
    mutating func take(_ entry: ConversationEntry) {
        peer = entry.peer
        headSeq = max(headSeq, entry.headSeq)
        readSeq = max(readSeq, entry.readSeq)
        unread = readSeq >= entry.headSeq ? 0 : entry.unread
        peerReadSeq = max(peerReadSeq, entry.peerReadSeq)
        peerDeliveredSeq = max(peerDeliveredSeq, entry.peerDeliveredSeq, peerReadSeq)
        pinned = entry.pinned
        muted = entry.muted
        draft = entry.draft
    }
}
