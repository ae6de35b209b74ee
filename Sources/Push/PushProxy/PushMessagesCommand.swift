import RPC
import Wire

/// PushMessages: one append per flush for everything gathered, answered per call when it is in the log.
struct MessageIntake: Sendable {
    private struct Share: Sendable {
        var call: CallID
        var count: Int
    }

    private struct Batch: Sendable {
        var shares: [Share] = []
        var entries: [LogEntry] = []
    }

    private let config: PushProxyConfig
    private var gathered = Batch()
    private var appending: [UInt64: Batch] = [:]
    private(set) var waiting = 0
    private var calls = 0

    init(config: PushProxyConfig) { self.config = config }

    mutating func accept(_ id: CallID, _ items: [PushItem]) -> [RoleAction<Never>] {
        calls += 1
        if calls == config.dropOnce { return [] }
        guard !items.isEmpty else { return [.reply(id, .done(Done()))] }
        guard waiting + items.count <= config.maxWaitingRecords else {
            return [.refuse(id, Failure(.overloaded, "PushProxy holds \(waiting) records; retry later"))]
        }
        var entries: [LogEntry] = []
        entries.reserveCapacity(items.count)
        for item in items {
            guard let bytes = try? item.record.serializedData() else {
                return [.refuse(id, Failure(.malformedRequest, "a push record that does not encode"))]
            }
            var entry = LogEntry()
            entry.partition = item.partition
            entry.record = bytes
            entry.traceID = item.record.traceID
            entries.append(entry)
        }
        waiting += items.count
        gathered.shares.append(Share(call: id, count: items.count))
        gathered.entries.append(contentsOf: entries)
        return items.compactMap { $0.record.traceID.isEmpty ? nil : .trace($0.record.traceID, hop: "pushproxy") }
    }

    mutating func flush(tokens: inout UInt64) -> [RoleAction<Never>] {
        guard !gathered.entries.isEmpty else { return [] }
        let token = tokens
        tokens += 1
        var append = LogAppend()
        append.log = config.log
        append.entries = gathered.entries
        gathered.entries = []
        appending[token] = gathered
        gathered = Batch()
        return [.call(token, .any(.pushLog), .logAppend(append), timeoutMS: config.appendTimeoutMS)]
    }

    /// Nil when the token is not one of ours.
    mutating func replied(_ token: UInt64, _ result: CallResult) -> [RoleAction<Never>]? {
        guard let batch = appending.removeValue(forKey: token) else { return nil }
        let count = batch.shares.reduce(0) { $0 + $1.count }
        waiting -= count
        switch result {
        case .answered(.logAppended(let body)) where body.results.count == count:
            return settle(batch, body.results)
        case .answered(let other):
            return unknown(batch, Failure(.internalError, "the log answered an append with payload \(other.kind)"))
        case .refused(let failure): return batch.shares.map { .refuse($0.call, failure) }
        case .unknown(let failure): return unknown(batch, failure)
        }
    }

    private func settle(_ batch: Batch, _ results: [LogAppendResult]) -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        var from = 0
        for share in batch.shares {
            let mine = results[from..<from + share.count]
            from += share.count
            var done = Done()
            if mine.contains(where: { $0.unknown || $0.hasFailure }) { done.failures = mine.map(Self.failure) }
            actions.append(.reply(share.call, .done(done)))
        }
        return actions
    }

    /// Every item may or may not be in the log. A push is repeatable (clients know messages by seq), so the caller
    /// repeats.
    private func unknown(_ batch: Batch, _ cause: Failure) -> [RoleAction<Never>] {
        let failure = Failure(.outcomeUnknown, "append to log \(config.log): \(cause.message)")
        return batch.shares.map { share in
            var done = Done()
            done.failures = Array(repeating: failure, count: share.count)
            return .reply(share.call, .done(done))
        }
    }

    private static func failure(_ result: LogAppendResult) -> Failure {
        if result.unknown { return Failure(.outcomeUnknown, result.failure.message) }
        return result.failure
    }
}
