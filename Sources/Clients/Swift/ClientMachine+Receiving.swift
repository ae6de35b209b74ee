import Foundation
import Identity
import NIOCore
import Wire

// Pushes, seq notices and history: each message once, in order, holes repaired.
extension ClientMachine {
    mutating func pushed(_ pushID: UInt32, _ body: ByteBuffer, _ nowMS: UInt64) {
        countPush(pushID, nowMS)
        guard let row = PushedMessage(body: body) else { return }
        place(row, nowMS)
    }

    mutating func noticed(_ pushID: UInt32, _ body: ByteBuffer, _ nowMS: UInt64) {
        countPush(pushID, nowMS)
        guard let notice = SeqNotice(body: body) else { return }
        for stored in notice.stored {
            let pending = conversations[stored.conversation]?.pending(Array(stored.clientMsgID))
            guard let pending else {
                // Sent before this start of the client: its place is a hole that history fills.
                raiseHead(stored.conversation, stored.seq, nowMS)
                continue
            }
            var row = PushedMessage()
            row.conversation = stored.conversation
            row.seq = stored.seq
            row.n = stored.n
            row.timeMs = stored.timeMs
            row.message = pending.asStored(by: userID, device: config.deviceID, atMS: stored.timeMs)
            place(row, nowMS)
        }
    }

    /// Push ids are counted from 1; the ack names the last one below which nothing is missing.
    private mutating func countPush(_ pushID: UInt32, _ nowMS: UInt64) {
        unackedPushes += 1
        if ackDueMS == nil { ackDueMS = nowMS + ackMS }
        guard pushID > contiguousPush else { return }
        guard pushID == contiguousPush + 1 else {
            if earlyPushes.count < config.waitingLimit { earlyPushes.insert(pushID) }
            return
        }
        contiguousPush = pushID
        while earlyPushes.remove(contiguousPush + 1) != nil { contiguousPush += 1 }
    }

    private mutating func raiseHead(_ key: String, _ seq: UInt64, _ nowMS: UInt64) {
        var conversation = conversations[key] ?? LocalConversation(key)
        conversation.head = max(conversation.head, seq)
        anchorIfNew(&conversation)
        watchGap(&conversation, nowMS)
        conversations[key] = conversation
    }

    /// After a finished sync an unknown conversation can only be new: it starts at 1.
    private func anchorIfNew(_ conversation: inout LocalConversation) {
        if synced && !syncRunning { conversation.anchored = true }
    }

    mutating func place(_ row: PushedMessage, _ nowMS: UInt64) {
        var conversation = conversations[row.conversation] ?? LocalConversation(row.conversation)
        anchorIfNew(&conversation)
        take(row, into: &conversation, nowMS)
        watchGap(&conversation, nowMS)
        conversations[row.conversation] = conversation
    }

    func isKnown(_ seq: UInt64, _ conversation: LocalConversation) -> Bool {
        (conversation.anchored && seq <= conversation.shown) || conversation.waiting[seq] != nil
    }

    mutating func take(_ row: PushedMessage, into conversation: inout LocalConversation, _ nowMS: UInt64) {
        conversation.head = max(conversation.head, row.seq)
        guard row.seq > 0, !isKnown(row.seq, conversation) else {
            redelivered += 1
            return
        }
        guard conversation.waiting.count < config.waitingLimit || row.seq == conversation.shown + 1 else { return }
        conversation.waiting[row.seq] = row
        showPrefix(&conversation, nowMS)
    }

    mutating func showPrefix(_ conversation: inout LocalConversation, _ nowMS: UInt64) {
        guard conversation.anchored else { return }
        while let next = conversation.waiting.removeValue(forKey: conversation.shown + 1) {
            conversation.shown += 1
            show(next, &conversation, nowMS)
        }
    }

    private mutating func show(_ row: PushedMessage, _ conversation: inout LocalConversation, _ nowMS: UInt64) {
        // An unreadable body still takes its place: an empty control message, so that what follows is shown.
        var message = ChatMessage()
        if let decoded = try? ChatMessage(serializedBytes: Array(row.message)) {
            message = decoded
        } else {
            message.control = true
        }
        var handle: UInt64?
        let mine = message.sender == userID
        if mine, message.device == config.deviceID { handle = settle(Array(message.clientMsgID), &conversation) }
        actions.append(
            .notify(
                .message(
                    ShownMessage(
                        conversation: row.conversation, seq: row.seq, n: row.n, timeMS: row.timeMs, message: message,
                        handle: handle))))
        if mine {
            conversation.state.readSeq = max(conversation.state.readSeq, row.seq)
            if conversation.state.readSeq >= conversation.shown { conversation.state.unread = 0 }
        } else {
            positions[row.conversation, default: .init()].merge(PositionChange(delivered: row.seq))
            if positionsDueMS == nil { positionsDueMS = nowMS + config.stateMS }
            guard row.seq > conversation.syncedHead, !message.control, row.seq > conversation.state.readSeq else {
                return
            }
            conversation.state.unread += 1
        }
        conversation.state.headSeq = max(conversation.state.headSeq, conversation.head)
        actions.append(.notify(.conversation(conversation.state)))
    }

