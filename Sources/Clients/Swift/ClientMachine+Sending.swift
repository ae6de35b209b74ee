import Identity
import NIOCore
import Wire

// Requests and their answers; the outbox: order, batches, and resending after a failure.
extension ClientMachine {
    mutating func enqueue(_ message: OutgoingMessage) {
        let sendable = ConversationName(message.conversation) != nil && message.content.count <= 32 * 1024
        guard sendable else {
            let failure =
                message.content.count > 32 * 1024
                ? Failure(.messageTooLarge, "content is at most 32 KiB")
                : Failure(.badConversation, "\(message.conversation) is no conversation")
            return actions.append(.notify(.failed(handle: message.handle, failure)))
        }
        guard outboxCount < config.outboxLimit else {
            let failure = Failure(.limitExceeded, "\(config.outboxLimit) messages are waiting already")
            return actions.append(.notify(.failed(handle: message.handle, failure)))
        }
        outboxCount += 1
        conversations[message.conversation, default: LocalConversation(message.conversation)].outbox
            .append(PendingMessage(outgoing: message))
        unwritten.insert(message.conversation)
    }

    /// Writes what gathered: sends, the push ack, a heartbeat when nothing else keeps the connection alive.
    mutating func flush(_ nowMS: UInt64) {
        if phase == .ready {
            if !unwritten.isEmpty { for key in unwritten.sorted() { pump(key, nowMS) } }
            if unackedPushes >= ackEvery || ackDueMS.map({ nowMS >= $0 }) ?? false { acknowledgePushes() }
            if out.isEmpty && nowMS >= lastWrittenMS + heartbeatMS { out.append(.ping) }
        }
        guard !out.isEmpty else { return }
        lastWrittenMS = nowMS
        actions.append(.write(out))
        out.removeAll(keepingCapacity: true)
    }

    private mutating func acknowledgePushes() {
        out.append(.pushAck(pushID: contiguousPush))
        unackedPushes = 0
        ackDueMS = nil
    }

    /// Turns what is unwritten of a conversation into ordered requests, as far as the window allows.
    private mutating func pump(_ key: String, _ nowMS: UInt64) {
        guard resendDueMS[key] == nil, var conversation = conversations[key], conversation.brokenWaitMS == nil else {
            return
        }
        while conversation.sendsInFlight < config.sendsPerConversation, openRequests.count < config.requestsInFlight,
            let first = conversation.outbox.firstIndex(where: { !$0.written })
        {
            var request = SendRequest()
            request.conversation = key
            var handles: [UInt64] = []
            var bytes = 0
            for index in first..<conversation.outbox.count {
                let content = conversation.outbox[index].outgoing.content
                guard handles.isEmpty || bytes + content.count <= config.batchBytes, handles.count < config.batchItems
                else { break }
                bytes += content.count
                if conversation.outbox[index].id.isEmpty { conversation.outbox[index].id = makeID(nowMS) }
                conversation.outbox[index].written = true
                handles.append(conversation.outbox[index].outgoing.handle)
                request.items.append(conversation.outbox[index].item)
            }
            conversation.sendsInFlight += 1
            let header = Frame.RequestHeader(svid: UInt16(WellKnownService.im), method: 1, requestID: takeRequestID())
            openRequests[header.requestID] = OpenRequest(
                purpose: .send(conversation: key, turn: conversation.turn, handles: handles), sentMS: nowMS)
            out.append(.orderedRequest(header, key: key, turn: conversation.turn, request.buffer))
        }
        if conversation.outbox.allSatisfy(\.written) { unwritten.remove(key) }
        conversations[key] = conversation
    }

    private mutating func makeID(_ nowMS: UInt64) -> [UInt8] {
        MessageID.make(timeMS: serverTimeMS(nowMS), random: (random.next(), random.next()))
    }

    mutating func takeRequestID() -> UInt32 {
        defer { nextRequestID = nextRequestID == .max ? 1 : nextRequestID + 1 }
        return nextRequestID
    }

    /// Writes an unordered request of the client's own.
    mutating func ask(
        _ svid: UInt32, _ method: UInt16, _ body: ByteBuffer, _ purpose: OpenRequest.Purpose, _ nowMS: UInt64
    ) {
        let header = Frame.RequestHeader(svid: UInt16(svid), method: method, requestID: takeRequestID())
        openRequests[header.requestID] = OpenRequest(purpose: purpose, sentMS: nowMS)
        write(.request(header, body))
    }

