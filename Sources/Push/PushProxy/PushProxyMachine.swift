import RPC
import Wire

/// Accepts pushes: sequenced ones into log "push", answered when appended; events straight on to the Logins.
///
/// Isolation: confined to the lane of its host.
public struct PushProxyMachine: RoleMachine {
    public static let role = RoleName.pushProxy

    private var messages: MessageIntake
    private var events: EventFanOut
    private var nextToken: UInt64 = 1

    public init(config: PushProxyConfig = PushProxyConfig()) {
        messages = MessageIntake(config: config)
        events = EventFanOut(config: config)
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start, .timer: return []
        case .call(let id, .pushMessages(let body), _): return messages.accept(id, body.items)
        case .call(let id, .pushEvents(let body), _): return events.accept(id, body.events)
        case .call(let id, let payload, _):
            return [.refuse(id, Failure(.noSuchMethod, "PushProxy does not answer payload \(payload.kind)"))]
        case .reply(let token, let result):
            return messages.replied(token, result) ?? events.replied(token, result, tokens: &nextToken)
        case .flush: return messages.flush(tokens: &nextToken) + events.flush(tokens: &nextToken)
        }
    }

    /// Records and events that are held at the moment: for metrics.
    public var waiting: (records: Int, events: Int) { (messages.waiting, events.waiting) }
}
