import Machinery
import NIOCore
import RPC
import Wire

/// Deliveries whose targets are not all settled.
struct DeliveryDesk: Sendable {
    struct Pending: Sendable {
        var results: [DeliveryResult]
        var open: Int
        let forgetMicros: UInt64

        /// How many are open now.
        mutating func settle(_ waiter: Waiter, _ hand: Hand) -> Int {
            let item = Int(waiter.item)
            let target = Int(waiter.target)
            if waiter.sender {
                results[item].senders[target] = hand
            } else {
                results[item].targets[target] = hand
            }
            open -= 1
            return open
        }
    }

    /// By call.
    var pending: SlotTable<UInt64, Pending> = [:]
    /// Calls in the order they came, with when to forget them.
    var order: [(call: UInt64, forgetMicros: UInt64)] = []
    /// Sessions with frames to write at the flush.
    var touched: [ConnectionID] = []
    /// Pushes so far; for test faults.
    var pushes: UInt64 = 0
}

extension LoginMachine {
    mutating func deliver(_ call: CallID, _ request: DeliverRequest, _ deadline: UInt64) {
        var results: [DeliveryResult] = []
        results.reserveCapacity(request.deliveries.count)
        var open = 0
        for (index, delivery) in request.deliveries.enumerated() {
            if !delivery.traceID.isEmpty { emit(.trace(delivery.traceID, hop: "deliver")) }
            var result = DeliveryResult()
            // Encoded once, whatever the number of targets.
            let body = delivery.targets.isEmpty ? ByteBuffer() : delivery.message.buffer
            for (place, target) in delivery.targets.enumerated() {
                let waiter = Waiter(call: call.value, item: Int32(index), target: Int32(place), sender: false)
                let hand = push(target, delivery.message, body, waiter)
                result.targets.append(hand ?? .notHere)
                if hand == nil { open += 1 }
            }
            for (place, sender) in delivery.senders.enumerated() {
                let waiter = Waiter(call: call.value, item: Int32(index), target: Int32(place), sender: true)
                let hand = notice(sender, delivery, waiter)
                result.senders.append(hand ?? .notHere)
                if hand == nil { open += 1 }
            }
            results.append(result)
        }
        let forget = deadline + config.deliveryGraceMS * 1000
        let pending = DeliveryDesk.Pending(results: results, open: open, forgetMicros: forget)
        guard open > 0 else { return answer(call.value, pending) }
        deliveries.pending[call.value] = pending
        deliveries.order.append((call.value, forget))
    }

    /// The hand when it is settled at once; nil when the waiter waits.
    private mutating func push(
        _ target: SessionRef, _ message: PushedMessage, _ body: ByteBuffer, _ waiter: Waiter
    ) -> Hand? {
        guard let id = find(target) else { return .notHere }
        let room = connections.change(id) {
            $0.room(for: message.conversation, message.seq, notice: false, waiter, config)
        }
        guard room == .free else { return room == .joined ? nil : .full }
        deliveries.touched.append(id)
        guard let faults = config.testFault else {
            connections.change(id) { $0.session?.window.push(message, body: body, waiter) }
            return nil
        }
        deliveries.pushes += 1
        switch faults(deliveries.pushes, message) {
        case .none: connections[id]?.session?.window.push(message, body: body, waiter)
        case .skipFirstWrite: connections[id]?.session?.window.push(message, body: body, waiter, skipped: true)
        case .drop: return .delivered
        case .sendInstead(let other): connections[id]?.session?.window.push(other, body: other.buffer, waiter)
        case .swapWithNext: connections[id]?.session?.window.swapWithNext(message, body: body, waiter)
        case .alsoSend(let other):
            connections[id]?.session?.window.push(message, body: body, waiter)
            connections[id]?.session?.window.push(other, body: other.buffer, nil)
        }
        return nil
    }

    private mutating func notice(_ sender: SessionRef, _ delivery: Delivery, _ waiter: Waiter) -> Hand? {
        guard let id = find(sender) else { return .notHere }
        let message = delivery.message
        let room = connections.change(id) {
            $0.room(for: message.conversation, message.seq, notice: true, waiter, config)
        }
        guard room == .free else { return room == .joined ? nil : .full }
        var stored = SeqNotice.Stored()
        stored.conversation = message.conversation
        stored.clientMsgID = delivery.clientMsgID
        stored.seq = message.seq
        stored.n = message.n
        stored.timeMs = message.timeMs
        connections.change(id) { $0.session?.window.notice(stored, waiter) }
        deliveries.touched.append(id)
        return nil
    }