    mutating func appRequest(_ handle: UInt64, _ svid: UInt16, _ method: UInt16, _ body: [UInt8], _ nowMS: UInt64) {
        guard phase == .ready else {
            let failure = Failure(.serviceUnavailable, "not connected")
            return actions.append(.notify(.answer(handle: handle, .failed(failure))))
        }
        guard openRequests.count < config.requestsInFlight else {
            let failure = Failure(.tooManyInFlight, "\(config.requestsInFlight) requests wait for their answers")
            return actions.append(.notify(.answer(handle: handle, .failed(failure))))
        }
        ask(UInt32(svid), method, ByteBuffer(bytes: body), .app(handle: handle), nowMS)
    }

    mutating func answered(_ requestID: UInt32, _ answer: Answer, _ nowMS: UInt64) {
        guard let request = openRequests.removeValue(forKey: requestID) else { return }
        switch request.purpose {
        case .app(let handle): actions.append(.notify(.answer(handle: handle, answer)))
        case .send(let conversation, let turn, let handles):
            sendAnswered(conversation, turn, handles, answer, nowMS)
        case .sync: syncAnswered(answer, nowMS)
        case .history(let asked): historyAnswered(asked, answer, nowMS)
        case .state(let changes): positionsAnswered(changes, answer, nowMS)
        case .watch: watchAnswered(answer)
        }
    }

    private mutating func sendAnswered(
        _ key: String, _ turn: UInt16, _ handles: [UInt64], _ answer: Answer, _ nowMS: UInt64
    ) {
        guard var conversation = conversations[key] else { return }
        if turn == conversation.turn { conversation.sendsInFlight -= 1 }
        var broken: Failure?
        switch answer {
        case .failed(let failure):
            if failure.retryable {
                broken = failure
            } else {
                for handle in handles { fail(handle, failure, &conversation) }
            }
        case .ok(let body):
            let results = (try? SendResponse(serializedBytes: body))?.results ?? []
            for (index, handle) in handles.enumerated() {
                let result = index < results.count ? results[index] : SendResult()
                switch result.outcome {
                case .accepted: accept(handle, &conversation)
                case .refused where !result.failure.retryable: fail(handle, result.failure, &conversation)
                default: if broken == nil { broken = result.failure }
                }
            }
        }
        // An answer to an older turn still says what became of its items, but its failure is already being cured.
        if let broken, turn == conversation.turn {
            conversation.brokenWaitMS = max(conversation.brokenWaitMS ?? 0, UInt64(broken.retryAfterMs))
        }
        // Only when every frame of the turn was answered: one that is still on its way could be carried out after its
        // own resend. A frame that is never answered costs the connection.
        if let wait = conversation.brokenWaitMS, conversation.sendsInFlight == 0 {
            resendLater(&conversation, retryAfterMS: wait, nowMS)
        }
        conversations[key] = conversation
        if conversation.turn == .max { dropConnection("the turns of a conversation are used up", nowMS) }
    }

    private mutating func resendLater(_ conversation: inout LocalConversation, retryAfterMS: UInt64, _ nowMS: UInt64) {
        conversation.turn += 1
        conversation.brokenWaitMS = nil
        for index in conversation.outbox.indices { conversation.outbox[index].written = false }
        unwritten.insert(conversation.state.conversation)
        let wait = min(config.resendMostMS, config.resendFirstMS << UInt64(min(conversation.breaks, 8)))
        conversation.breaks += 1
        resendDueMS[conversation.state.conversation] =
            after(max(wait, min(retryAfterMS, config.resendMostMS)), jitterMS: wait / 4, nowMS, &random)
    }

    private mutating func accept(_ handle: UInt64, _ conversation: inout LocalConversation) {
        guard let index = conversation.outbox.firstIndex(where: { $0.outgoing.handle == handle }) else { return }
        conversation.unplaced.append(conversation.outbox.remove(at: index))
        conversation.breaks = 0
        outboxCount -= 1
        actions.append(.notify(.accepted(handle: handle)))
    }

    private mutating func fail(_ handle: UInt64, _ failure: Failure, _ conversation: inout LocalConversation) {
        guard let index = conversation.outbox.firstIndex(where: { $0.outgoing.handle == handle }) else { return }
        conversation.outbox.remove(at: index)
        outboxCount -= 1
        actions.append(.notify(.failed(handle: handle, failure)))
    }
}

extension PendingMessage {
    var item: SendItem {
        var item = SendItem()
        item.clientMsgID = .init(id)
        item.kind = outgoing.kind
        item.content = .init(outgoing.content)
        item.targetSeq = outgoing.targetSeq
        return item
    }
}
