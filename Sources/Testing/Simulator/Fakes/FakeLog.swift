import Foundation
import Machinery
import RPC
import Wire

/// The log port in memory: what was appended and committed survives a crash, who was waiting does not. A share
/// `trouble` of appends fails from some entry of a partition on, one half of them after writing.
public struct FakeLog: RoleMachine {
    public static let role = RoleName.messageLog
    typealias Action = RoleAction<Never>

    public struct Topic: Sendable {
        public var partitions: [[Data]]
        public var incarnation: UInt64
        public var groups: [String: Group] = [:]
    }

    public struct Group: Sendable {
        public var generation: UInt64 = 0
        public var committed: [UInt32: UInt64] = [:]
        /// Members and when they were last heard of; forgotten in a crash.
        public var members: [String: UInt64] = [:]
    }

    private struct Parked {
        let id: CallID
        let request: LogFetch
        let until: UInt64
    }

    public private(set) var topics: [String: Topic] = [:]
    public var trouble: Double
    private var parked: [Parked] = []
    private var random: SeededRandom

    private static let tickMS: UInt32 = 50
    private static let silentMicros: UInt64 = 10_000_000

    /// - Parameter logs: the logs and their partition counts.
    public init(logs: [String: UInt32], seed: UInt64, trouble: Double = 0) {
        self.random = SeededRandom(seed: seed)
        self.trouble = trouble
        for (name, partitions) in logs {
            topics[name] = Topic(partitions: Array(repeating: [], count: Int(partitions)), incarnation: 7)
        }
    }

    /// The log after a crash.
    public func restarted() -> FakeLog {
        var copy = self
        copy.parked = []
        for name in topics.keys {
            for group in topics[name]?.groups.keys.sorted() ?? [] { copy.topics[name]?.groups[group]?.members = [:] }
        }
        return copy
    }

    /// The log with its entries and without its groups, for a replay.
    public func forReplay(seed: UInt64) -> FakeLog {
        var copy = restarted()
        copy.random = SeededRandom(seed: seed)
        copy.trouble = 0
        for name in topics.keys { copy.topics[name]?.groups = [:] }
        return copy
    }

    /// Puts an entry at the end, as a program of another version might have.
    public mutating func plant(_ log: String, partition: UInt32, record: Data) {
        topics[log]?.partitions[Int(partition)].append(record)
    }

