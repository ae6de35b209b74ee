import Machinery
import Ports
import RPC
import Wire

/// Port role `log` over one Kafka topic: appends that wait for delivery reports, members of groups, their fetches and
/// positions. It decides; `KafkaLog` acts.
///
/// What differs from the embedded log, within the contract: membership is the group's affair at the broker, a
/// generation is counted per member (one more whenever its share changes), and a fetch with `wait_ms` 0 is answered
/// with ends that the brokers were asked for, not with those seen last.
///
/// Isolation: the lane of its host; nothing here blocks.
public struct KafkaLogMachine: RoleMachine {
    public static let role = RoleName.messageLog
    public typealias Action = RoleAction<KafkaCommand>
    typealias Limits = LogMachine.Limits

    static let sweepTimer: UInt64 = 1
    static let parkTimer: UInt64 = 2
    static let renewTimer: UInt64 = 3
    static let letGoTimer: UInt64 = 4

    let log: String
    let partitions: UInt32
    let limits: KafkaLimits
    var incarnation: UInt64

    var appends = AppendTable()
    var gathered: [KafkaRecord] = []
    var lanes: ProduceLanes
    /// Counts producers; the one that failed is renewed after a pause.
    var producerLife: UInt64 = 1
    var producerFailure: String?
    var renewals = 0

    var members: SlotTable<LogMember.Name, LogMember> = [:]
    /// Numbers for lives, versions of places, questions and commits.
    var lastNumber: UInt64 = 0
    var lastGeneration: UInt64 = 0
    var commits: [UInt64: (call: CallID, name: LogMember.Name, life: UInt64, positions: [LogPosition])] = [:]
    /// Who waits for a group's positions.
    var progressAsks: [UInt64: CallID] = [:]
    /// The earliest deadline of a parked fetch that a timer is set for.
    var armedFor: UInt64?
    /// What the group took away and still has to be let go, oldest first, and when.
    var lettingGo: [(due: UInt64, command: KafkaCommand)] = []
    /// The highest end seen of each partition.
    var seen: [UInt64]
    private var noted: [UInt64]
    private var sweeps = 0

    init(log: String, partitions: UInt32, incarnation: UInt64, limits: KafkaLimits) {
        self.log = log
        self.partitions = partitions
        self.incarnation = incarnation
        self.limits = limits
        lanes = ProduceLanes(partitions: Int(partitions))
        seen = Array(repeating: 0, count: Int(partitions))
        noted = seen
    }

    public mutating func on(_ event: RoleEvent<KafkaEvent>, now: Instant) -> [Action] {
        switch event {
        case .start: return [.timer(Self.sweepTimer, afterMS: Limits.sweepMS)]
        case .call(let id, let payload, _): return call(id, payload, now)
        case .reply: return []
        case .timer(Self.sweepTimer): return sweep(now)
        case .timer(Self.parkTimer): return endParked(now)
        case .timer(Self.renewTimer): return renewProducer()
        case .timer(Self.letGoTimer): return endLettingGo(now)
        case .timer: return []
        case .input(let event): return learn(event, now)
        case .flush: return flush(now)
        }
    }

    private mutating func call(_ id: CallID, _ payload: Payload, _ now: Instant) -> [Action] {
        switch payload {
        case .logAppend(let request): return gather(id, request)
        case .logFetch(let request): return fetch(id, request, now)
        case .logCommit(let request): return commit(id, request, now)
        case .logLeave(let request): return leave(id, request)
        case .logProgressAsk(let request): return progress(id, request)
        default:
            return [.refuse(id, Failure(.noSuchMethod, "the log does not answer payload \(payload.kind)"))]
        }
    }

