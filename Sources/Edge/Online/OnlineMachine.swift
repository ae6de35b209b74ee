import Identity
import RPC
import Wire

/// Online: stands in front of the presence store, gathers what comes between two flushes into one call per kind, and
/// draws the consequences: displaced and revoked sessions are kicked, watchers learn of changes.
///
/// Isolation: the lane of its host.
public struct OnlineMachine: RoleMachine {
    public static var role: RoleName { .online }
    public typealias Action = RoleAction<Never>

    /// What an answer of the store is for.
    enum Flight: Sendable {
        case registering([(slot: Slot, registration: Registration)])
        case unregistering([(slot: Slot, registration: Registration)])
        case leasing(CallID)
        case lookingUp([(wish: Wish, user: UserKey)])
        case revoking([(slot: Slot, item: RevokeItem)])
        case kicking([WaitingKick])
    }

    /// Who wants to know about a user.
    enum Wish: Sendable {
        case caller(Slot)
        case service(PartedCalls<ServiceReply>.Slot, last: Bool)
        case revocation(epoch: UInt64, since: UInt64)
        case watch
    }

    /// What one item of a call became.
    enum Part: Sendable {
        case registered(RegisterResult)
        case lookedUp(LookupResult)
        /// Code 0: it worked.
        case done(Failure)
        /// The store did not answer; the whole call is refused.
        case failed(Failure)
    }
    typealias Slot = PartedCalls<Part>.Slot

    let instance: String
    let config: OnlineConfig
    var calls = PartedCalls<Part>()
    var services = PartedCalls<ServiceReply>()
    var flights: [UInt64: Flight] = [:]
    private var nextToken: UInt64 = 1

    var leases: [(CallID, LeaseRequest)] = []
    var registering: [(slot: Slot, registration: Registration)] = []
    var unregistering: [(slot: Slot, registration: Registration)] = []
    var revoking: [(slot: Slot, item: RevokeItem)] = []
    var lookups: [(wish: Wish, user: UserKey)] = []
    /// Users in users' calls not answered yet, and those of them since the last flush.
    var usersAsked = 0
    var askedSinceFlush = 0
    /// Users found so far for a service call, and the session that subscribes with it.
    var presences: [PartedCalls<ServiceReply>.Slot: PresenceResponse] = [:]
    var kicks = KickQueue()
    /// Users whose revocation has still to be looked up again, because the store could not tell.
    var revocations: [(user: UserKey, epoch: UInt64, since: UInt64)] = []
    var watches = WatchTable()
    var hints: [UserKey] = []

    static let tickTimer: UInt64 = 1
    static let retryTimer: UInt64 = 2
    var retryArmed = false

    /// - Parameter instance: this Online's name; it announces itself as "online/<name>".
    public init(instance: String, config: OnlineConfig = OnlineConfig()) {
        self.instance = instance
        self.config = config
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [Action] {
        switch event {
        case .start: return tick()
        case .call(let id, let payload, _): return take(id, payload)
        case .reply(let token, let result):
            guard let flight = flights.removeValue(forKey: token) else { return [] }
            return landed(flight, result, now)
        case .timer(Self.tickTimer): return tick()
        case .timer:
            retryArmed = false
            for entry in revocations {
                lookups.append((.revocation(epoch: entry.epoch, since: entry.since), entry.user))
            }
            revocations = []
            return []
        case .flush: return send(now)
        }
    }

    private mutating func take(_ id: CallID, _ payload: Payload) -> [Action] {
        guard !isFull(1) else { return [full(id)] }
        switch payload {
        case .registerRequest(let request): return register(id, request.registrations)
        case .unregisterRequest(let request): return unregister(id, request.registrations)
        case .leaseRequest(let request):
            leases.append((id, request))
            return []
        case .lookupRequest(let request): return lookUp(id, request)
        case .revokeRequest(let request): return revoke(id, request.items)
        case .watchRequest(let request):
            hinted(request)
            return [.reply(id, .done(Done()))]
        case .serviceCalls(let request): return serve(id, request.calls)
        default: return [.refuse(id, Failure(.malformedRequest, "online does not answer payload \(payload.kind)"))]
        }
    }

    private mutating func landed(_ flight: Flight, _ result: CallResult, _ now: Instant) -> [Action] {
        switch flight {
        case .registering(let items): return registered(items, result, now)
        case .unregistering(let items): return unregistered(items, result)
        case .leasing(let id): return leased(id, result)
        case .lookingUp(let items): return lookedUp(items, result, now)
        case .revoking(let items): return revoked(items, result, now)
        case .kicking(let items): return kicked(items, result, now)
        }
    }

    /// Leases first: a Login that the store has lost hears so before its newcomers are registered.
    private mutating func send(_ now: Instant) -> [Action] {
        var actions: [Action] = []
        for (id, lease) in leases { actions.append(ask(.leaseRequest(lease), .leasing(id))) }
        leases = []
        if !registering.isEmpty {
            var request = RegisterRequest()
            request.registrations = registering.map(\.registration)
            actions.append(ask(.registerRequest(request), .registering(registering)))
            registering = []
        }
        if !unregistering.isEmpty {
            var request = UnregisterRequest()
            request.registrations = unregistering.map(\.registration)
            actions.append(ask(.unregisterRequest(request), .unregistering(unregistering)))
            unregistering = []
        }
        if !revoking.isEmpty {
            var request = RevokeRequest()
            request.items = revoking.map(\.item)
            actions.append(ask(.revokeRequest(request), .revoking(revoking)))
            revoking = []
        }
        for part in takeLookups() {
            var request = LookupRequest()
            request.users = part.map(\.user)
            actions.append(ask(.lookupRequest(request), .lookingUp(part)))
        }
        return actions + sendHints() + sendKicks(now) + armRetry()
    }

    /// In parts of about `usersPerCall`. A user's call is in one of them, because its answer is put together in order.
    private mutating func takeLookups() -> [[(wish: Wish, user: UserKey)]] {
        askedSinceFlush = 0
        guard !lookups.isEmpty else { return [] }
        defer { lookups = [] }
        if lookups.count <= config.usersPerCall { return [lookups] }
        var parts: [[(wish: Wish, user: UserKey)]] = [[]]
        for item in lookups {
            parts[parts.count - 1].append(item)
            if case .service(_, last: false) = item.wish { continue }
            if parts[parts.count - 1].count >= config.usersPerCall { parts.append([]) }
        }
        return parts.filter { !$0.isEmpty }
    }

    private mutating func armRetry() -> [Action] {
        guard !retryArmed, !kicks.isEmpty || !revocations.isEmpty else { return [] }
        retryArmed = true
        return [.timer(Self.retryTimer, afterMS: config.kickRetryMS)]
    }

    private mutating func tick() -> [Action] {
        poll()
        var announce = ServiceAnnounce()
        announce.svids = [WellKnownService.online]
        announce.instanceID = "online/\(instance)"
        return [
            .tell(.all(.route), .serviceAnnounce(announce)), .timer(Self.tickTimer, afterMS: config.tickMS),
        ]
    }

    func isFull(_ more: Int) -> Bool { calls.missing + services.missing + usersAsked + more > config.maxItems }

    mutating func ask(_ payload: Payload, _ flight: Flight) -> Action {
        let token = token()
        flights[token] = flight
        return .call(token, .any(.presenceStore), payload, timeoutMS: config.storeTimeoutMS)
    }

    mutating func token() -> UInt64 {
        defer { nextToken += 1 }
        return nextToken
    }
}
