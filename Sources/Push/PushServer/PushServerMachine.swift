import Identity
import Machinery
import RPC
import Wire

/// Turns log "push" into plans for the workers and moves the group's positions over what is settled.
///
/// Isolation: confined to the lane of its host.
public struct PushServerMachine: RoleMachine {
    public static let role = RoleName.pushServer

    enum Timer {
        static let tick: UInt64 = 1
        static let fetch: UInt64 = 2
    }

    let config: PushServerConfig
    var windows: SlotTable<UInt32, PartitionWindow> = [:]
    var generation: UInt64 = 0
    var incarnation: UInt64?
    var nextToken: UInt64 = 1
    var nextLife: UInt64 = 1
    var fetchToken: UInt64?
    var fetchFailures = 0
    /// It has left the group, because its process ends; who is told when the log knows.
    var hasLeft = false
    var leaving: (token: UInt64, id: CallID)?
    /// Set while the next fetch waits for its timer.
    var fetchPaused = false
    var commit: (token: UInt64, positions: [LogPosition])?
    var nextCommitMicros: UInt64 = 0
    /// Waiting to be looked up, in order.
    var expansion: [RecordKey] = []
    var lookup: Lookup?
    var plans: [UInt64: Plan] = [:]
    var plansMade = 0
    /// Tries to come: tick number -> records.
    var retries: [UInt64: [RecordKey]] = [:]
    var ticking = false

    public init(config: PushServerConfig) { self.config = config }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return []
        case .call(let id, .logLeave, _): return [leave(id)]
        case .call(let id, let payload, _):
            return [.refuse(id, Failure(.noSuchMethod, "PushServer does not answer payload \(payload.kind)"))]
        case .timer(Timer.tick):
            ticking = false
            repeatDue(now)
            return []
        case .timer(Timer.fetch):
            fetchPaused = false
            return []
        case .timer: return []
        case .reply(let token, let result): return replied(token, result, now)
        case .flush: return flush(now)
        }
    }

    private mutating func replied(_ token: UInt64, _ result: CallResult, _ now: Instant) -> [RoleAction<Never>] {
        if token == fetchToken { return fetched(result, now) }
        if token == leaving?.token { return left(result) }
        if token == commit?.token {
            committed(result, now)
            return []
        }
        if token == lookup?.token { return found(result, now) }
        if let plan = plans.removeValue(forKey: token) { worked(plan, result, now) }
        return []
    }

    private mutating func flush(_ now: Instant) -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        if let action = startLookup() { actions.append(action) }
        if let action = startFetch() { actions.append(action) }
        if let action = startCommit(now) { actions.append(action) }
        let busy = !plans.isEmpty || !retries.isEmpty || windows.reduce(false) { $0 || $1.uncommitted }
        if busy, !ticking {
            ticking = true
            actions.append(.timer(Timer.tick, afterMS: config.tickMS))
        }
        return actions
    }

    mutating func takeToken() -> UInt64 {
        defer { nextToken += 1 }
        return nextToken
    }

    /// Records that are fetched and not settled: for metrics and tests.
    public var unsettled: Int { windows.reduce(0) { $0 + $1.count } }

    /// What would be committed now, per partition: for metrics and tests.
    public var positions: [UInt32: UInt64] {
        var positions: [UInt32: UInt64] = [:]
        // A SlotTable is no Sequence: it lends its values.
        // swift-format-ignore: ReplaceForEachWithForLoop
        windows.forEach { partition, window in positions[partition] = window.position }
        return positions
    }
}
