import Foundation
import Identity
import RPC
import Wire

@testable import PushServerRole
@testable import PushWorkerRole

typealias Action = RoleAction<Never>

/// Drives a machine by hand: events in, actions out, the clock by order.
struct Driver<Machine: RoleMachine> where Machine.Input == Never, Machine.Output == Never {
    var machine: Machine
    var micros: UInt64 = 1_000_000

    var now: Instant { Instant(micros: micros, wallMS: 1_700_000_000_000) }

    init(_ machine: Machine) { self.machine = machine }

    mutating func send(_ event: RoleEvent<Never>) -> [Action] { machine.on(event, now: now) }

    /// The event and the flush after it.
    mutating func turn(_ events: RoleEvent<Never>...) -> [Action] {
        var actions: [Action] = []
        for event in events { actions += machine.on(event, now: now) }
        return actions + machine.on(.flush, now: now)
    }

    mutating func call(_ id: UInt64, _ payload: Payload, timeoutMS: UInt64 = 5000) -> [Action] {
        turn(.call(CallID(id), payload, deadline: micros + timeoutMS * 1000))
    }

    /// Lets time pass and delivers the timer.
    mutating func wait(_ milliseconds: UInt64, timer: UInt64 = 1) -> [Action] {
        micros += milliseconds * 1000
        return turn(.timer(timer))
    }
}

extension [RoleAction<Never>] {
    /// The calls: token, address and payload.
    var calls: [(token: UInt64, to: Address, payload: Payload)] {
        compactMap { if case .call(let token, let to, let payload, _) = $0 { (token, to, payload) } else { nil } }
    }

    func calls(_ kind: UInt16) -> [(token: UInt64, to: Address, payload: Payload)] {
        calls.filter { $0.payload.kind == kind }
    }

    var replies: [(id: UInt64, payload: Payload)] {
        compactMap { if case .reply(let id, let payload) = $0 { (id.value, payload) } else { nil } }
    }

    var refusals: [(id: UInt64, failure: Failure)] {
        compactMap { if case .refuse(let id, let failure) = $0 { (id.value, failure) } else { nil } }
    }

    var hops: [String] { compactMap { if case .trace(_, let hop) = $0 { hop } else { nil } } }
}

/// Numbers of the payloads in question.
enum Kind {
    static let lookup: UInt16 = 15
    static let deliver: UInt16 = 20
    static let event: UInt16 = 23
    static let append: UInt16 = 32
    static let fetch: UInt16 = 34
    static let commit: UInt16 = 36
    static let leave: UInt16 = 37
    static let plan: UInt16 = 62
}

enum Make {
    static func registration(_ user: String, _ session: String, login: String, epoch: UInt64 = 1) -> Registration {
        var registration = Registration()
        registration.appID = "demo"
        registration.userID = user
        registration.sessionID = session
        registration.loginID = login
        registration.epoch = epoch
        return registration
    }

    static func record(_ seq: UInt64, members: [String] = ["alice", "bob"], session: String = "sa") -> PushRecord {
        var record = PushRecord()
        record.appID = "demo"
        record.message.conversation = "p:alice|bob"
        record.message.seq = seq
        record.message.message = Data("m\(seq)".utf8)
        record.sender = "alice"
        record.senderSession = session
        record.clientMsgID = Data([UInt8(seq & 0xff)])
        record.members = members
        return record
    }

    static func lookup(_ results: [[Registration]?]) -> CallResult {
        var body = LookupResponse()
        body.results = results.map { registrations in
            var result = LookupResult()
            result.state = registrations.map { $0.isEmpty ? .presenceOffline : .presenceOnline } ?? .presenceUnknown
            result.registrations = registrations ?? []
            return result
        }
        return .answered(.lookupResponse(body))
    }

    static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        var position = LogPosition()
        position.partition = partition
        position.offset = offset
        return position
    }

    static func fetched(
        generation: UInt64, assigned: [LogPosition] = [], incarnation: UInt64 = 7,
        entries: [(UInt32, UInt64, PushRecord)] = []
    ) -> CallResult {
        var body = LogFetched()
        body.generation = generation
        body.assigned = assigned
        body.incarnation = incarnation
        body.entries = entries.map { partition, offset, record in
            var entry = LogEntry()
            entry.partition = partition
            entry.offset = offset
            entry.record = (try? record.serializedData()) ?? Data()
            return entry
        }
        return .answered(.logFetched(body))
    }

    /// Every target and sender of a plan settled.
    static func done(_ plan: Payload, except unsettled: Set<UInt64> = []) -> CallResult {
        guard case .workerPlan(let plan) = plan else { return .unknown(Failure()) }
        var body = WorkerDone()
        body.batches = plan.batches.map { batch in
            var response = DeliverResponse()
            response.results = batch.deliveries.map { delivery in
                var result = DeliveryResult()
                guard !unsettled.contains(delivery.message.seq) else { return result }
                result.targets = delivery.targets.map { _ in .delivered }
                result.senders = delivery.senders.map { _ in .delivered }
                return result
            }
            return response
        }
        return .answered(.workerDone(body))
    }

    static func delivery(_ seq: UInt64, to sessions: [String], senders: [String] = []) -> Delivery {
        var delivery = Delivery()
        delivery.message = record(seq).message
        delivery.targets = sessions.map { session in
            var ref = SessionRef()
            ref.sessionID = session
            ref.epoch = 1
            ref.appID = "demo"
            ref.userID = "bob"
            return ref
        }
        delivery.senders = senders.map { session in
            var ref = SessionRef()
            ref.sessionID = session
            ref.epoch = 1
            ref.appID = "demo"
            ref.userID = "alice"
            return ref
        }
        return delivery
    }

    static func plan(_ batches: [(UInt32, String, [Delivery])]) -> Payload {
        var plan = WorkerPlan()
        plan.batches = batches.map { partition, login, deliveries in
            var batch = WorkerBatch()
            batch.partition = partition
            batch.loginID = login
            batch.deliveries = deliveries
            return batch
        }
        return .workerPlan(plan)
    }

    static func hands(_ results: [(targets: [Hand], senders: [Hand])]) -> CallResult {
        var body = DeliverResponse()
        body.results = results.map { targets, senders in
            var result = DeliveryResult()
            result.targets = targets
            result.senders = senders
            return result
        }
        return .answered(.deliverResponse(body))
    }
}

extension Payload {
    var seqs: [UInt64] {
        switch self {
        case .deliverRequest(let body): body.deliveries.map(\.message.seq)
        case .workerPlan(let body): body.batches.flatMap(\.deliveries).map(\.message.seq)
        default: []
        }
    }

    var fetchedPositions: [UInt32: UInt64] {
        guard case .logFetch(let body) = self else { return [:] }
        return Dictionary(uniqueKeysWithValues: body.positions.map { ($0.partition, $0.offset) })
    }

    var committed: [UInt32: UInt64] {
        guard case .logCommit(let body) = self else { return [:] }
        return Dictionary(uniqueKeysWithValues: body.positions.map { ($0.partition, $0.offset) })
    }

    var lookedUp: [String] {
        guard case .lookupRequest(let body) = self else { return [] }
        return body.users.map(\.userID)
    }
}

let broken = CallResult.unknown(Failure(.serviceUnavailable, "the connection broke"))
let late = CallResult.unknown(Failure(.deadlineExceeded, "no answer within the deadline"))
let down = CallResult.refused(Failure(.serviceUnavailable, "nobody there"))
