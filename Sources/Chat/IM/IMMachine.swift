import Identity
import Machinery
import RPC
import Wire

/// Service 1: messages between two users. Every ordered batch goes through three stations: checked (what is known
/// here, then what User and MsgReader say), handed to MsgProxy with everything else of the flush, answered.
public struct IMMachine: RoleMachine {
    public static let role = RoleName.im
    typealias Action = RoleAction<Never>

    /// One ServiceCalls that somebody waits for.
    struct Batch {
        let id: CallID
        var replies: [ServiceReply]
        var open: Int
    }

    /// What a token of ours stands for.
    enum Asked {
        case users([UserRef])
        case rows([RecallCheck])
        case storing([UInt64])
    }

    let config: IMConfig
    var fault: FaultHook
    private var nextNumber: UInt64 = 1
    var batches: SlotTable<UInt64, Batch> = [:]
    var groups: SlotTable<UInt64, SendGroup> = [:]
    var asked: [UInt64: Asked] = [:]
    /// Groups whose facts are all there, in the order they became so.
    var ready: [UInt64] = []
    var facts: Facts
    var rates: BoundedCache<ConversationRef, TokenBucket>
    var typing: TypingQueue
    /// Copies that a test asked for.
    var doubled: [LogRecord] = []
    /// Items in `groups`.
    var itemsHeld = 0

    private static let announceTimer: UInt64 = 1
    static let sendMethod: UInt32 = 1
    static let typingMethod: UInt32 = 2

