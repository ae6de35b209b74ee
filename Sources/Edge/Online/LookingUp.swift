import Identity
import RPC
import Wire

/// Look-ups: for services, for users (svid 5), after revocations and for watchers; one call to the store per flush.
extension OnlineMachine {
    private enum Method {
        static let lookUp: UInt32 = 1
        static let subscribe: UInt32 = 2
    }

    mutating func lookUp(_ id: CallID, _ request: LookupRequest) -> [Action] {
        let users = request.users
        guard !users.isEmpty else { return [.reply(id, .lookupResponse(LookupResponse()))] }
        guard !isFull(users.count) else { return [full(id)] }
        let job = calls.open(id, count: users.count)
        for (index, user) in users.enumerated() { lookups.append((.caller(Slot(job: job, index: index)), user)) }
        return request.traceIds.map { .trace($0, hop: "online") }
    }

    mutating func lookedUp(_ items: [(wish: Wish, user: UserKey)], _ result: CallResult, _ now: Instant) -> [Action] {
        var found: [LookupResult]?
        if case .answered(.lookupResponse(let response)) = result, response.results.count == items.count {
            found = response.results
        }
        var actions: [Action] = []
        var seen: [(Who, LookupResult)] = []
        for (index, item) in items.enumerated() {
            let one = found?[index]
            switch item.wish {
            case .caller(let slot):
                actions += settle(slot, one.map { .lookedUp($0) } ?? .failed(Self.failure(of: result)))
            case .service(let slot, let last):
                usersAsked -= 1
                actions += present(slot, item.user, one, last: last, Self.failure(of: result))
            case .revocation(let epoch, let since):
                actions += closeRevoked(item.user, epoch, since, one, now)
            case .watch: break
            }
            if let one, watches.concerns(Who(item.user)) { seen.append((Who(item.user), one)) }
        }
        return actions + report(seen)
    }

    // MARK: users' calls

    mutating func serve(_ id: CallID, _ requests: [ServiceCall]) -> [Action] {
        guard !requests.isEmpty else { return [.reply(id, .serviceReplies(ServiceReplies()))] }
        guard !isFull(requests.count) else { return [full(id)] }
        let job = services.open(id, count: requests.count)
        var actions: [Action] = []
        for (index, call) in requests.enumerated() {
            let slot = PartedCalls<ServiceReply>.Slot(job: job, index: index)
            if let failure = begin(call, slot) {
                actions += respond(slot, failure: failure)
            } else if presences[slot] == nil {
                actions += respond(slot, PresenceResponse())
            }
        }
        return actions
    }

    /// Starts a call, or says why not. An empty list has nothing to look up and is answered by the caller.
    private mutating func begin(_ call: ServiceCall, _ slot: PartedCalls<ServiceReply>.Slot) -> Failure? {
        guard call.svid == WellKnownService.online else {
            return Failure(.noSuchService, "this is service \(WellKnownService.online), not \(call.svid)")
        }
        guard call.method == Method.lookUp || call.method == Method.subscribe else {
            return Failure(.noSuchMethod, "presence has methods 1 look up and 2 subscribe, not \(call.method)")
        }
        guard let request = try? PresenceRequest(serializedBytes: call.body) else {
            return Failure(.malformedRequest, "the body is no PresenceRequest")
        }
        guard request.userIds.count <= config.maxUsersPerCall else {
            return Failure(.limitExceeded, "at most \(config.maxUsersPerCall) users in one call")
        }
        guard request.userIds.allSatisfy(NameRule.isUser) else {
            return Failure(.malformedRequest, "a user id must be \(NameRule.userForm)")
        }
        var named: Set<String> = []
        let users = request.userIds.filter { named.insert($0).inserted }
        guard !isFull(users.count), askedSinceFlush + users.count <= config.maxLookupsPerFlush else {
            return Failure(.overloaded, "online has as many users to look up as it takes", retryAfterMS: 300)
        }
        let app = call.caller.appID
        if call.method == Method.subscribe, let failure = subscribe(call.caller, users) { return failure }
        guard !users.isEmpty else { return nil }
        presences[slot] = PresenceResponse()
        usersAsked += users.count
        askedSinceFlush += users.count
        for (index, user) in users.enumerated() {
            lookups.append((.service(slot, last: index == users.count - 1), Who(app: app, user: user).key))
        }
        return nil
    }

    private mutating func subscribe(_ caller: Caller, _ users: [String]) -> Failure? {
        guard !caller.sessionID.isEmpty else {
            return Failure(.forbidden, "only a connected session can subscribe to presence")
        }
        let list = users.map { Who(app: caller.appID, user: $0) }
        guard watches.pairs - watches.size(session: caller.sessionID) + list.count <= config.maxWatched else {
            return Failure(.overloaded, "online holds \(config.maxWatched) subscriptions already")
        }
        let watcher = Who(app: caller.appID, user: caller.userID)
        watches.watch(session: caller.sessionID, watcher: watcher, users: list)
        return nil
    }

    private mutating func present(
        _ slot: PartedCalls<ServiceReply>.Slot, _ user: UserKey, _ found: LookupResult?, last: Bool, _ failure: Failure
    ) -> [Action] {
        guard let found else {
            guard presences.removeValue(forKey: slot) != nil else { return [] }
            return respond(slot, failure: failure)
        }
        var presence = UserPresence()
        presence.userID = user.userID
        presence.state = found.state
        for registration in found.registrations where !presence.platforms.contains(registration.platform) {
            presence.platforms.append(registration.platform)
        }
        presences[slot]?.users.append(presence)
        guard last, let response = presences.removeValue(forKey: slot) else { return [] }
        return respond(slot, response)
    }

    /// Platforms are the clients' own words: those of many users may not fit a frame, and then the rest goes without.
    private static func fit(_ response: inout PresenceResponse, platformBytes most: Int) {
        var bytes = 0
        for index in response.users.indices where !response.users[index].platforms.isEmpty {
            bytes += response.users[index].platforms.reduce(0) { $0 + $1.utf8.count + 2 }
            if bytes > most { response.users[index].platforms = [] }
        }
    }

    private mutating func respond(_ slot: PartedCalls<ServiceReply>.Slot, _ answer: PresenceResponse) -> [Action] {
        var response = answer
        Self.fit(&response, platformBytes: config.maxPlatformBytes)
        var reply = ServiceReply()
        reply.body = (try? response.serializedData()) ?? .init()
        return respond(slot, reply)
    }

    private mutating func respond(_ slot: PartedCalls<ServiceReply>.Slot, failure: Failure) -> [Action] {
        var reply = ServiceReply()
        reply.failure = failure
        return respond(slot, reply)
    }

    private mutating func respond(_ slot: PartedCalls<ServiceReply>.Slot, _ reply: ServiceReply) -> [Action] {
        guard let done = services.fill(slot, reply) else { return [] }
        var replies = ServiceReplies()
        replies.replies = done.parts
        return [.reply(done.call, .serviceReplies(replies))]
    }
}