    /// An own message is placed: it is accepted, whatever its answer would have been.
    private mutating func settle(_ id: [UInt8], _ conversation: inout LocalConversation) -> UInt64? {
        if let index = conversation.unplaced.firstIndex(where: { $0.id == id }) {
            return conversation.unplaced.remove(at: index).outgoing.handle
        }
        guard let index = conversation.outbox.firstIndex(where: { $0.id == id }) else { return nil }
        let handle = conversation.outbox.remove(at: index).outgoing.handle
        outboxCount -= 1
        actions.append(.notify(.accepted(handle: handle)))
        return handle
    }

    /// Arms or disarms the repair of a hole.
    func gapExists(_ conversation: LocalConversation) -> Bool {
        conversation.anchored && conversation.shown < conversation.head
    }

    mutating func watchGap(_ conversation: inout LocalConversation, _ nowMS: UInt64) {
        let key = conversation.state.conversation
        guard gapExists(conversation) else { return gapDueMS[key] = nil }
        guard gapDueMS[key] == nil, !conversation.repairing else { return }
        gapDueMS[key] = after(config.gapMS, jitterMS: config.gapJitterMS, nowMS, &random)
    }

    mutating func repairGaps(_ nowMS: UInt64) {
        let due = gapDueMS.filter { nowMS >= $0.value }.keys.sorted().prefix(50)
        guard !due.isEmpty, openRequests.count < config.requestsInFlight else { return }
        var request = HistoryRequest()
        for key in due {
            gapDueMS[key] = nil
            guard let conversation = conversations[key], gapExists(conversation) else { continue }
            conversations[key]?.repairing = true
            var query = HistoryQuery()
            query.conversation = key
            query.fromSeq = conversation.shown + 1
            query.limit = 200
            query.atLeast = conversation.head
            request.queries.append(query)
        }
        guard !request.queries.isEmpty else { return }
        ask(WellKnownService.history, 1, request.buffer, .history(request.queries.map(\.conversation)), nowMS)
    }

    mutating func historyAnswered(_ asked: [String], _ answer: Answer, _ nowMS: UInt64) {
        var pages: [String: HistoryPage] = [:]
        if case .ok(let body) = answer, let response = try? HistoryResponse(serializedBytes: body) {
            for page in response.pages { pages[page.conversation] = page }
        }
        for key in asked {
            guard var conversation = conversations[key] else { continue }
            conversation.repairing = false
            let before = conversation.shown
            if let page = pages[key], !page.hasFailure { take(page, into: &conversation, nowMS) }
            if gapExists(conversation) {
                // A page that brought nothing means a source behind: not at once again.
                let wait = conversation.shown > before ? 0 : config.repeatMS
                gapDueMS[key] = after(wait, jitterMS: wait / 4, nowMS, &random)
            }
            conversations[key] = conversation
        }
    }

    private mutating func take(_ page: HistoryPage, into conversation: inout LocalConversation, _ nowMS: UInt64) {
        if page.firstVisibleSeq > conversation.shown + 1 { conversation.hideBelow(page.firstVisibleSeq) }
        for row in page.messages { take(row, into: &conversation, nowMS) }
        showPrefix(&conversation, nowMS)
    }
}

extension LocalConversation {
    /// The message that this id belongs to, accepted or not.
    func pending(_ id: [UInt8]) -> PendingMessage? {
        unplaced.first { $0.id == id } ?? outbox.first { $0.id == id }
    }

    /// Seqs below are not visible: the prefix continues above them.
    mutating func hideBelow(_ seq: UInt64) {
        guard seq > 0 else { return }
        shown = max(shown, seq - 1)
        waiting = waiting.filter { $0.key > shown }
    }
}

extension PendingMessage {
    /// The stored message as IM builds it; its sent time is not told to the sender, so the row's stands in.
    func asStored(by user: String, device: String, atMS: UInt64) -> Data {
        var message = ChatMessage()
        message.sender = user
        message.device = device
        message.clientMsgID = .init(id)
        message.kind = outgoing.kind
        message.content = .init(outgoing.content)
        message.sentMs = atMS
        message.control = outgoing.kind == .contentRecall
        message.targetSeq = outgoing.targetSeq
        return (try? message.serializedData()) ?? Data()
    }
}
