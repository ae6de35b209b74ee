import RPC
import Wire

/// PushEvents: one look-up per flush, then one EventRequest per Login; answered with one hand per online device.
struct EventFanOut: Sendable {
    private struct User: Hashable, Sendable {
        var app: String
        var id: String
    }

    /// One call on its way; `open` counts the requests that have not ended.
    private struct Pending: Sendable {
        var call: CallID
        var events: [PushEvent]
        var results: [EventResult]
        var open = 0
    }

    /// Where in which call's results a session's hand belongs.
    private struct Place: Sendable {
        var pending: UInt64
        var event: Int
        var hand: Int
    }

    private struct Request: Sendable {
        var items: [EventItem] = []
        var places: [[Place]] = []
    }

    private struct Lookup: Sendable {
        var pending: [UInt64]
        var users: [User: Int]
    }

    private let config: PushProxyConfig
    private var gathered: [UInt64] = []
    private var pending: [UInt64: Pending] = [:]
    private var lookups: [UInt64: Lookup] = [:]
    private var requests: [UInt64: Request] = [:]
    private var nextPending: UInt64 = 1
    private(set) var waiting = 0

    init(config: PushProxyConfig) { self.config = config }

    mutating func accept(_ id: CallID, _ events: [PushEvent]) -> [RoleAction<Never>] {
        guard !events.isEmpty else { return [.reply(id, .pushEventResults(PushEventResults()))] }
        guard waiting + events.count <= config.maxWaitingEvents else {
            return [.refuse(id, Failure(.overloaded, "PushProxy holds \(waiting) events; retry later"))]
        }
        let users = events.reduce(0) { $0 + $1.users.count }
        guard users <= config.maxLookupUsers else {
            let most = config.maxLookupUsers
            return [.refuse(id, Failure(.limitExceeded, "\(users) users in one call; at most \(most)"))]
        }
        waiting += events.count
        let results = Array(repeating: EventResult(), count: events.count)
        pending[nextPending] = Pending(call: id, events: events, results: results)
        gathered.append(nextPending)
        nextPending += 1
        return []
    }

    mutating func flush(tokens: inout UInt64) -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        var lookup = Lookup(pending: [], users: [:])
        var request = LookupRequest()
        for id in gathered {
            guard let call = pending[id] else { continue }
            let more = call.events.reduce(0) { $0 + $1.users.count }
            if !lookup.pending.isEmpty, request.users.count + more > config.maxLookupUsers {
                actions.append(send(lookup, request, &tokens))
                lookup = Lookup(pending: [], users: [:])
                request = LookupRequest()
            }
            lookup.pending.append(id)
            for user in call.events.lazy.flatMap(\.users) {
                let key = User(app: user.appID, id: user.userID)
                guard lookup.users[key] == nil else { continue }
                lookup.users[key] = request.users.count
                request.users.append(user)
            }
        }
        if !lookup.pending.isEmpty { actions.append(send(lookup, request, &tokens)) }
        gathered = []
        return actions
    }

    private mutating func send(
        _ lookup: Lookup, _ request: LookupRequest, _ tokens: inout UInt64
    ) -> RoleAction<Never> {
        let token = tokens
        tokens += 1
        lookups[token] = lookup
        return .call(token, .any(.online), .lookupRequest(request), timeoutMS: config.lookupTimeoutMS)
    }

    mutating func replied(_ token: UInt64, _ result: CallResult, tokens: inout UInt64) -> [RoleAction<Never>] {
        if let lookup = lookups.removeValue(forKey: token) { return found(lookup, result, &tokens) }
        guard let request = requests.removeValue(forKey: token) else { return [] }
        return handed(request, result)
    }

    private mutating func found(_ lookup: Lookup, _ result: CallResult, _ tokens: inout UInt64) -> [RoleAction<Never>] {
        guard case .answered(.lookupResponse(let body)) = result, body.results.count == lookup.users.count else {
            return lookup.pending.compactMap { id in
                guard let call = forget(id) else { return nil }
                // A look-up changes nothing, so even an unknown end of it means: certainly nothing was pushed.
                return .refuse(call.call, Failure(.serviceUnavailable, "Online does not answer"))
            }
        }
        var order: [String] = []
        var byLogin: [String: Request] = [:]
        for id in lookup.pending { plan(id, lookup, body.results, &order, &byLogin) }
        var actions: [RoleAction<Never>] = []
        for login in order {
            guard let request = byLogin[login] else { continue }
            for id in Set(request.places.lazy.flatMap { $0 }.map(\.pending)) { pending[id]?.open += 1 }
            var body = EventRequest()
            body.loginID = login
            body.items = request.items
            requests[tokens] = request
            actions.append(.call(tokens, .any(.route), .eventRequest(body), timeoutMS: config.eventTimeoutMS))
            tokens += 1
        }
        for id in lookup.pending { actions += answerIfDone(id) }
        return actions
    }

    /// Adds one call's events to the requests of the Logins where its users are.
    private mutating func plan(
        _ id: UInt64, _ lookup: Lookup, _ results: [LookupResult], _ order: inout [String],
        _ byLogin: inout [String: Request]
    ) {
        guard var call = pending[id] else { return }
        for (index, event) in call.events.enumerated() {
            var items: [String: Int] = [:]
            for user in event.users {
                guard let at = lookup.users[User(app: user.appID, id: user.userID)] else { continue }
                for registration in results[at].registrations where registration.sessionID != event.notSession {
                    let login = registration.loginID
                    if byLogin[login] == nil {
                        byLogin[login] = Request()
                        order.append(login)
                    }
                    let item = items[login] ?? byLogin[login, default: Request()].items.count
                    if items[login] == nil {
                        items[login] = item
                        var fresh = EventItem()
                        fresh.event = event.event
                        byLogin[login]?.items.append(fresh)
                        byLogin[login]?.places.append([])
                    }
                    let place = Place(pending: id, event: index, hand: call.results[index].sessions.count)
                    byLogin[login]?.items[item].sessions.append(SessionRef(registration))
                    byLogin[login]?.places[item].append(place)
                    call.results[index].sessions.append(.notHere)
                }
            }
        }
        pending[id] = call
    }

    private mutating func handed(_ request: Request, _ result: CallResult) -> [RoleAction<Never>] {
        if case .answered(.eventResponse(let body)) = result, body.results.count == request.places.count {
            for (places, hands) in zip(request.places, body.results) where hands.sessions.count == places.count {
                for (place, hand) in zip(places, hands.sessions) {
                    pending[place.pending]?.results[place.event].sessions[place.hand] = hand
                }
            }
        }
        // Otherwise the hands stay NOT_HERE: events are best effort and never repeated.
        let calls = Set(request.places.lazy.flatMap { $0 }.map(\.pending)).sorted()
        for id in calls { pending[id]?.open -= 1 }
        return calls.flatMap { answerIfDone($0) }
    }

    private mutating func answerIfDone(_ id: UInt64) -> [RoleAction<Never>] {
        guard let call = pending[id], call.open == 0 else { return [] }
        _ = forget(id)
        var body = PushEventResults()
        body.results = call.results
        return [.reply(call.call, .pushEventResults(body))]
    }

    private mutating func forget(_ id: UInt64) -> Pending? {
        guard let call = pending.removeValue(forKey: id) else { return nil }
        waiting -= call.events.count
        return call
    }
}

extension SessionRef {
    init(_ registration: Registration) {
        self.init()
        sessionID = registration.sessionID
        epoch = registration.epoch
        appID = registration.appID
        userID = registration.userID
    }
}