    public init(config: IMConfig) {
        self.config = config
        self.fault = config.fault
        self.facts = Facts(config: config)
        self.rates = BoundedCache(limit: config.cacheEntries)
        self.typing = TypingQueue(config: config)
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start, .timer: return announce()
        case .call(let id, .serviceCalls(let request), let deadline):
            return receive(id, request.calls, deadline: deadline, now: now)
        case .call(let id, _, _):
            return [.refuse(id, Failure(.malformedRequest, "IM takes service calls only"))]
        case .reply(let token, let result): return answered(token, result, now: now)
        case .flush: return flush(now: now)
        }
    }

    private func announce() -> [Action] {
        var body = ServiceAnnounce()
        body.svids = [WellKnownService.im]
        body.instanceID = "im/\(config.instance)"
        return [
            .tell(.all(.route), .serviceAnnounce(body)), .timer(Self.announceTimer, afterMS: config.announceMS),
        ]
    }

    mutating func number() -> UInt64 {
        defer { nextNumber += 1 }
        return nextNumber
    }

    // MARK: Calls in

    private mutating func receive(
        _ id: CallID, _ calls: [ServiceCall], deadline: UInt64, now: Instant
    ) -> [Action] {
        guard itemsHeld < config.itemsHeld else {
            return [.refuse(id, Failure(.overloaded, "IM holds \(config.itemsHeld) messages; slow down and retry"))]
        }
        let batch = number()
        batches[batch] = Batch(id: id, replies: Array(repeating: ServiceReply(), count: calls.count), open: 0)
        var actions: [Action] = []
        var opened: [SendGroup] = []
        var places: [SendGroup.Key: Int] = [:]
        for (index, call) in calls.enumerated() {
            switch parse(call) {
            case .typing(let request):
                batches[batch]?.replies[index] = typing.reply(to: request, from: call.caller, now: now)
            case .bad(let failure): batches[batch]?.replies[index].failure = failure
            case .send(let request, let peer):
                let key = SendGroup.Key(caller: call.caller, conversation: request.conversation)
                if places[key] == nil {
                    places[key] = opened.count
                    opened.append(
                        SendGroup(
                            batch: batch, caller: call.caller, conversation: request.conversation, peer: peer,
                            deadline: deadline))
                }
                opened[places[key, default: 0]].add(request, index: index, traceID: Self.traceID(call, request))
            }
        }
        for group in opened {
            batches.change(batch) { $0.open += group.calls.count }
            actions += open(group, now: now)
        }
        return actions + finish(batch)
    }

    private enum Parsed {
        case send(SendRequest, peer: String)
        case typing(TypingRequest)
        case bad(Failure)
    }

    private func parse(_ call: ServiceCall) -> Parsed {
        guard call.svid == WellKnownService.im else {
            return .bad(Failure(.noSuchService, "service \(call.svid) is not IM"))
        }
        switch call.method {
        case Self.typingMethod:
            guard let request = try? TypingRequest(serializedBytes: call.body) else {
                return .bad(Failure(.malformedRequest, "not a TypingRequest"))
            }
            return .typing(request)
        case Self.sendMethod:
            guard let request = try? SendRequest(serializedBytes: call.body) else {
                return .bad(Failure(.malformedRequest, "not a SendRequest"))
            }
            return check(request, call)
        default: return .bad(Failure(.noSuchMethod, "IM has no method \(call.method)"))
        }
    }

    private func check(_ request: SendRequest, _ call: ServiceCall) -> Parsed {
        guard !call.orderKey.isEmpty, call.orderKey == request.conversation else {
            return .bad(Failure(.malformedRequest, "send is an ordered request whose key is the conversation"))
        }
        guard let peer = ConversationName(request.conversation)?.peer(of: call.caller.userID) else {
            return .bad(Failure(.badConversation, "not a pair that you are in"))
        }
        guard !request.items.isEmpty else { return .bad(Failure(.malformedRequest, "no items")) }
        guard request.items.count <= config.itemsPerSend else {
            return .bad(Failure(.limitExceeded, "more than \(config.itemsPerSend) items"))
        }
        return .send(request, peer: peer)
    }

    private static func traceID(_ call: ServiceCall, _ request: SendRequest) -> String {
        TraceRule.legal(call.traceID.isEmpty ? request.traceID : call.traceID)
    }

    // MARK: Stations

    /// First station: what can be said at once, and what has to be asked.
    private mutating func open(_ group: SendGroup, now: Instant) -> [Action] {
        var group = group
        let number = number()
        group.check(now: now, config: config)
        itemsHeld += group.items.count
        let user = UserRef(app: group.caller.appID, user: group.peer)
        switch facts.exists(user, now: now) {
        case true?: break
        case false?: group.refuseOpen(Failure(.noSuchUser, "there is no user \(group.peer)"))
        case nil:
            facts.want(user, for: number)
            group.missing += 1
        }
        for (index, item) in group.items.enumerated() where item.isOpen && item.send.kind == .contentRecall {
            facts.want(
                RecallCheck(
                    group: number, item: index, app: group.caller.appID, conversation: group.conversation,
                    target: item.send.targetSeq,
                    madeMS: item.send.clientMsgID.withUnsafeBytes { MessageID.timeMS(bytes: $0) } ?? now.wallMS))
            group.missing += 1
        }
        let traces = group.calls.filter { !$0.traceID.isEmpty }.map { Action.trace($0.traceID, hop: "im") }
        let complete = group.missing == 0
        groups[number] = group
        if complete { ready.append(number) }
        return traces
    }

    private mutating func flush(now: Instant) -> [Action] {
        var actions = store(now: now)
        for users in facts.takeUsers(atMost: config.questionsPerCall) {
            let token = number()
            asked[token] = .users(users)
            actions.append(
                .call(token, .any(.user), .userCheck(Facts.question(users)), timeoutMS: config.timeoutMS))
        }
        for checks in facts.takeRows(atMost: config.questionsPerCall) {
            let token = number()
            asked[token] = .rows(checks)
            actions.append(
                .call(token, .any(.msgReader), .readRows(Facts.question(checks)), timeoutMS: config.timeoutMS))
        }
        return actions + typing.take()
    }

    private mutating func answered(_ token: UInt64, _ result: CallResult, now: Instant) -> [Action] {
        switch asked.removeValue(forKey: token) {
        case .users(let users): learn(users, result, now: now)
        case .rows(let checks): learn(checks, result, now: now)
        case .storing(let stored): return settle(stored, result)
        case nil: break
        }
        return []
    }

    /// Answers a call of which nothing is open any more.
    mutating func finish(_ batch: UInt64) -> [Action] {
        guard batches.change(batch, { $0.open == 0 }) == true, let waiting = batches.removeValue(forKey: batch)
        else { return [] }
        var body = ServiceReplies()
        body.replies = waiting.replies
        return [.reply(waiting.id, .serviceReplies(body))]
    }
}
