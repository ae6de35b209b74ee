import Identity
import RPC
import Wire

/// Route: forwards. Up by SVID to an instance of the service that registered under it, down to the Login that holds a
/// connection. It knows no SVID by name.
///
/// Isolation: the lane of its host.
public struct RouteMachine: RoleMachine {
    public static var role: RoleName { .route }
    public typealias Action = RoleAction<Never>

    let instance: String
    let config: RouteConfig
    var startedAt: UInt64 = 0
    var table = ServiceTable()
    /// Logins that announce themselves, and until when they count as alive.
    var logins: [String: UInt64] = [:]
    var jobs = PartedCalls<ServiceReply>()
    /// Items that wait for the flush; those to be tried again stand in front, so that nobody overtakes them.
    var waiting: [UpItem] = []
    /// Calls under way up: token -> where and what.
    var up: [UInt64: (instance: String, items: [UpItem])] = [:]
    /// Calls under way down: token -> who asked for what.
    var down: [UInt64: DownCall] = [:]
    private var nextToken: UInt64 = 1
    static let sweepTimer: UInt64 = 1
    static let sweepMS: UInt32 = 1000

    /// - Parameter instance: this Route's name, told to those who register.
    public init(instance: String, config: RouteConfig = RouteConfig()) {
        self.instance = instance
        self.config = config
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [Action] {
        switch event {
        case .start:
            startedAt = now.micros
            return [.timer(Self.sweepTimer, afterMS: Self.sweepMS)]
        case .call(let id, let payload, let deadline): return take(id, payload, deadline, now)
        case .reply(let token, let result):
            if let flight = up.removeValue(forKey: token) { return landed(flight.instance, flight.items, result, now) }
            if let call = down.removeValue(forKey: token) { return cameUp(call, result, now) }
            return []
        case .timer:
            table.expire(now: now.micros)
            logins = logins.filter { $0.value > now.micros }
            return [.timer(Self.sweepTimer, afterMS: Self.sweepMS)]
        case .flush: return forward(now)
        }
    }

    private mutating func take(_ id: CallID, _ payload: Payload, _ deadline: UInt64, _ now: Instant) -> [Action] {
        switch payload {
        case .serviceCalls(let calls): return gather(id, calls, deadline)
        case .serviceAnnounce(let announce): return register(id, announce, now)
        case .loginAnnounce(let login):
            logins[login.loginID] = login.leaving ? nil : now.micros + UInt64(config.loginLeaseMS) * 1000
            return [.reply(id, .done(Done()))]
        case .deliverRequest(let request): return bringDown(id, .deliver(request), request.loginID, deadline, now)
        case .kickRequest(let request): return bringDown(id, .kick(request), request.loginID, deadline, now)
        case .eventRequest(let request): return bringDown(id, .event(request), request.loginID, deadline, now)
        default: return [.refuse(id, Failure(.malformedRequest, "route does not answer payload \(payload.kind)"))]
        }
    }

    /// Whether this Route may not have heard of everybody yet.
    func isLearning(_ now: Instant) -> Bool { now.micros < startedAt + UInt64(config.learningMS) * 1000 }

    mutating func token() -> UInt64 {
        defer { nextToken += 1 }
        return nextToken
    }
}
