import Foundation
import Identity
import Machinery
import RPC
import Wire

@testable import Simulator

/// Devices that send, and the rule that Login keeps for them: one ordered batch per (session, conversation) under
/// way, and after an item that has to come again everything from there on comes again, in order, with the same ids.
struct ScriptedClients: RoleMachine {
    static let role = RoleName(rawValue: "clients")
    typealias Action = RoleAction<Never>

    /// A device that writes in one conversation.
    struct Device: Sendable {
        var app: String
        var user: String
        var device: String
        var conversation: String

        init(app: String, user: String, device: String, conversation: String) {
            self.app = app
            self.user = user
            self.device = device
            self.conversation = conversation
        }
    }

    /// One device's messages, in the order in which it made them.
    struct Lane: Sendable {
        let device: Device
        var sent: [OwnMessage] = []
        var toMake: Int
        var inFlight = false
        var waiting = false
        /// An accepted message whose answer the device pretends not to have got.
        var echo: Int?

        var firstPending: Int? { sent.firstIndex { $0.state == .pending } }
        /// For the check of what is stored.
        var sentLane: SentLane {
            SentLane(
                name: SimulatedRecentStore.Name(device.app, device.conversation), user: device.user,
                device: device.device, messages: sent, isSettled: isSettled)
        }

        var isSettled: Bool { toMake == 0 && !inFlight && firstPending == nil && echo == nil }
    }

    private struct Batch {
        let lane: Int
        let calls: [Range<Int>]
        let isEcho: Bool
    }

    private(set) var lanes: [Lane]
    /// What was pushed, whole.
    private(set) var seen = SeenMessages()
    private var random: SeededRandom
    private var underWay: [UInt64: [Batch]] = [:]
    /// The highest seq that anybody was pushed, per conversation: what a recall can mean.
    private var pushed: [String: UInt64] = [:]
    private var nextToken: UInt64 = 1

    private let losesAnswers: Bool

    private static let tick: UInt64 = 1
    private static let tickMS: UInt32 = 50
    private static let firstRetry: UInt64 = 1000
    private static let itemsPerBatch = 12

    /// - Parameters:
    ///   - messages: how many each device makes.
    ///   - losesAnswers: now and then a device sends a message again although it was accepted.
    init(devices: [Device], messages: Int, seed: UInt64, losesAnswers: Bool) {
        self.losesAnswers = losesAnswers
        self.lanes = devices.map { Lane(device: $0, toMake: messages) }
        self.random = SeededRandom(seed: seed)
    }

    var isSettled: Bool { lanes.allSatisfy(\.isSettled) }

    mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return [.timer(Self.tick, afterMS: Self.tickMS)]
        case .timer(Self.tick):
            for lane in lanes.indices { make(lane, now: now) }
            return lanes.contains { $0.toMake > 0 } ? [.timer(Self.tick, afterMS: Self.tickMS)] : []
        case .timer(let id):
            lanes[Int(id - Self.firstRetry)].waiting = false
            return []
        case .call(_, .pushMessages(let body), _):
            for item in body.items {
                let message = item.record.message
                pushed[message.conversation] = max(pushed[message.conversation] ?? 0, message.seq)
                seen.saw(message.conversation, message.seq, message.message)
            }
            return []
        case .call(let id, _, _): return [.refuse(id, Failure(.noSuchMethod, "clients only ask"))]
        case .reply(let token, let result): return answered(token, result)
        case .flush: return send()
        }
    }

    // MARK: Making messages

    private mutating func make(_ lane: Int, now: Instant) {
        guard lanes[lane].toMake > 0, random.chance(0.5) else { return }
        for _ in 0..<min(lanes[lane].toMake, Int.random(in: 1...4, using: &random)) {
            lanes[lane].toMake -= 1
            var item = SendItem()
            item.clientMsgID = Data(
                MessageID.make(timeMS: now.wallMS, random: (random.next(), random.next())))
            switch (Int.random(in: 0..<100, using: &random), pushed[lanes[lane].device.conversation]) {
            case (0..<3, _): item.kind = .contentText
            case (3..<8, let newest?):
                item.kind = .contentRecall
                item.targetSeq = UInt64.random(in: 1...newest, using: &random)
            default:
                item.kind = .contentText
                item.content = Data("message \(lanes[lane].sent.count) of \(lanes[lane].device.device)".utf8)
            }
            lanes[lane].sent.append(OwnMessage(item: item))
        }
        if losesAnswers, random.chance(0.1) { lanes[lane].echo = lanes[lane].sent.firstIndex { $0.state == .accepted } }
    }

    // MARK: Sending

    private mutating func send() -> [Action] {
        var body = ServiceCalls()
        var batches: [Batch] = []
        for index in lanes.indices where !lanes[index].inFlight && !lanes[index].waiting {
            guard let (range, isEcho) = nextRange(index) else { continue }
            lanes[index].inFlight = true
            var calls: [Range<Int>] = []
            var first = range.lowerBound
            while first < range.upperBound {
                let end = min(range.upperBound, first + Int.random(in: 1...5, using: &random))
                calls.append(first..<end)
                body.calls.append(call(lanes[index], first..<end))
                first = end
            }
            batches.append(Batch(lane: index, calls: calls, isEcho: isEcho))
        }
        guard !batches.isEmpty else { return [] }
        let token = nextToken
        nextToken += 1
        underWay[token] = batches
        return [.call(token, .any(.im), .serviceCalls(body), timeoutMS: 5000)]
    }

    private mutating func nextRange(_ index: Int) -> (Range<Int>, isEcho: Bool)? {
        if let first = lanes[index].firstPending {
            return (first..<min(first + Self.itemsPerBatch, lanes[index].sent.count), false)
        }
        guard let echo = lanes[index].echo else { return nil }
        lanes[index].echo = nil
        return (echo..<(echo + 1), true)
    }

    private func call(_ lane: Lane, _ range: Range<Int>) -> ServiceCall {
        var request = SendRequest()
        request.conversation = lane.device.conversation
        request.items = lane.sent[range].map(\.item)
        var call = ServiceCall()
        call.caller.appID = lane.device.app
        call.caller.userID = lane.device.user
        call.caller.deviceID = lane.device.device
        call.caller.sessionID = "s-\(lane.device.device)"
        call.caller.loginID = "login"
        call.svid = WellKnownService.im
        call.method = 1
        call.orderKey = lane.device.conversation
        call.body = (try? request.serializedBytes() as Data) ?? Data()
        return call
    }

    // MARK: Answers

    private mutating func answered(_ token: UInt64, _ result: CallResult) -> [Action] {
        guard let batches = underWay.removeValue(forKey: token) else { return [] }
        var replies: ArraySlice<ServiceReply>?
        if case .answered(.serviceReplies(let body)) = result { replies = body.replies[...] }
        var unknown = true
        if case .refused = result { unknown = false }
        var actions: [Action] = []
        for batch in batches {
            lanes[batch.lane].inFlight = false
            var again = replies == nil
            for range in batch.calls {
                if let reply = replies?.popFirst() {
                    again = learn(batch, range, reply) || again
                } else if unknown, !batch.isEcho {
                    for index in range where lanes[batch.lane].sent[index].state == .pending {
                        lanes[batch.lane].sent[index].everUnknown = true
                    }
                }
            }
            guard again else { continue }
            lanes[batch.lane].waiting = true
            let wait = UInt32.random(in: 50...400, using: &random)
            actions.append(.timer(Self.firstRetry + UInt64(batch.lane), afterMS: wait))
        }
        return actions
    }

    /// True when something has to come again.
    private mutating func learn(_ batch: Batch, _ range: Range<Int>, _ reply: ServiceReply) -> Bool {
        guard !batch.isEcho else { return false }
        guard !reply.hasFailure, let response = try? SendResponse(serializedBytes: reply.body),
            response.results.count == range.count
        else {
            for index in range { learn(batch.lane, index, .refused, reply.failure) }
            return reply.failure.retryable
        }
        for (index, result) in zip(range, response.results) {
            learn(batch.lane, index, result.outcome, result.failure)
        }
        return range.contains { lanes[batch.lane].sent[$0].state == .pending }
    }

    private mutating func learn(_ lane: Int, _ index: Int, _ outcome: Outcome, _ failure: Failure) {
        switch outcome {
        case .accepted: lanes[lane].sent[index].state = .accepted
        case .refused where failure.isCode(.outcomeUnknown): lanes[lane].sent[index].everUnknown = true
        case .refused where failure.retryable: break
        case .refused: lanes[lane].sent[index].state = .refused(failure.reason)
        case .unknown, .UNRECOGNIZED: lanes[lane].sent[index].everUnknown = true
        }
    }
}