    private mutating func learn(_ event: KafkaEvent, _ now: Instant) -> [Action] {
        switch event {
        case .reports(let reports): return settle(reports, now)
        case .producerFailed(let life, let why): return producerFailed(life, why, now)
        case .assigned(let id, let partitions): return assigned(id, partitions, now)
        case .revoked(let id, let partitions): return revoked(id, partitions, now)
        case .records(let id, let runs): return took(id, runs)
        case .outOfRange(let id, let partition): return outOfRange(id, partition)
        case .facts(let id, let ticket, let result): return learned(id, ticket, result, now)
        case .progress(let ticket, let result): return progressed(ticket, result)
        case .committed(let token, let failure): return committed(token, failure)
        case .memberFailed(let id, let why): return memberFailed(id, why)
        case .closed(let id): return closed(id)
        case .verified(let result): return verified(result)
        }
    }

    static func unknownLog(_ name: String) -> Failure { Failure(.notFound, "there is no log \"\(name)\"") }

    mutating func number() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }

    /// The member that an event is about; nil when that life of it is over.
    func name(of id: MemberID) -> LogMember.Name? {
        let name = LogMember.Name(group: id.group, member: id.member)
        return members[name]?.id.life == id.life ? name : nil
    }

    private mutating func flush(_ now: Instant) -> [Action] {
        var actions = produce(now)
        for name in members.keys(where: { $0.hasNews }).sorted() {
            members[name]?.hasNews = false
            guard let parked = members[name]?.parked, members[name]?.hasRecords(parked.fetch) == true else { continue }
            if !parked.wantsFacts { actions += answerParked(name, now) }
        }
        return actions
    }

    /// Once a second: members that are silent leave, questions that failed are asked again, ends are noted.
    private mutating func sweep(_ now: Instant) -> [Action] {
        sweeps += 1
        var actions: [Action] = [.timer(Self.sweepTimer, afterMS: Limits.sweepMS)]
        let silentBefore = now.micros > Limits.silentMicros ? now.micros - Limits.silentMicros : 0
        for name in members.keys.sorted() {
            guard let lastCall = members[name]?.lastCall, members[name]?.leaving == nil else { continue }
            if lastCall < silentBefore {
                actions += depart(name, waiting: [])
            } else {
                for partition in members[name]?.parts.keys(where: { $0.isBeyond }) ?? [] {
                    members[name]?.parts[partition]?.isLost = true
                }
                actions += ask(name)
            }
        }
        if sweeps % limits.sweepsPerNote == 0, seen != noted {
            noted = seen
            actions.append(.output(.note(ends: seen)))
        }
        return actions
    }

    mutating func saw(_ partition: UInt32, end: UInt64) {
        guard partition < partitions else { return }
        seen[Int(partition)] = max(seen[Int(partition)], end)
    }

    private mutating func verified(_ result: Result<UInt64, Failure>) -> [Action] {
        guard case .success(let found) = result, found != incarnation else { return [] }
        let values = ["log": log, "was": "\(incarnation)", "is": "\(found)"]
        incarnation = found
        seen = Array(repeating: 0, count: Int(partitions))
        noted = seen
        var actions: [Action] = [.warn("the log was replaced by another", values)]
        // Positions of the old log mean nothing in this one: everybody starts at its beginning, or stops.
        for name in members.keys.sorted() {
            let partitions = members[name]?.partitions ?? []
            guard !partitions.isEmpty else { continue }
            for partition in partitions { members[name]?.parts[partition]?.isForeign = true }
            members[name]?.hasShare = false
            bump(name, by: 2)
            actions += ask(name)
        }
        return actions
    }

    mutating func bump(_ name: LogMember.Name, by steps: UInt64) {
        guard let generation = members[name]?.generation else { return }
        members[name]?.generation = generation + steps
        lastGeneration = max(lastGeneration, generation + steps)
    }
}

/// Log "push" under its own role name; the same machine as log "msg".
public struct KafkaPushLogMachine: RoleMachine {
    public static let role = RoleName.pushLog
    private var log: KafkaLogMachine

    public init(_ log: KafkaLogMachine) { self.log = log }

    public mutating func on(_ event: RoleEvent<KafkaEvent>, now: Instant) -> [RoleAction<KafkaCommand>] {
        log.on(event, now: now)
    }
}
