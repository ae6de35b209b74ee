import RPC
import Wire

/// Port role `hot` over any hot store.
///
/// Isolation: any lane.
public struct HotMachine<Store: HotStore>: RoleMachine {
    public static var role: RoleName { .hotStore }

    private let store: Store

    public init(_ store: Store) { self.store = store }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, _) = event else { return [] }
        switch payload {
        case .hotPut(let request):
            store.put(request.rows, fences: request.fences)
            return [.reply(id, .done(Done()))]
        case .readRows(let request): return [PortAnswers.rows(id, request, store)]
        default: return [.refuse(id, Failure(.noSuchMethod, "the hot store does not answer payload \(payload.kind)"))]
        }
    }
}
