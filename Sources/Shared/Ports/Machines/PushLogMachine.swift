import RPC

/// Log "push" under its own role name; the same machine as log "msg".
public struct PushLogMachine: RoleMachine {
    public static let role = RoleName.pushLog
    private var log: LogMachine

    public init(_ log: LogMachine) { self.log = log }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] { log.on(event, now: now) }
}
