import Machinery
import RPC
import Wire

/// Gives each message of log "msg" its place in its conversation. A record's way: fetched, into a bucket's inbox,
/// looked up and committed in a round, passed on (hot store, pushes, user index), and when all of that is confirmed
/// the group offset moves over it.
///
/// Rows and seqs are a function of the log alone: time, randomness and limits shape batches and retries, never a row.
public struct MsgWriterMachine: RoleMachine {
    public static let role = RoleName.msgWriter
    typealias Action = RoleAction<Never>

    /// What a token of ours stands for.
    enum Asked {
        case fetch(number: UInt64, positions: [UInt32: UInt64])
        case claim([(bucket: UInt32, life: UInt64)])
        case lookup(shard: UInt32)
        case commit(shard: UInt32)
        case hot
        case push
        case index(slot: Int)
        case birth(slot: Int)
        case offsets([LogPosition])
        case leave(CallID)
    }

    /// What a timer of ours stands for.
    enum Alarm {
        static let fetch: UInt64 = 1
        static let keepalive: UInt64 = 2
        static let hot: UInt64 = 3
        static let push: UInt64 = 4
        static let offsets: UInt64 = 5
        static let firstSlot: UInt64 = 1 << 16
        static let firstBirth: UInt64 = 1 << 24
        static let firstBucket: UInt64 = 1 << 32
    }

    let config: MsgWriterConfig
    var fault: FaultHook
    var random: SeededRandom
    private var nextToken: UInt64 = 1
    private var lastLife: UInt64 = 0
    /// The bucket that the next round starts with: when a round is full, the others come first in the next.
    var nextInRound: UInt32 = 0
    var asked: [UInt64: Asked] = [:]

    var membership: Membership
    var buckets: SlotTable<UInt32, Bucket> = [:]
    /// The keys of `buckets`, ascending: every walk is in this order, so that the same history gives the same
    /// actions.
    var assigned: [UInt32] = []
    var rounds: [UInt32: Round] = [:]

    var nextUnit: UInt64 = 1
    var unitBucket: [UInt64: UInt32] = [:]
    var hot: Outbox<StoredRow>
    var push: Outbox<PushItem>
    var index: [Outbox<IndexEntry>]
    /// Entries that conversations begin with: apart from `index`, where User may take its time.
    var births: [Outbox<IndexEntry>]
    var offsets: OffsetCommits

    /// Sums over the buckets.
    var heldRecords = 0
    var heldBytes = 0

    public init(config: MsgWriterConfig) {
        self.config = config
        self.fault = config.fault
        self.random = SeededRandom(seed: config.seed)
        self.membership = Membership(config: config)
        self.hot = Outbox(config: config)
        self.push = Outbox(config: config)
        self.index = Array(repeating: Outbox(config: config), count: Int(config.userSlots))
        self.births = self.index
        self.offsets = OffsetCommits(config: config)
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return []
        case .call(let id, .logLeave, _): return leave(id)
        case .call(let id, _, _): return [.refuse(id, Failure(.noSuchMethod, "MsgWriter answers nothing"))]
        case .timer(let id):
            timer(id)
            return []
        case .reply(let token, let result):
            guard let what = asked.removeValue(forKey: token) else { return [] }
            return answered(what, result)
        case .flush:
            return claim() + startRounds() + passOn() + commitOffsets() + fetch()
        }
    }

    private mutating func timer(_ id: UInt64) {
        switch id {
        case Alarm.fetch: membership.waiting = false
        case Alarm.keepalive:
            membership.keepaliveArmed = false
            membership.keepaliveDue = true
        case Alarm.hot: hot.waiting = false
        case Alarm.push: push.waiting = false
        case Alarm.offsets: offsets.waiting = false
        case Alarm.firstSlot..<(Alarm.firstSlot + config.userSlots):
            index[Int(id - Alarm.firstSlot)].waiting = false
        case Alarm.firstBirth..<(Alarm.firstBirth + config.userSlots):
            births[Int(id - Alarm.firstBirth)].waiting = false
        case Alarm.firstBucket...: buckets[UInt32(truncatingIfNeeded: id)]?.waiting = false
        default: break
        }
    }

    private mutating func answered(_ what: Asked, _ result: CallResult) -> [Action] {
        switch what {
        case .fetch(let number, let positions): fetched(number, positions, result)
        case .claim(let claims): claimed(claims, result)
        case .lookup(let shard): found(shard, result)
        case .commit(let shard): committed(shard, result)
        case .hot: settle(\.hot, result, timer: Alarm.hot)
        case .push: settle(\.push, result, timer: Alarm.push)
        case .index(let slot): settle(\.index[slot], result, timer: Alarm.firstSlot + UInt64(slot))
        case .birth(let slot):
            settle(\.births[slot], result, timer: Alarm.firstBirth + UInt64(slot), isBirth: true)
        case .offsets(let positions): committedOffsets(positions, result)
        case .leave(let id): [left(id, result)]
        }
    }

    mutating func ask(_ address: Address, _ payload: Payload, _ what: Asked, timeoutMS: UInt32? = nil) -> Action {
        let token = nextToken
        nextToken += 1
        asked[token] = what
        return .call(token, address, payload, timeoutMS: timeoutMS ?? config.timeoutMS)
    }

    // MARK: A bucket's troubles

    /// Never the same twice, so that an answer meant for an earlier life of a bucket is recognized.
    mutating func newLife() -> UInt64 {
        lastLife += 1
        return lastLife
    }

    /// Waits before this bucket is tried again; the others go on.
    mutating func holdBack(_ number: UInt32) -> [Action] {
        guard buckets[number] != nil, buckets[number]?.waiting == false else { return [] }
        let wait = buckets[number]?.backoff.nextMS(using: &random) ?? config.retryFirstMS
        buckets[number]?.waiting = true
        return [.timer(Alarm.firstBucket + UInt64(number), afterMS: UInt32(wait))]
    }

    /// Throws away what is known about a bucket, except what is delivered.
    mutating func forget(_ number: UInt32, phase: Bucket.Phase) {
        guard var bucket = buckets[number] else { return }
        for unit in bucket.units { unitBucket[unit.id] = nil }
        heldRecords -= bucket.heldRecords
        heldBytes -= bucket.heldBytes
        bucket.units = []
        bucket.held = []
        bucket.inbox = []
        bucket.inRound = false
        bucket.heldRecords = 0
        bucket.heldBytes = 0
        bucket.heads.removeAll()
        bucket.life = newLife()
        bucket.phase = phase
        buckets[number] = bucket
    }

    /// Ends work on a bucket until somebody has looked, or it is assigned anew.
    mutating func stop(_ number: UInt32, _ why: String) -> [Action] {
        guard let bucket = buckets[number], bucket.phase != .stopped else { return [] }
        forget(number, phase: .stopped)
        let values = [
            "bucket": "\(number)", "why": why, "stored": "\(bucket.stored)", "delivered": "\(bucket.delivered)",
            "log_end": bucket.end.map { "\($0)" } ?? "unknown",
        ]
        return [.warn("bucket stopped: the log does not fit what is stored", values)]
    }
}
