import Foundation
import Identity
import Machinery
import MsgWriterRole
import RPC
import Testing
import Wire

/// A MsgWriter with one partition, taken by hand through fetch, claim, look-up, commit and what follows.
struct WriterScript {
    var script: Script<MsgWriterMachine>
    /// The parked fetch, once there is one.
    var fetch: Made?
    var generation: UInt64 = 1
    var incarnation: UInt64 = 7
    var partitions: UInt32 = 1

    init(_ change: (inout MsgWriterConfig) -> Void = { _ in }) {
        var config = MsgWriterConfig(instance: "w1", seed: 1)
        change(&config)
        script = Script(MsgWriterMachine(config: config))
    }

    /// Joins the group and claims partition 0; returns what happens then.
    mutating func start(
        committed: UInt64 = 0, stored: UInt64 = 0, end: UInt64 = 100, epoch: UInt64 = 1
    ) throws -> [RoleAction<Never>] {
        let claim = try join(committed: committed, end: end)
        return try take(script.reply(claim.token, claimed(stored: stored, epoch: epoch)))
    }

    mutating func join(committed: UInt64 = 0, end: UInt64 = 100, buckets: [UInt32] = [0]) throws -> Made {
        _ = script.on(.start)
        let join = try script.flush().call(to: .messageLog)
        guard case .logFetch(let body) = join.payload else { throw TestFailure() }
        #expect(body.generation == 0 && body.positions.isEmpty && body.member == "w1" && body.group == "msgwriter")
        let actions = script.reply(join.token, assigned(committed: committed, end: end, buckets: buckets))
        #expect(!actions.hasCall(to: .messageLog))
        return try actions.call(to: .recentStore)
    }

    /// Remembers the fetch among the actions.
    mutating func take(_ actions: [RoleAction<Never>]) throws -> [RoleAction<Never>] {
        if actions.hasCall(to: .messageLog), case let made = actions.calls.filter({ $0.address.role == .messageLog }) {
            for call in made { if case .logFetch = call.payload { fetch = call } }
        }
        return actions
    }

    mutating func reply(_ token: UInt64, _ result: CallResult) throws -> [RoleAction<Never>] {
        try take(script.reply(token, result))
    }

    mutating func timer(_ id: UInt64) throws -> [RoleAction<Never>] { try take(script.timer(id)) }

    // MARK: The log's answers

    func assigned(committed: UInt64, end: UInt64, buckets: [UInt32] = [0]) -> CallResult {
        var body = header(end: end, buckets: buckets)
        body.assigned = buckets.map { Self.position($0, committed) }
        return .answered(.logFetched(body))
    }

    func header(end: UInt64, buckets: [UInt32] = [0]) -> LogFetched {
        var body = LogFetched()
        body.generation = generation
        body.incarnation = incarnation
        body.partitions = partitions
        body.ends = buckets.map { Self.position($0, end) }
        return body
    }

    static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        var position = LogPosition()
        position.partition = partition
        position.offset = offset
        return position
    }

    /// Answers the parked fetch with these records from an offset on.
    mutating func feed(
        _ records: [LogRecord], from offset: UInt64 = 0, end: UInt64 = 100
    ) throws -> [RoleAction<Never>] {
        try feed(bytes: records.map { try $0.serializedBytes() }, from: offset, end: end)
    }

    mutating func feed(
        bytes: [Data], from offset: UInt64 = 0, end: UInt64 = 100
    ) throws -> [RoleAction<Never>] {
        let waiting = try #require(fetch)
        fetch = nil
        var body = header(end: end)
        body.entries = bytes.enumerated().map { index, bytes in
            var entry = LogEntry()
            entry.offset = offset + UInt64(index)
            entry.record = bytes
            return entry
        }
        return try take(script.reply(waiting.token, .answered(.logFetched(body))))
    }

    var wanted: [UInt64] {
        guard case .logFetch(let body)? = fetch?.payload else { return [] }
        return body.positions.map(\.offset)
    }

    // MARK: The store's answers

    func claimed(stored: UInt64, epoch: UInt64, failure: Failure? = nil) -> CallResult {
        var result = BucketClaimResult()
        result.epoch = epoch
        result.stored = stored
        if let failure { result.failure = failure }
        var body = BucketClaimed()
        body.results = [result]
        return .answered(.bucketClaimed(body))
    }

    /// An answer to a look-up: no hits but these, by position of the key; heads at this seq.
    func found(
        _ lookup: Made, hits: [Int: StoredRow] = [:], head: UInt64 = 0, timeMS: UInt64 = 0
    ) throws -> CallResult {
        guard case .writerLookup(let asked) = lookup.payload else { throw TestFailure() }
        var body = WriterFound()
        body.hits = asked.keys.indices.map { hits[$0] ?? StoredRow() }
        body.heads = asked.conversations.map { conversation in
            var answer = Head()
            answer.appID = conversation.appID
            answer.conversation = conversation.conversation
            answer.seq = head
            answer.n = head
            answer.timeMs = timeMS
            return answer
        }
        return .answered(.writerFound(body))
    }

    static func committed(_ states: [CommitState], buckets: [UInt32] = [0]) -> CallResult {
        var body = StoreCommitted()
        body.results = zip(states, buckets).map { state, bucket in
            var result = BucketCommitResult()
            result.bucket = bucket
            result.state = state
            return result
        }
        return .answered(.storeCommitted(body))
    }

    static let done = CallResult.answered(.done(Done()))

    /// Takes records all the way to the commit, whose call it returns.
    mutating func toCommit(
        _ records: [LogRecord], from offset: UInt64 = 0, head: UInt64 = 0, hits: [Int: StoredRow] = [:]
    ) throws -> (made: Made, commit: BucketCommit) {
        let lookup = try feed(records, from: offset).call(to: .recentStore)
        return try commit(reply(lookup.token, found(lookup, hits: hits, head: head)))
    }

    /// Confirms every call to a role; returns what follows.
    mutating func confirm(_ actions: [RoleAction<Never>], by role: RoleName) throws -> [RoleAction<Never>] {
        var next: [RoleAction<Never>] = []
        for call in actions.calls where call.address.role == role { next += try reply(call.token, Self.done) }
        return next
    }

    func commit(_ actions: [RoleAction<Never>]) throws -> (made: Made, commit: BucketCommit) {
        let made = try actions.call(to: .recentStore)
        guard case .storeCommit(let body) = made.payload else { throw TestFailure() }
        return (made, try #require(body.buckets.first))
    }
}

extension Array where Element == RoleAction<Never> {
    /// The group offsets that are committed here.
    var offsets: [UInt64] {
        calls.flatMap { call -> [UInt64] in
            guard case .logCommit(let body) = call.payload else { return [] }
            return body.positions.map(\.offset)
        }
    }

    var pushes: [PushRecord] {
        calls.flatMap { call -> [PushRecord] in
            guard case .pushMessages(let body) = call.payload else { return [] }
            return body.items.map(\.record)
        }
    }

    var hotRows: [StoredRow] {
        calls.flatMap { call -> [StoredRow] in
            guard case .hotPut(let body) = call.payload else { return [] }
            return body.rows
        }
    }

    /// Under which claims they were stored.
    var hotFences: [HotFence] {
        calls.flatMap { call -> [HotFence] in
            guard case .hotPut(let body) = call.payload else { return [] }
            return body.fences
        }
    }

    var touches: [IndexEntry] {
        calls.flatMap { call -> [IndexEntry] in
            guard case .indexTouch(let body) = call.payload else { return [] }
            return body.entries
        }
    }
}
