import Identity
import RPC
import Wire

/// One call of a user on its way to a service.
struct UpItem: Sendable {
    let slot: PartedCalls<ServiceReply>.Slot
    let call: ServiceCall
    let deadline: UInt64
    /// The instance that the first hand-over failed at.
    var failedAt: String?
    /// That instance did not refuse: it may have carried the call out. Only a repeatable call is tried again then, and
    /// it never becomes a certain failure any more.
    var isOpen = false
}

/// ServiceCalls: grouped by instance, one call per instance and flush.
///
/// Order: Login has one batch per (session, order_key) under way. Calls of one batch go to one instance in one call, in
/// their order. A refused hand-over was refused whole, so it is tried again whole and in front of everything that
/// waits.
extension RouteMachine {
    /// Calls that must stay together.
    private struct OrderKey: Hashable {
        let service: ServiceKey
        let app: String
        let user: String
        let device: String
        let session: String
        let key: String
    }

    /// The calls of one flush, by instance, in the order in which instances came up.
    private struct Plan {
        var batches: [(instance: ServiceTable.Instance, items: [UpItem], bytes: Int)] = []
        var position: [String: Int] = [:]
        let mostBytes: Int

        /// A batch that is big enough ends where a caller's calls end: those of one key come in one call and stay
        /// together.
        mutating func add(_ item: UpItem, to instance: ServiceTable.Instance) {
            let bytes = item.call.body.count + Self.envelopeBytes
            if let index = position[instance.id],
                batches[index].bytes + bytes <= mostBytes || batches[index].items.last?.slot.job == item.slot.job
            {
                batches[index].items.append(item)
                batches[index].bytes += bytes
            } else {
                position[instance.id] = batches.count
                batches.append((instance, [item], bytes))
            }
        }

        /// Names of the caller and numbers, about.
        private static let envelopeBytes = 256
    }

    mutating func gather(_ id: CallID, _ calls: ServiceCalls, _ deadline: UInt64) -> [Action] {
        guard !calls.calls.isEmpty else { return [.reply(id, .serviceReplies(ServiceReplies()))] }
        guard jobs.missing + calls.calls.count <= config.maxItems else {
            let text = "route has \(config.maxItems) calls waiting; slow down and retry"
            return [.refuse(id, Failure(.overloaded, text, retryAfterMS: config.retryAfterMS))]
        }
        let job = jobs.open(id, count: calls.calls.count)
        for (index, call) in calls.calls.enumerated() {
            waiting.append(UpItem(slot: .init(job: job, index: index), call: call, deadline: deadline))
        }
        return []
    }

    mutating func forward(_ now: Instant) -> [Action] {
        guard !waiting.isEmpty else { return [] }
        let items = waiting
        waiting = []
        var actions: [Action] = []
        var plan = Plan(mostBytes: config.bytesPerCall)
        var together: [OrderKey: ServiceTable.Instance] = [:]
        for item in items {
            let service = ServiceKey(svid: item.call.svid, app: item.call.caller.appID)
            if item.deadline <= now.micros {
                let failure = Failure(.deadlineExceeded, "the call waited past its deadline and was not handed over")
                actions += answer(item.slot, failure: item.isOpen ? Self.unknown : failure)
                continue
            }
            let key = orderKey(item, service)
            let known = key.flatMap { together[$0] }
            guard let instance = known ?? table.choose(service, excluding: item.failedAt, now: now.micros) else {
                actions += answer(item.slot, failure: absence(item, service, now))
                continue
            }
            if let key, known == nil { together[key] = instance }
            if TraceRule.isLegal(item.call.traceID.utf8) { actions.append(.trace(item.call.traceID, hop: "route up")) }
            plan.add(item, to: instance)
        }
        for batch in plan.batches { actions.append(send(batch.instance, batch.items, now)) }
        return actions
    }

    private func orderKey(_ item: UpItem, _ service: ServiceKey) -> OrderKey? {
        guard !item.call.orderKey.isEmpty, table.isBalanced(service) else { return nil }
        let caller = item.call.caller
        return OrderKey(
            service: service, app: caller.appID, user: caller.userID, device: caller.deviceID,
            session: caller.sessionID, key: item.call.orderKey)
    }

