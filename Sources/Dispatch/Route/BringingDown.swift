import Identity
import RPC
import Wire

/// A request for a Login on its way.
struct DownCall: Sendable {
    enum Request: Sendable {
        case deliver(DeliverRequest)
        case kick(KickRequest)
        case event(EventRequest)

        var payload: Payload {
            switch self {
            case .deliver(let request): .deliverRequest(request)
            case .kick(let request): .kickRequest(request)
            case .event(let request): .eventRequest(request)
            }
        }
    }

    let id: CallID
    let loginID: String
    let request: Request
}

/// Deliveries, kicks and events: to exactly one Login. They are passed on one by one and at once: callers keep a lane
/// per Login, and a merged call would make every lane wait for the slowest session of any.
extension RouteMachine {
    mutating func bringDown(
        _ id: CallID, _ request: DownCall.Request, _ loginID: String, _ deadline: UInt64, _ now: Instant
    ) -> [Action] {
        guard NameRule.isUser(loginID) else {
            return [.refuse(id, Failure(.malformedRequest, "login_id is missing or malformed"))]
        }
        guard deadline > now.micros else {
            return [.refuse(id, Failure(.deadlineExceeded, "the call waited past its deadline"))]
        }
        guard down.count < config.maxItems else {
            return [.refuse(id, Failure(.overloaded, "route has \(config.maxItems) calls to Logins under way"))]
        }
        var actions: [Action] = []
        if case .deliver(let delivery) = request {
            for one in delivery.deliveries where !one.traceID.isEmpty {
                actions.append(.trace(one.traceID, hop: "route down"))
            }
        }
        let token = token()
        down[token] = DownCall(id: id, loginID: loginID, request: request)
        let left = min((deadline - now.micros) / 1000 + 1, UInt64(config.downTimeoutMS))
        actions.append(.call(token, .instance(.login, loginID), request.payload, timeoutMS: UInt32(left)))
        return actions
    }

    mutating func cameUp(_ call: DownCall, _ result: CallResult, _ now: Instant) -> [Action] {
        switch result {
        case .answered(let payload): return [.reply(call.id, payload)]
        case .refused(let failure) where failure.isCode(.serviceUnavailable):
            if isLearning(now) || (logins[call.loginID] ?? 0) > now.micros {
                let text = "Login \(call.loginID) is alive or just not heard of yet"
                return [.refuse(call.id, Failure(.retry, text, retryAfterMS: config.retryAfterMS))]
            }
            return [.reply(call.id, Self.nobodyThere(call.request))]
        case .refused(let failure): return [.refuse(call.id, failure)]
        // There is no third answer to give, so the code says it; deliveries, kicks and events may all be repeated.
        case .unknown: return [.refuse(call.id, Failure(.outcomeUnknown, "Login \(call.loginID) did not answer"))]
        }
    }

    /// NOT_HERE for every target.
    private static func nobodyThere(_ request: DownCall.Request) -> Payload {
        switch request {
        case .deliver(let request):
            var response = DeliverResponse()
            response.results = request.deliveries.map { delivery in
                var result = DeliveryResult()
                result.targets = delivery.targets.map { _ in .notHere }
                result.senders = delivery.senders.map { _ in .notHere }
                return result
            }
            return .deliverResponse(response)
        case .event(let request):
            var response = EventResponse()
            response.results = request.items.map { item in
                var result = EventResult()
                result.sessions = item.sessions.map { _ in .notHere }
                return result
            }
            return .eventResponse(response)
        case .kick(let request):
            var done = Done()
            done.failures = request.items.map { _ in Failure(.serviceUnavailable, "the Login is not reachable") }
            return .done(done)
        }
    }
}
