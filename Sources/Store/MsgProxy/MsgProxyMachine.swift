import Foundation
import Identity
import Machinery
import RPC
import Wire

/// Takes messages to be stored: checks them, appends everything of a flush to the log together, and says `accepted`
/// only after the log has.
///
/// Order: the records of one conversation in one StoreMessages are in order, and their sender has no others under
/// way, so array order is kept and nothing behind a record that has to come again is appended.
public struct MsgProxyMachine: RoleMachine {
    public static let role = RoleName.msgProxy

    /// One StoreMessages: what is already decided, and which records are in the log's hands.
    struct Request {
        let id: CallID
        var results: [SendResult]
        var appended: [Appended]
    }

    /// A record on its way into the log.
    struct Appended {
        let position: Int
        let lane: SenderLane
        let bucket: Int
        let bytes: Int
        /// Entries that it has in the append: 1, unless a test spoils it.
        var copies = 1
    }

    let config: MsgProxyConfig
    private var fault: FaultHook
    private var nextToken: UInt64 = 1
    /// Gathered until the flush; their records are in `entries`.
    private var gathered: [Request] = []
    private var entries: [[LogEntry]] = []
    private var appending: [UInt64: [Request]] = [:]
    /// Records gathered or being appended, per bucket.
    private var waiting: [Int]
    private var waitingBytes = 0
    private var conversations: RateTable
    private var apps: RateTable
    private var lag: WriterLag
    /// The question for the writers' progress that is under way; whether a timer for the next is.
    private var asking: UInt64?
    private var isArmed = false

