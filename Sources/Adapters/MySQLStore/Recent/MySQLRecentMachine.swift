import Foundation
import Ports
import RPC
import Wire

/// Port role `recent` over the shards of a recent store. Calls are split by the map bucket -> shard; what is to be
/// committed while a shard's transaction is under way becomes its next one. A shard that is away keeps nobody waiting
/// but those who want something of it.
///
/// Isolation: any lane; nothing here blocks.
public struct MySQLRecentMachine: RoleMachine {
    public static var role: RoleName { .recentStore }
    public typealias Input = ShardAnswer
    public typealias Output = ShardJob
    public typealias Action = RoleAction<ShardJob>

    enum Timer {
        static let map: UInt64 = 1
        static let upkeep: UInt64 = 2
        static let again: UInt64 = 3
        /// Purge timers of the shards.
        static let purge: UInt64 = 1000
    }

    let config: MySQLRecentConfig
    var map: ShardMap?
    var calls: [UInt64: OpenCall] = [:]
    var jobs: [UInt64: OpenJob] = [:]
    /// Commits that wait for their lane, in the order in which they came.
    var queues: [ShardJob.Place: [QueuedCommit]] = [:]
    var busy: Set<ShardJob.Place> = []
    /// Jobs that a shard did not answer because the bucket has moved: they are asked again with a newer map.
    var moved: [UInt64] = []
    var isMapAsked = false
    private var nextID: UInt64 = 1

    /// - Parameter map: nil: it is to be loaded; until then calls are refused.
    public init(config: MySQLRecentConfig, map: ShardMap?) {
        self.config = config
        self.map = map
    }

    public mutating func on(_ event: RoleEvent<ShardAnswer>, now: Instant) -> [Action] {
        switch event {
        case .start: return start(now)
        case .call(let id, let payload, let deadline): return call(id, payload, deadline, now)
        case .input(let answer): return answered(answer, now)
        case .timer(let timer): return ring(timer, now)
        case .flush: return startCommits(now)
        case .reply: return []
        }
    }

    // MARK: upkeep

    private mutating func start(_ now: Instant) -> [Action] {
        var actions: [Action] = [.timer(Timer.upkeep, afterMS: config.upkeepMS)]
        if config.followsMap { actions += askMap(now) + [.timer(Timer.map, afterMS: config.mapMS)] }
        for shard in 0..<config.shards {
            actions.append(.timer(Timer.purge + UInt64(shard), afterMS: config.purgeIdleMS))
        }
        return actions
    }

    private mutating func ring(_ timer: UInt64, _ now: Instant) -> [Action] {
        switch timer {
        case Timer.map: return askMap(now) + [.timer(Timer.map, afterMS: config.mapMS)]
        case Timer.again: return askMap(now)
        case Timer.upkeep:
            var actions: [Action] = [.timer(Timer.upkeep, afterMS: config.upkeepMS)]
            for shard in 0..<config.shards {
                let job = OpenJob(call: 0, work: .extend(nowMS: now.wallMS), place: .reader(shard: shard), items: [])
                actions.append(send(job, now.micros + config.patienceMS * 1000))
            }
            return actions
        default:
            let shard = Int(timer - Timer.purge)
            let work = ShardJob.Work.purge(limit: config.purgeEntries, nowMS: now.wallMS)
            let job = OpenJob(call: 0, work: work, place: .reader(shard: shard), items: [])
            return [send(job, now.micros + config.patienceMS * 1000)]
        }
    }

    mutating func askMap(_ now: Instant) -> [Action] {
        guard config.followsMap, !isMapAsked else { return [] }
        isMapAsked = true
        return [
            send(
                OpenJob(call: 0, work: .loadMap, place: .map, items: []), now.micros + config.patienceMS * 1000)
        ]
    }

    mutating func send(_ job: OpenJob, _ deadline: UInt64) -> Action {
        let id = nextID
        nextID += 1
        jobs[id] = job
        return .output(ShardJob(id: id, place: job.place, work: job.work, deadline: deadline))
    }

    mutating func open(_ call: OpenCall) -> UInt64 {
        let id = nextID
        nextID += 1
        calls[id] = call
        return id
    }

    // MARK: calls

