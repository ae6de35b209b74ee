import RPC
import Wire

/// Port role `presence` over any presence store.
///
/// Isolation: a lane with a thread of its own; revoking writes to the disk.
public struct PresenceMachine<Store: PresenceStore>: RoleMachine {
    public static var role: RoleName { .presenceStore }

    private let store: Store
    private static var expiryTimer: UInt64 { 1 }
    private static var expiryMS: UInt32 { 500 }

    public init(_ store: Store) { self.store = store }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start:
            store.begin(micros: now.micros, wallMS: now.wallMS)
            return [.timer(Self.expiryTimer, afterMS: Self.expiryMS)]
        case .call(let id, let payload, _): return [call(id, payload, now)]
        case .timer:
            store.expire(micros: now.micros)
            return [.timer(Self.expiryTimer, afterMS: Self.expiryMS)]
        case .reply, .flush: return []
        }
    }

    private func call(_ id: CallID, _ payload: Payload, _ now: Instant) -> RoleAction<Never> {
        do throws(Failure) {
            switch payload {
            case .registerRequest(let request):
                var answer = RegisterResponse()
                answer.results = store.register(request.registrations, micros: now.micros)
                return .reply(id, .registerResponse(answer))
            case .unregisterRequest(let request):
                store.unregister(request.registrations, micros: now.micros)
                return .reply(id, .done(Done()))
            case .leaseRequest(let request):
                return .reply(id, .leaseResponse(store.lease(request, micros: now.micros)))
            case .lookupRequest(let request):
                var answer = LookupResponse()
                answer.results = try store.lookup(request.users, micros: now.micros)
                return .reply(id, .lookupResponse(answer))
            case .revokeRequest(let request):
                try store.revoke(request.items)
                return .reply(id, .done(Done()))
            default:
                return .refuse(id, Failure(.noSuchMethod, "the presence store does not answer payload \(payload.kind)"))
            }
        } catch { return .refuse(id, error) }
    }
}
