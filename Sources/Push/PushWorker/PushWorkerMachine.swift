import Machinery
import RPC
import Wire

/// Hands deliveries to the Logins: one FIFO lane per (partition, Login), at least once, until settled.
///
/// Isolation: confined to the lane of its host.
public struct PushWorkerMachine: RoleMachine {
    public static let role = RoleName.pushWorker
    static let tick: UInt64 = 1

    let config: PushWorkerConfig
    var plans: SlotTable<UInt64, Plan> = [:]
    var lanes: SlotTable<LaneKey, LaneQueue> = [:]
    /// Lanes that got something since the last flush, in order.
    var touched: [LaneKey] = []
    var requests: [UInt64: Request] = [:]
    var lookups: [UInt64: [Job]] = [:]
    /// NOT_HERE targets gathered for the next look-up.
    var moved: [Job] = []
    /// Deliveries that are repeated alone, with the time when.
    var alone: [Job] = []
    var slow: Set<String> = []
    var nextToken: UInt64 = 1
    var nextPlan: UInt64 = 1
    var requestsMade = 0
    var ticking = false
    /// Deliveries and their bytes in all plans.
    var deliveries = 0
    var bytes = 0

    public init(config: PushWorkerConfig = PushWorkerConfig()) { self.config = config }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return []
        case .call(let id, .workerPlan(let body), let deadline): return accept(id, body, deadline, now)
        case .call(let id, let payload, _):
            return [.refuse(id, Failure(.noSuchMethod, "PushWorker does not answer payload \(payload.kind)"))]
        case .timer(Self.tick):
            ticking = false
            return endOverdue(now)
        case .timer: return []
        case .reply(let token, let result):
            if let request = requests.removeValue(forKey: token) { return delivered(request, result, now) }
            if let jobs = lookups.removeValue(forKey: token) { return found(jobs, result, now) }
            return []
        case .flush: return flush(now)
        }
    }

    mutating func takeToken() -> UInt64 {
        defer { nextToken += 1 }
        return nextToken
    }

    /// Deliveries that are held and their bytes: for metrics and tests.
    public var held: (deliveries: Int, bytes: Int) { (deliveries, bytes) }

    struct LaneKey: Hashable, Sendable {
        var partition: UInt32
        var login: String
    }

    /// What waits on a lane, in order. A held lane hands over nothing until its time.
    struct LaneQueue: Sendable {
        var jobs: [Job] = []
        var heldUntil: UInt64 = 0
        var failures = 0
    }

    /// One delivery of one plan, as far as it is not settled.
    struct Job: Sendable {
        var plan: UInt64
        var batch: Int
        var index: Int
        var lane: LaneKey
        var delivery: Delivery
        /// Where the hands of `delivery.targets` belong in the plan's answer.
        var places: [Int]
        var attempts = 0
        var due: UInt64 = 0
        /// Found by the one fresh look-up: NOT_HERE is now final.
        var redirected = false
    }

    struct Request: Sendable {
        var jobs: [Job]
        var alone: Bool
        var deadline: UInt64
    }

    struct Plan: Sendable {
        var call: CallID
        var answer: WorkerDone
        /// Jobs that are not settled, per delivery.
        var open: [[Int]]
        var unsettled: Int
        var deliveries: Int
        var bytes: Int
        var answerBy: UInt64
    }
}