    private mutating func call(_ id: CallID, _ payload: Payload, _ deadline: UInt64, _ now: Instant) -> [Action] {
        guard let map else {
            return [.refuse(id, Failure(.storeUnavailable, "the map of the shards is not known yet"))]
        }
        switch payload {
        case .storeCommit(let request): return commit(id, request, deadline, map)
        case .bucketClaims(let request): return claim(id, request, deadline, map)
        case .writerLookup(let request): return lookup(id, request, deadline, map)
        case .readRows(let request):
            if let failure = Self.tooMany(request.queries.count) { return [.refuse(id, failure)] }
            return rows(id, request.queries, deadline, map)
        case .readHeads(let request):
            if let failure = Self.tooMany(request.queries.count) { return [.refuse(id, failure)] }
            return heads(id, request, deadline, map)
        default:
            return [.refuse(id, Failure(.noSuchMethod, "the recent store does not answer payload \(payload.kind)"))]
        }
    }

    private static func tooMany(_ count: Int) -> Failure? {
        count <= RowLimits.queries ? nil : Failure(.limitExceeded, "a call has at most \(RowLimits.queries) queries")
    }

    // MARK: answers

    private mutating func answered(_ answer: ShardAnswer, _ now: Instant) -> [Action] {
        guard let job = jobs.removeValue(forKey: answer.id) else { return [] }
        busy.remove(job.place)
        var actions: [Action] = []
        switch (job.work, answer.result) {
        case (.loadMap, let result): return mapLoaded(result, now)
        case (.purge, let result): return [purged(job.place, result)]
        case (.extend, .failed(let failure)):
            return [.warn("the months of a shard could not be made", ["why": failure.message])]
        case (.extend, _): return []
        case (.commit, _): actions = committed(job, answer.result)
        default:
            if answer.isMoved, job.canBeAskedAgain, job.tries < config.movedTries {
                jobs[answer.id] = job
                moved.append(answer.id)
                return askMap(now)
            }
            actions = fill(job, answer.result)
        }
        if answer.isMoved { actions += askMap(now) }
        return actions + startCommits(now)
    }

    private func purged(_ place: ShardJob.Place, _ result: ShardAnswer.Result) -> Action {
        guard case .reader(let shard) = place else { return .timer(Timer.upkeep, afterMS: config.upkeepMS) }
        let goOn = result == .stepped(goOn: true)
        return .timer(Timer.purge + UInt64(shard), afterMS: goOn ? config.purgeStepMS : config.purgeIdleMS)
    }

    /// A newer map; those who were waiting for one are asked again, a little later when it says the same.
    private mutating func mapLoaded(_ result: ShardAnswer.Result, _ now: Instant) -> [Action] {
        isMapAsked = false
        var isNews = false
        if case .map(let loaded) = result, loaded.version > map?.version ?? 0 || map == nil {
            map = loaded
            isNews = true
        }
        guard let map, !moved.isEmpty else { return [] }
        let waiting = moved
        moved = []
        var actions: [Action] = []
        for id in waiting {
            guard var job = jobs.removeValue(forKey: id) else { continue }
            job.tries += 1
            guard let call = calls[job.call], call.deadline > now.micros, job.tries < config.movedTries else {
                actions += fill(job, .failed(Failure(.storeUnavailable, "a bucket is on its way to another shard")))
                continue
            }
            if isNews {
                actions += askElsewhere(job, call, map)
            } else {
                jobs[id] = job
                moved.append(id)
            }
        }
        if !moved.isEmpty { actions.append(.timer(Timer.again, afterMS: config.movedMS)) }
        return actions
    }
}

/// Limits of the machine. Times in milliseconds.
public struct MySQLRecentConfig: Sendable {
    public var shards: Int
    /// Connections of a shard that write.
    public var writers: Int
    /// The map is data somewhere, and changes.
    public var followsMap: Bool
    public var mapMS: UInt32 = 1000
    public var upkeepMS: UInt32 = 6 * 3600 * 1000
    public var purgeIdleMS: UInt32 = 60_000
    public var purgeStepMS: UInt32 = 50
    /// Entries of one step: a few milliseconds of work.
    public var purgeEntries = 1000
    /// How long a job of our own may wait for its connection.
    public var patienceMS: UInt64 = 5000
    /// How often, and after how long, something is asked again that is on its way to another shard.
    public var movedTries = 10
    public var movedMS: UInt32 = 100
    /// Rows and bytes of one transaction.
    public var rowsPerCommit = 4096
    public var bytesPerCommit = 8 << 20

    public init(shards: Int, writers: Int, followsMap: Bool) {
        self.shards = shards
        self.writers = max(1, writers)
        self.followsMap = followsMap
    }
}
