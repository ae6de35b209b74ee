import RPC
import Wire

/// PushProxy whose log is in memory, as in one process: everything that it is given, it confirms and passes on at once.
struct MemoryPushProxy: RoleMachine {
    static let role = RoleName.pushProxy
    let audience: RoleName

    mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, _) = event else { return [] }
        switch payload {
        case .pushMessages: return [.reply(id, .done(Done())), .tell(.any(audience), payload)]
        case .pushEvents: return [.reply(id, .pushEventResults(PushEventResults()))]
        default: return [.refuse(id, Failure(.noSuchMethod, "not PushProxy's call"))]
        }
    }
}