    /// The entries of a partition.
    public func entries(_ log: String, _ partition: UInt32) -> [Data] {
        topics[log].map { $0.partitions[Int(partition)] } ?? []
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return [.timer(1, afterMS: Self.tickMS)]
        case .timer: return [.timer(1, afterMS: Self.tickMS)] + tick(now)
        case .call(let id, .logAppend(let body), _): return [append(id, body)]
        case .call(let id, .logFetch(let body), _): return fetch(id, body, now)
        case .call(let id, .logCommit(let body), _): return [commit(id, body)]
        case .call(let id, .logLeave(let body), _):
            topics[body.log]?.groups[body.group]?.members[body.member] = nil
            return [.reply(id, .done(Done()))] + rebalance(body.log, body.group)
        case .call(let id, _, _): return [.refuse(id, Failure(.noSuchMethod, "not a log's call"))]
        case .reply: return []
        case .flush: return answerParked { entries, _ in !entries.isEmpty }
        }
    }

    // MARK: Appending

    private mutating func append(_ id: CallID, _ body: LogAppend) -> Action {
        var broken: Set<UInt32> = []
        var reply = LogAppended()
        for entry in body.entries {
            var result = LogAppendResult()
            guard let count = topics[body.log]?.partitions.count, Int(entry.partition) < count else {
                return .refuse(id, Failure(.notFound, "no such log or partition"))
            }
            if broken.contains(entry.partition) {
                result.failure = Failure(.storeUnavailable, "an earlier entry of the partition failed")
            } else if random.chance(trouble) {
                broken.insert(entry.partition)
                if random.chance(0.5) {
                    topics[body.log]?.partitions[Int(entry.partition)].append(entry.record)
                    result.unknown = true
                } else {
                    result.failure = Failure(.storeUnavailable, "the disk said no")
                }
            } else {
                result.offset = UInt64(topics[body.log]?.partitions[Int(entry.partition)].count ?? 0)
                topics[body.log]?.partitions[Int(entry.partition)].append(entry.record)
            }
            reply.results.append(result)
        }
        return .reply(id, .logAppended(reply))
    }

    // MARK: Consuming

    private mutating func fetch(_ id: CallID, _ body: LogFetch, _ now: Instant) -> [Action] {
        guard topics[body.log] != nil else { return [.refuse(id, Failure(.notFound, "no such log"))] }
        let isNew = topics[body.log]?.groups[body.group]?.members[body.member] == nil
        topics[body.log]?.groups[body.group, default: Group()].members[body.member] = now.micros
        parked.append(Parked(id: id, request: body, until: now.micros + UInt64(body.waitMs) * 1000))
        if isNew { return rebalance(body.log, body.group) }
        return []
    }

    /// A new generation, of which everybody who waits hears at once.
    private mutating func rebalance(_ log: String, _ group: String) -> [Action] {
        topics[log]?.groups[group]?.generation += 1
        return answerParked { _, _ in false }
    }

    private mutating func tick(_ now: Instant) -> [Action] {
        var actions = answerParked { _, until in until <= now.micros }
        for name in topics.keys.sorted() {
            for group in topics[name]?.groups.keys.sorted() ?? [] {
                let members = topics[name]?.groups[group]?.members ?? [:]
                let waiting = Set(
                    parked.filter { $0.request.log == name && $0.request.group == group }
                        .map(\.request.member))
                let silent = members.filter {
                    $0.value + Self.silentMicros < now.micros && !waiting.contains($0.key)
                }
                guard !silent.isEmpty else { continue }
                for member in silent.keys { topics[name]?.groups[group]?.members[member] = nil }
                actions += rebalance(name, group)
            }
        }
        return actions
    }

    private mutating func answerParked(_ isDue: (_ entries: [LogEntry], _ until: UInt64) -> Bool) -> [Action] {
        var actions: [Action] = []
        var rest: [Parked] = []
        for waiting in parked {
            let request = waiting.request
            let group = topics[request.log]?.groups[request.group] ?? Group()
            if request.generation != group.generation {
                actions.append(.reply(waiting.id, .logFetched(assignment(request))))
                continue
            }
            let entries = entries(for: request)
            if request.waitMs == 0 || isDue(entries, waiting.until) {
                var body = header(request)
                body.entries = entries
                actions.append(.reply(waiting.id, .logFetched(body)))
            } else {
                rest.append(waiting)
            }
        }
        parked = rest
        return actions
    }

    private func mine(_ request: LogFetch) -> [UInt32] {
        let group = topics[request.log]?.groups[request.group] ?? Group()
        let members = group.members.keys.sorted()
        guard let place = members.firstIndex(of: request.member) else { return [] }
        let count = topics[request.log]?.partitions.count ?? 0
        return (0..<count).filter { $0 % members.count == place }.map { UInt32($0) }
    }

    private func header(_ request: LogFetch) -> LogFetched {
        var body = LogFetched()
        let topic = topics[request.log]
        body.generation = topic?.groups[request.group]?.generation ?? 0
        body.incarnation = topic?.incarnation ?? 0
        body.partitions = UInt32(topic?.partitions.count ?? 0)
        body.ends = mine(request).map { number in
            var position = LogPosition()
            position.partition = number
            position.offset = UInt64(topic?.partitions[Int(number)].count ?? 0)
            return position
        }
        return body
    }

    private func assignment(_ request: LogFetch) -> LogFetched {
        var body = header(request)
        let committed = topics[request.log]?.groups[request.group]?.committed ?? [:]
        body.assigned = mine(request).map { number in
            var position = LogPosition()
            position.partition = number
            position.offset = committed[number] ?? 0
            return position
        }
        return body
    }

    private func entries(for request: LogFetch) -> [LogEntry] {
        var entries: [LogEntry] = []
        var bytes = 0
        for position in request.positions {
            let all = self.entries(request.log, position.partition)
            guard position.offset < UInt64(all.count) else { continue }
            for offset in Int(position.offset)..<all.count {
                if !entries.isEmpty, bytes + all[offset].count > Int(request.maxBytes) { return entries }
                var entry = LogEntry()
                entry.partition = position.partition
                entry.offset = UInt64(offset)
                entry.record = all[offset]
                bytes += all[offset].count
                entries.append(entry)
            }
        }
        return entries
    }

    private mutating func commit(_ id: CallID, _ body: LogCommit) -> Action {
        guard topics[body.log]?.groups[body.group]?.generation == body.generation else {
            return .refuse(id, Failure(.retry, "the group has another generation"))
        }
        for position in body.positions {
            topics[body.log]?.groups[body.group]?.committed[position.partition] = position.offset
        }
        return .reply(id, .done(Done()))
    }
}