    private mutating func send(_ instance: ServiceTable.Instance, _ items: [UpItem], _ now: Instant) -> Action {
        var calls = ServiceCalls()
        calls.calls = items.map(\.call)
        let last = items.reduce(0) { max($0, $1.deadline) }
        let left = min((last - now.micros) / 1000 + 1, UInt64(config.upTimeoutMS))
        let token = token()
        up[token] = (instance.id, items)
        return .call(token, instance.address, .serviceCalls(calls), timeoutMS: UInt32(left))
    }

    mutating func landed(_ instance: String, _ items: [UpItem], _ result: CallResult, _ now: Instant) -> [Action] {
        switch result {
        case .answered(.serviceReplies(let replies)) where replies.replies.count == items.count:
            table.succeeded(instance)
            var actions: [Action] = []
            for (item, reply) in zip(items, replies.replies) { actions += answer(item.slot, reply) }
            return actions
        case .refused: return failed(instance, now) + tryAgain(instance, items, isOpen: false)
        case .answered, .unknown: return failed(instance, now) + tryAgain(instance, items, isOpen: true)
        }
    }

    private static let unknown = Failure(
        .outcomeUnknown, "the service did not answer; the call may have been carried out")

    /// A first failure goes to another instance at the flush that follows, unless the first one may have carried it
    /// out and its service did not say that this does no harm; a second one is the caller's.
    private mutating func tryAgain(_ instance: String, _ items: [UpItem], isOpen: Bool) -> [Action] {
        var actions: [Action] = []
        var again: [UpItem] = []
        for var item in items {
            let service = ServiceKey(svid: item.call.svid, app: item.call.caller.appID)
            if isOpen, item.failedAt != nil || !table.isRepeatable(service, item.call.method) {
                actions += answer(item.slot, failure: Self.unknown)
            } else if item.failedAt != nil {
                let text = "two instances of service \(item.call.svid) refused the call"
                let failure = item.isOpen ? Self.unknown : Failure(.serviceUnavailable, text)
                actions += answer(item.slot, failure: failure)
            } else {
                item.failedAt = instance
                item.isOpen = isOpen
                again.append(item)
            }
        }
        waiting.insert(contentsOf: again, at: 0)
        return actions
    }

    private mutating func failed(_ instance: String, _ now: Instant) -> [Action] {
        guard table.failed(instance, now: now.micros, config: config) else { return [] }
        return [.warn("instance skipped after failures in a row", ["instance": instance])]
    }

    /// Why nobody can take the call.
    private func absence(_ item: UpItem, _ service: ServiceKey, _ now: Instant) -> Failure {
        if item.isOpen { return Self.unknown }
        if item.failedAt != nil || table.knows(service, now: now.micros) {
            let text = "no instance of service \(service.svid) takes calls at present"
            return Failure(.serviceUnavailable, text, retryAfterMS: config.retryAfterMS)
        }
        if isLearning(now) {
            return Failure(.retry, "route has just started and is learning", retryAfterMS: config.retryAfterMS)
        }
        return service.svid < WellKnownService.firstOfApps
            ? Failure(.serviceUnavailable, "service \(service.svid) is not running", retryAfterMS: config.retryAfterMS)
            : Failure(.noSuchService, "the app has no service \(service.svid)")
    }

    private mutating func answer(_ slot: PartedCalls<ServiceReply>.Slot, failure: Failure) -> [Action] {
        var reply = ServiceReply()
        reply.failure = failure
        return answer(slot, reply)
    }

    private mutating func answer(_ slot: PartedCalls<ServiceReply>.Slot, _ reply: ServiceReply) -> [Action] {
        guard let done = jobs.fill(slot, reply) else { return [] }
        var replies = ServiceReplies()
        replies.replies = done.parts
        return [.reply(done.call, .serviceReplies(replies))]
    }
}