    public init(config: MsgProxyConfig) {
        self.config = config
        self.fault = config.fault
        self.conversations = RateTable(
            perSecond: config.conversationPerSecond, burst: config.conversationBurst, keys: config.limitedConversations)
        self.apps = RateTable(perSecond: config.appPerSecond, burst: config.appBurst, keys: config.limitedApps)
        self.lag = WriterLag(config: config)
        self.waiting = Array(repeating: 0, count: Int(config.buckets))
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return []
        case .timer: return askProgress()
        case .call(let id, .storeMessages(let body), _): return receive(id, body.records, now)
        case .call(let id, _, _):
            return [.refuse(id, Failure(.malformedRequest, "MsgProxy takes StoreMessages only"))]
        case .reply(let token, let result): return replied(token, result, now)
        case .flush: return flush()
        }
    }

    // MARK: In

    private mutating func receive(_ id: CallID, _ records: [LogRecord], _ now: Instant) -> [RoleAction<Never>] {
        guard waitingBytes < config.waitingBytes else {
            return [.refuse(id, Failure(.overloaded, "\(config.waitingBytes) bytes wait for the log"))]
        }
        var request = Request(
            id: id, results: Array(repeating: SendResult(), count: records.count), appended: [])
        var mine: [LogEntry] = []
        var broken: Set<SenderLane> = []
        var taken: Set<UInt64> = []
        var traces: [RoleAction<Never>] = []
        let latest = now.wallMS + config.aheadMS
        for (position, record) in records.enumerated() {
            let lane = SenderLane(record)
            let hash = StableHash.of(record.appID, record.conversation)
            let bucket = Int(StableHash.bucket(hash, buckets: config.buckets))
            let decision =
                broken.contains(lane)
                ? .failure(SenderLane.behind) : entry(record, hash, bucket: bucket, taken: &taken, now)
            switch decision {
            case .success(let entry):
                waiting[bucket] += 1
                waitingBytes += entry.record.count
                mine.append(entry)
                request.results[position].sentMs = min(record.timeMs, latest)
                request.appended.append(
                    Appended(position: position, lane: lane, bucket: bucket, bytes: entry.record.count))
                if !record.traceID.isEmpty { traces.append(.trace(record.traceID, hop: "msgproxy")) }
            case .failure(let failure):
                if failure.retryable { broken.insert(lane) }
                request.results[position] = .refused(failure)
            }
        }
        guard !mine.isEmpty else { return [Self.answer(request)] }
        if fault.isArmed { spoil(&mine, &request, records) }
        gathered.append(request)
        entries.append(mine)
        return traces
    }

    private mutating func entry(
        _ record: LogRecord, _ hash: UInt64, bucket: Int, taken: inout Set<UInt64>, _ now: Instant
    ) -> Result<LogEntry, Failure> {
        switch record.verdict(partition: UInt32(bucket), partitions: config.buckets) {
        case .placeholder(let failure), .dead(let failure): return .failure(failure)
        case .storable: break
        }
        guard waiting[bucket] < config.waitingPerBucket else {
            return .failure(Failure(.busy, "the conversation's bucket is behind", retryAfterMS: 2000))
        }
        if let wait = lag.wait(hash, bucket: bucket, taken: &taken, nowMicros: now.micros) {
            let text = "what is stored lags behind; this conversation is among the heaviest of its bucket"
            return .failure(Failure(.busy, text, retryAfterMS: wait))
        }
        if let wait = conversations.take(hash, nowMicros: now.micros) {
            let text = "over \(config.conversationPerSecond) messages a second in one conversation"
            return .failure(Failure(.rateLimited, text, retryAfterMS: wait))
        }
        if let wait = apps.take(StableHash.of(record.appID), nowMicros: now.micros) {
            let text = "over \(config.appPerSecond) messages a second of one app"
            return .failure(Failure(.rateLimited, text, retryAfterMS: wait))
        }
        guard let bytes = Self.encoded(record, latest: now.wallMS + config.aheadMS) else {
            return .failure(Failure(.internalError, "the record could not be encoded"))
        }
        var entry = LogEntry()
        entry.partition = UInt32(bucket)
        entry.record = bytes
        entry.traceID = record.traceID
        return .success(entry)
    }

    private static func encoded(_ record: LogRecord, latest: UInt64) -> Data? {
        guard record.timeMs > latest else { return try? record.serializedBytes() }
        var early = record
        early.timeMs = latest
        return try? early.serializedBytes()
    }

    // MARK: Appending

    private mutating func flush() -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        var body = LogAppend()
        var bytes = 0
        var requests: [Request] = []
        for (request, mine) in zip(gathered, entries) {
            if body.entries.count >= config.entriesPerAppend || bytes >= config.bytesPerAppend {
                actions.append(append(&body, &requests))
                bytes = 0
            }
            body.entries += mine
            bytes += mine.reduce(0) { $0 + $1.record.count }
            requests.append(request)
        }
        gathered = []
        entries = []
        if !requests.isEmpty { actions.append(append(&body, &requests)) }
        return actions
    }

    private mutating func append(_ body: inout LogAppend, _ requests: inout [Request]) -> RoleAction<Never> {
        let token = nextToken
        nextToken += 1
        appending[token] = requests
        requests = []
        body.log = config.log
        defer { body = LogAppend() }
        return .call(token, .any(.messageLog), .logAppend(body), timeoutMS: config.timeoutMS)
    }

    private mutating func replied(_ token: UInt64, _ result: CallResult, _ now: Instant) -> [RoleAction<Never>] {
        if token == asking {
            asking = nil
            guard case .answered(.logProgress(let body)) = result else {
                lag.forget()
                return []
            }
            return lag.progressed(body.committed, nowMicros: now.micros) ? [armed()] : []
        }
        guard let requests = appending.removeValue(forKey: token) else { return [] }
        let actions = appended(requests, result, now)
        guard !lag.isEmpty, asking == nil, !isArmed else { return actions }
        return actions + [armed()]
    }

    private mutating func armed() -> RoleAction<Never> {
        isArmed = true
        return .timer(1, afterMS: config.progressEveryMS)
    }

    private mutating func askProgress() -> [RoleAction<Never>] {
        isArmed = false
        let token = nextToken
        nextToken += 1
        asking = token
        var body = LogProgressAsk()
        body.log = config.log
        body.group = config.writers
        return [.call(token, .any(.messageLog), .logProgressAsk(body), timeoutMS: config.timeoutMS)]
    }

    private mutating func appended(
        _ requests: [Request], _ result: CallResult, _ now: Instant
    ) -> [RoleAction<Never>] {
        let sent = requests.reduce(0) { sum, request in sum + request.appended.reduce(0) { $0 + $1.copies } }
        var outcome: LogOutcome = .unknown
        switch result {
        case .answered(.logAppended(let body)) where body.results.count == sent: outcome = .each(body.results)
        case .refused(let failure): outcome = .refused(failure.asStoreFailure)
        case .answered, .unknown: break
        }
        var next = 0
        return requests.map { request in
            var request = request
            var broken: Set<SenderLane> = []
            for record in request.appended {
                waiting[record.bucket] -= 1
                waitingBytes -= record.bytes
                var result = outcome.result(next, broken: broken.contains(record.lane))
                if result.outcome == .accepted {
                    lag.appended(bucket: record.bucket, offset: outcome.offset(next), now.micros)
                    result.sentMs = request.results[record.position].sentMs
                } else {
                    broken.insert(record.lane)
                }
                next += record.copies
                request.results[record.position] = result
            }
            return Self.answer(request)
        }
    }

    private static func answer(_ request: Request) -> RoleAction<Never> {
        var body = StoreOutcomes()
        body.results = request.results
        return .reply(request.id, .storeOutcomes(body))
    }

    /// The mistakes that a test asked for.
    private mutating func spoil(_ mine: inout [LogEntry], _ request: inout Request, _ records: [LogRecord]) {
        guard let last = mine.indices.last else { return }
        let record = records[request.appended[last].position]
        if fault.fires(.miscountOne) {
            mine[last].record = Self.encoded(record) { $0.control.toggle() }
        }
        if last > 0, request.appended[last - 1].lane == request.appended[last].lane, fault.fires(.swapTwo) {
            mine.swapAt(last - 1, last)
        }
        if fault.fires(.doubleOne) {
            var copy = mine[last]
            copy.record = Self.encoded(record) { $0.clientMsgID[$0.clientMsgID.endIndex - 1] ^= 1 }
            mine.append(copy)
            request.appended[last].copies = 2
        }
        if fault.fires(.dropOne) {
            let dropped = request.appended.removeLast()
            mine.removeLast()
            waiting[dropped.bucket] -= 1
            waitingBytes -= dropped.bytes
            request.results[dropped.position].outcome = .accepted
        }
    }

    private static func encoded(_ record: LogRecord, _ change: (inout LogRecord) -> Void) -> Data {
        var record = record
        change(&record)
        return (try? record.serializedBytes() as Data) ?? Data()
    }
}
