import Foundation
import Identity
import Machinery
import NIOCore
import RPC
import Wire

// Making messages, sending them in order, and sending again what has to come again (sections 8 and 9).
extension DeviceMachine {
    mutating func makeMessages() {
        guard let startedMS, nowMS >= startedMS + config.writesFromMS else { return }
        let rest = (startedMS + config.writesUntilMS).subtractingReportingOverflow(nowMS)
        let ticksLeft = rest.overflow ? 1 : max(1, rest.partialValue / UInt64(DeviceConfig.tickMS))
        for name in names {
            guard let left = conversations[name]?.toMake, left > 0 else { continue }
            guard random.chance(Double(left) / Double(ticksLeft)) else { continue }
            // Two or three at once now and then, so that several are on their way.
            for _ in 0..<min(left, Int.random(in: 1...3, using: &random)) { make(name) }
        }
    }

    private mutating func make(_ name: String) {
        guard var conversation = conversations[name] else { return }
        conversation.toMake -= 1
        var item = SendItem()
        item.kind = .contentText
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<4: break  // Empty text, which IM refuses.
        case 4..<12 where conversation.lastShown > 0:
            item.kind = .contentRecall
            item.targetSeq = UInt64.random(in: 1...conversation.lastShown, using: &random)
        default: item.content = Data("\(conversation.sent.count) of \(config.device)".utf8)
        }
        conversation.sent.append(OwnMessage(item: item))
        conversations[name] = conversation
    }

    /// Ids are made from the server's time and grow.
    private mutating func messageID() -> Data {
        let serverMS = UInt64(Int64(clockMS) + serverOffMS)
        return Data(MessageID.make(timeMS: serverMS, random: (random.next(), random.next())))
    }

    /// Sends what may be sent now.
    mutating func pump(_ name: String) {
        while var conversation = conversations[name], !conversation.stopped, conversation.resendAt == nil,
            conversation.onTheWay.count < DeviceConfig.framesPerKey,
            requests.count < DeviceConfig.requestsInFlight
        {
            let most = Int.random(in: 1...4, using: &random)
            var indices: [Int] = []
            while indices.count < most, conversation.next < conversation.sent.count {
                if conversation.sent[conversation.next].state == .pending { indices.append(conversation.next) }
                conversation.next += 1
            }
            conversations[name] = conversation
            if !config.rules.resendsInOrder, conversation.turn > 0 { indices.reverse() }
            guard !indices.isEmpty else { return }
            send(name, indices)
        }
    }

    private mutating func send(_ name: String, _ indices: [Int]) {
        var request = SendRequest()
        request.conversation = name
        for index in indices {
            let known = conversations[name]?.sent[index].item.clientMsgID ?? Data()
            if known.isEmpty || !config.rules.keepsMessageIDs {
                let fresh = messageID()
                conversations[name]?.sent[index].item.clientMsgID = fresh
            }
            if let item = conversations[name]?.sent[index].item { request.items.append(item) }
        }
        let id = open(.send(name))
        conversations[name]?.onTheWay[id] = indices
        let header = Frame.RequestHeader(svid: UInt16(WellKnownService.im), method: 1, requestID: id)
        write(.orderedRequest(header, key: name, turn: conversations[name]?.turn ?? 0, request.buffer))
    }

    // MARK: Answers

    mutating func sendAnswered(_ name: String, _ id: UInt32, _ answer: Result<Data, Failure>) {
        guard let indices = conversations[name]?.onTheWay.removeValue(forKey: id) else { return }
        var broken: Failure?
        switch answer {
        case .failure(let failure):
            for index in indices { settle(name, index, .refused, failure, &broken) }
        case .success(let body):
            let results = (try? SendResponse(serializedBytes: body))?.results ?? []
            for (place, index) in indices.enumerated() {
                let result = place < results.count ? results[place] : SendResult()
                settle(name, index, result.outcome, result.failure, &broken)
            }
        }
        if let broken, conversations[name]?.stopped == false {
            conversations[name]?.stopped = true
            conversations[name]?.resendAt = nil
            waitForResend(name, atLeastMS: UInt64(broken.retryAfterMs))
        }
        if broken == nil, conversations[name]?.stopped == false { conversations[name]?.failures = 0 }
    }

    private mutating func settle(
        _ name: String, _ index: Int, _ outcome: Outcome, _ failure: Failure, _ broken: inout Failure?
    ) {
        guard conversations[name]?.sent[index].state == .pending else { return }
        switch outcome {
        case .accepted: conversations[name]?.sent[index].state = .accepted
        case .refused where failure.isCode(.outcomeUnknown) || failure.isCode(.deadlineExceeded):
            conversations[name]?.sent[index].everUnknown = true
            if broken == nil { broken = failure }
        case .refused where failure.retryable: if broken == nil { broken = failure }
        case .refused: conversations[name]?.sent[index].state = .refused(failure.reason)
        case .unknown, .UNRECOGNIZED:
            conversations[name]?.sent[index].everUnknown = true
            if broken == nil { broken = failure }
        }
    }

    /// 300 ms, doubling, at most 5 s, with jitter, counted from now; the turn ends when its last frame was answered.
    private mutating func waitForResend(_ name: String, atLeastMS: UInt64) {
        guard let failures = conversations[name]?.failures else { return }
        let most = min(DeviceConfig.retryMostMS, DeviceConfig.retryFirstMS << min(failures, 8))
        let wait = max(atLeastMS, most / 2 + UInt64.random(in: 0...most / 2, using: &random))
        conversations[name]?.failures += 1
        conversations[name]?.resendAt = nowMS + wait
    }

    /// The next turn, once the wait is over and nothing of the last one is on its way.
    mutating func resendIfDue(_ name: String) {
        guard var conversation = conversations[name], let due = conversation.resendAt, due <= nowMS,
            conversation.onTheWay.isEmpty || !config.rules.resendsInOrder
        else { return }
        guard conversation.turn < .max else { return leave() }
        conversation.turn += 1
        conversation.stopped = false
        conversation.resendAt = nil
        conversation.next = conversation.firstPending ?? conversation.sent.count
        conversations[name] = conversation
    }

    /// Everything on its way is unknown; the next connection begins with turn 0.
    mutating func connectionLost(_ name: String) {
        guard var conversation = conversations[name] else { return }
        for index in conversation.onTheWay.values.joined() where conversation.sent[index].state == .pending {
            conversation.sent[index].everUnknown = true
        }
        conversation.onTheWay = [:]
        conversation.turn = 0
        conversation.stopped = false
        conversation.resendAt = nil
        conversation.next = conversation.firstPending ?? conversation.sent.count
        conversation.repairing = false
        conversation.holeAt = nil
        conversations[name] = conversation
    }
}