    /// The session, if it is here.
    func find(_ ref: SessionRef) -> ConnectionID? { sessions[ref.sessionID] }

    mutating func settle(_ waiter: Waiter, _ hand: Hand) {
        let open = deliveries.pending.change(waiter.call) { $0.settle(waiter, hand) }
        if open == 0, let done = deliveries.pending.removeValue(forKey: waiter.call) { answer(waiter.call, done) }
    }

    private mutating func answer(_ call: UInt64, _ pending: DeliveryDesk.Pending) {
        var response = DeliverResponse()
        response.results = pending.results
        emit(.reply(CallID(call), .deliverResponse(response)))
    }

    /// Answers calls whose callers have stopped listening, so that nothing waits for ever.
    mutating func forgetDeliveries() {
        var passed = 0
        for (call, forget) in deliveries.order {
            let pending = deliveries.pending[call]
            guard pending == nil || forget <= now.micros else { break }
            passed += 1
            guard let pending else { continue }
            deliveries.pending[call] = nil
            answer(call, pending)
        }
        if passed > 0 { deliveries.order.removeFirst(passed) }
    }

    // MARK: - Windows

    mutating func flushWindows() {
        guard !deliveries.touched.isEmpty else { return }
        let touched = deliveries.touched
        deliveries.touched = []
        var frames: [Frame] = []
        for id in touched {
            let exhausted = connections.change(id) { $0.writeWindow(&frames, now: now.micros) }
            for frame in frames { write(id, frame) }
            frames.removeAll(keepingCapacity: true)
            if exhausted == true {
                refuse(id, Failure(.goingAway, "the session has used up its push ids"))
            } else {
                schedulePush(id)
            }
        }
    }

    mutating func acknowledged(_ id: ConnectionID, _ pushID: UInt32) {
        var settled: [Waiter] = []
        let ack = connections.change(id) {
            $0.session?.window.acknowledge(pushID, now: now.micros) { settled.append($0) }
        }
        switch ack {
        case .impossible: return refuse(id, Failure(.unexpectedFrame, "PUSH_ACK \(pushID) was never sent"))
        case .old, nil: return
        case .settled: break
        }
        for waiter in settled { settle(waiter, .delivered) }
        payOwedSync(id)
    }

    /// SYNC_NEEDED, once there is room again for what the client would miss next.
    private mutating func payOwedSync(_ id: ConnectionID) {
        let pays = connections.change(id) { connection in
            guard connection.session?.owesSync == true, connection.takesPush(config) else { return false }
            connection.session?.owesSync = false
            return true
        }
        if pays == true { syncNeeded(id, "window_full") }
    }

    mutating func syncNeeded(_ id: ConnectionID, _ reason: String) {
        var body = SyncNeeded()
        body.reason = reason
        write(id, .syncNeeded(body.buffer))
    }

    private mutating func schedulePush(_ id: ConnectionID) {
        guard let due = connections.change(id, { $0.nextPushEntry(config) }) else { return }
        wheel.add(.init(connection: id, kind: .push), atMicros: due)
    }

    mutating func pushDue(_ id: ConnectionID) {
        switch connections.change(id, { $0.pushDue(now: now.micros, config) }) {
        case nil: return
        case .nothing: break
        case .stuck:
            return refuse(id, Failure(.slowConsumer, "nothing was read for \(config.slowConsumerMS) ms"))
        case .unacknowledged:
            return refuse(id, Failure(.pushAckTimeout, "no PUSH_ACK for \(config.pushAckTimeoutMS) ms"))
        case .again(let frames): for frame in frames { write(id, frame) }
        }
        schedulePush(id)
    }

    mutating func writable(_ id: ConnectionID, _ writable: Bool) {
        guard connections[id]?.finished == false else { return }
        connections[id]?.stuckMicros = writable ? 0 : max(1, now.micros)
        adjustReading(id)
        if writable { payOwedSync(id) } else { schedulePush(id) }
    }
}
