import Foundation
import Identity
import Machinery
import NIOCore
import RPC
import Wire

// Pushes and seq notices, the dense prefix, holes, and telling what was read (sections 10, 12 and 13).
extension DeviceMachine {
    mutating func pushed(_ id: UInt32, _ body: ByteBuffer) {
        count(id)
        guard let message = PushedMessage(body: body) else { return }
        if conversations[message.conversation] == nil { wantSync() }
        take(message, .push)
    }

    mutating func noticed(_ id: UInt32, _ body: ByteBuffer) {
        count(id)
        guard let notice = SeqNotice(body: body) else { return }
        for stored in notice.stored {
            let mine = conversations[stored.conversation]?.sent.contains { $0.item.clientMsgID == stored.clientMsgID }
            guard mine == true else {
                raiseHead(stored.conversation, stored.seq)
                continue
            }
            let shown = ShownMessage(
                seq: stored.seq, n: stored.n, timeMS: stored.timeMs, sender: config.user, device: config.device,
                clientMsgID: stored.clientMsgID, source: .notice)
            place(stored.conversation, shown)
        }
    }

    /// Push ids: the ack names the end of the unbroken run.
    private mutating func count(_ id: UInt32) {
        unacked += 1
        if ackAtMS == nil { ackAtMS = nowMS + ackMS }
        guard id > unbroken else { return }
        early.insert(id)
        while early.remove(unbroken + 1) != nil { unbroken += 1 }
    }

    mutating func take(_ message: PushedMessage, _ source: ShownMessage.Source) {
        let chat = (try? ChatMessage(serializedBytes: message.message)) ?? ChatMessage()
        let shown = ShownMessage(
            seq: message.seq, n: message.n, timeMS: message.timeMs, sender: chat.sender, device: chat.device,
            clientMsgID: chat.clientMsgID, source: source)
        place(message.conversation, shown)
    }

    private mutating func place(_ name: String, _ message: ShownMessage) {
        guard var conversation = conversations[name], message.seq > 0 else { return }
        conversation.head = max(conversation.head, message.seq)
        let isKnown = message.seq <= conversation.lastShown || conversation.waiting[message.seq] != nil
        if isKnown { conversation.redelivered += 1 }
        if !config.rules.showsDensePrefix || (isKnown && !config.rules.ignoresKnownSeqs) {
            conversation.shown.append(message)
        } else if !isKnown {
            conversation.waiting[message.seq] = message
            while let next = conversation.waiting.removeValue(forKey: conversation.lastShown + 1) {
                conversation.shown.append(next)
            }
        }
        conversations[name] = conversation
        watchHole(name)
    }

    mutating func raiseHead(_ name: String, _ seq: UInt64) {
        guard let known = conversations[name]?.head else { return }
        conversations[name]?.head = max(known, seq)
        watchHole(name)
    }

    // MARK: Holes

    mutating func watchHole(_ name: String) {
        guard let conversation = conversations[name] else { return }
        guard conversation.hasHole else {
            conversations[name]?.holeAt = nil
            return
        }
        guard conversation.holeAt == nil, !conversation.repairing else { return }
        let jitter = UInt64.random(in: 0...DeviceConfig.holeJitterMS, using: &random)
        conversations[name]?.holeAt = nowMS + DeviceConfig.holeMS + jitter
    }

    mutating func repairHoles() {
        guard config.rules.repairsHoles else { return }
        let due = names.filter { (conversations[$0]?.holeAt ?? .max) <= nowMS }
        guard !due.isEmpty, requests.count < DeviceConfig.requestsInFlight else { return }
        var request = HistoryRequest()
        for name in due {
            conversations[name]?.holeAt = nil
            conversations[name]?.repairing = true
            var query = HistoryQuery()
            query.conversation = name
            query.fromSeq = (conversations[name]?.lastShown ?? 0) + 1
            query.limit = UInt32.random(in: 3...60, using: &random)
            query.atLeast = conversations[name]?.head ?? 0
            request.queries.append(query)
        }
        ask(WellKnownService.history, 1, request.buffer, .history(due))
    }

    mutating func historyAnswered(_ asked: [String], _ answer: Result<Data, Failure>) {
        var pages: [HistoryPage] = []
        if case .success(let body) = answer, let response = try? HistoryResponse(serializedBytes: body) {
            pages = response.pages
        }
        for name in asked { conversations[name]?.repairing = false }
        for page in pages where !page.hasFailure {
            raiseHead(page.conversation, page.headSeq)
            for message in page.messages { take(message, .history) }
        }
        for name in asked { watchHole(name) }
    }

    // MARK: Read and delivered

    /// The user looks at a conversation now and then, and reads some or all of it.
    mutating func readSomething() {
        guard let startedMS, nowMS < startedMS + config.writesUntilMS + 2000, random.chance(0.01),
            let name = names.randomElement(using: &random), let conversation = conversations[name],
            conversation.lastShown > conversation.read
        else { return }
        conversations[name]?.read = UInt64.random(
            in: conversation.read + 1...conversation.lastShown, using: &random)
    }

    mutating func tellState() {
        guard !stating, nowMS >= stateAtMS, requests.count < DeviceConfig.requestsInFlight else { return }
        var request = SetStateRequest()
        var wishes: [String: DeviceRequest.StateWish] = [:]
        for name in names {
            guard let conversation = conversations[name],
                conversation.read > conversation.readConfirmed
                    || conversation.delivered > conversation.deliveredConfirmed
            else { continue }
            var change = StateChange()
            change.conversation = name
            change.readSeq = conversation.read
            change.deliveredSeq = conversation.delivered
            request.changes.append(change)
            wishes[name] = .init(read: conversation.read, delivered: conversation.delivered)
        }
        guard !wishes.isEmpty else { return }
        stating = true
        ask(WellKnownService.user, 2, request.buffer, .state(wishes))
    }

    mutating func stateAnswered(_ wishes: [String: DeviceRequest.StateWish], _ answer: Result<Data, Failure>) {
        stating = false
        stateAtMS = nowMS + DeviceConfig.stateMS
        guard case .success(let body) = answer,
            let response = try? SetStateResponse(serializedBytes: body), response.results.count == wishes.count
        else { return }
        for (name, result) in zip(wishes.keys.sorted(), response.results) where result.ok {
            guard let wish = wishes[name], let conversation = conversations[name] else { continue }
            conversations[name]?.readConfirmed = max(conversation.readConfirmed, wish.read)
            conversations[name]?.deliveredConfirmed = max(conversation.deliveredConfirmed, wish.delivered)
        }
    }
}
