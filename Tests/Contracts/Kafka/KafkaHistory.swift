import CRdKafka
import Foundation
import KafkaLog
import Machinery
import Ports
import RPC
import Synchronization
import TestKit
import Wire

/// What writers made of a log: a position and the records before it, per partition, moved by compare-and-set as the
/// recent store moves its buckets.
final class Ledger: Sendable {
    private struct Bucket {
        var stored: UInt64 = 0
        var records: [String] = []
    }

    private struct State {
        var buckets: [UInt32: Bucket] = [:]
        var violations: [String] = []
    }

    private let state = Mutex(State())

    var violations: [String] { state.withLock { $0.violations } }
    func stored(_ partition: UInt32) -> UInt64 { state.withLock { $0.buckets[partition]?.stored ?? 0 } }
    func records(_ partition: UInt32) -> [String] { state.withLock { $0.buckets[partition]?.records ?? [] } }
    func violate(_ text: String) { state.withLock { $0.violations.append(text) } }

    /// Stores what follows on what is stored; what is stored already is left out, a hole is a loss.
    func handle(_ entries: [LogEntry], by member: String) {
        state.withLock { state in
            for entry in entries {
                var bucket = state.buckets[entry.partition] ?? Bucket()
                if entry.offset > bucket.stored {
                    state.violations.append("\(member) got \(entry.partition)/\(entry.offset) after \(bucket.stored)")
                }
                guard entry.offset == bucket.stored else { continue }
                bucket.stored += 1
                bucket.records.append(String(decoding: entry.record, as: UTF8.self))
                state.buckets[entry.partition] = bucket
            }
        }
    }

    func check(assigned: [UInt32: UInt64], of member: String) {
        state.withLock { state in
            for (partition, position) in assigned where position > state.buckets[partition]?.stored ?? 0 {
                state.violations.append("the position \(partition)/\(position) of \(member) is ahead of what is stored")
            }
        }
    }
}

/// One history of a mock cluster: senders that send again what was not accepted, members that come and go, brokers that
/// fail, stall, vanish and change their offices, all from one seed.
///
/// Promised: what was accepted is in the log; a sender's messages are in its order once copies are left out; no member
/// meets a hole; no position is ahead of what was handled; everything is read in the end.
struct KafkaHistory {
    let seed: UInt64
    private static let partitions: UInt32 = 4
    private static let senders = 3
    private static let messages = 40

    /// The promises that were broken.
    func run() async throws -> [String] {
        let mock = try MockKafka(brokers: 3)
        // Each node is what a process has of the log.
        var nodes: [HostedKafka] = []
        var settings = mock.settings()
        // The mock cluster checks nobody's sequence numbers, as brokers do, and so lets a request overtake one that
        // failed. Here the records of a call travel in one request, and a sender has one call under way.
        settings.limits.lingerMS = 5
        settings.properties["max.in.flight.requests.per.connection"] = "1"
        for _ in 0..<2 { nodes.append(try await HostedKafka.open(settings)) }
        let ports = nodes.map(\.port)
        let ledger = Ledger()
        let isOver = Flag()
        let sent = Flag()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await withTaskGroup(of: Void.self) { senders in
                    for sender in 0..<Self.senders {
                        senders.addTask { await send(sender, through: ports, ledger) }
                    }
                }
                sent.set()
            }
            group.addTask { await trouble(mock, until: sent) }
            for reader in 0..<3 {
                group.addTask { await read(reader, from: ports[reader % 2], ledger, sent, until: isOver) }
            }
            group.addTask {
                await drain(ledger, after: sent)
                isOver.set()
            }
        }
        for node in nodes { await node.stop() }
        withExtendedLifetime(mock) {}
        return ledger.violations + Self.orders(ledger)
    }

    private static func name(_ sender: Int, _ number: Int) -> String { "\(sender):\(number)" }

    private static func orders(_ ledger: Ledger) -> [String] {
        var found: [String] = []
        for sender in 0..<senders {
            var seen: [String] = []
            for record in ledger.records(UInt32(sender)) where !seen.contains(record) { seen.append(record) }
            let wanted = (0..<messages).map { name(sender, $0) }
            if seen != wanted { found.append("sender \(sender): \(seen.joined(separator: " "))") }
        }
        return found
    }

    // MARK: Senders

    /// One batch at a time; what was not accepted, and all behind it, is sent again, through any node.
    private func send(_ sender: Int, through ports: [LogPort], _ ledger: Ledger) async {
        var random = SeededRandom(seed: seed &* 31 &+ UInt64(sender))
        var next = 0
        for _ in 0..<2000 where next < Self.messages {
            let end = min(Self.messages, next + Int.random(in: 1...5, using: &random))
            var request = LogAppend()
            request.log = "msg"
            request.entries = (next..<end).map { MessageLogContract.entry(UInt32(sender), Self.name(sender, $0)) }
            let port = ports[Int.random(in: 0..<ports.count, using: &random)]
            if case .answered(.logAppended(let body)) = await port.ask(.logAppend(request)) {
                let accepted = body.results.prefix { !$0.hasFailure && !$0.unknown }.count
                if body.results.dropFirst(accepted).contains(where: { !$0.hasFailure && !$0.unknown }) {
                    ledger.violate("a record of \(sender) behind one that failed was accepted")
                }
                next += accepted
                if accepted > 0 { continue }
            }
            try? await Task.sleep(for: .milliseconds(Int.random(in: 10...60, using: &random)))
        }
        if next < Self.messages { ledger.violate("sender \(sender) got no further than \(next)") }
    }

    // MARK: Members

    private func read(
        _ number: Int, from port: LogPort, _ ledger: Ledger, _ sent: Flag, until isOver: Flag
    ) async {
        var random = SeededRandom(seed: seed &* 37 &+ UInt64(number))
        var reader = LogReader(port, group: "g", member: "m\(number)")
        // The first stays; the others leave now and then and come back, until everything is sent: their coming and
        // going would free a partition that nobody reads.
        var polls = number == 0 ? Int.max : Int.random(in: 5...40, using: &random)
        while !isOver.isSet {
            polls -= 1
            if polls <= 0, !sent.isSet {
                _ = await reader.leave()
                try? await Task.sleep(for: .milliseconds(Int.random(in: 50...800, using: &random)))
                reader = LogReader(port, group: "g", member: "m\(number)")
                polls = Int.random(in: 10...60, using: &random)
            }
            let shares = reader.shares
            guard case .answered(.logFetched(let body)) = await reader.fetch(waitMS: 100) else {
                try? await Task.sleep(for: .milliseconds(50))
                continue
            }
            let entries = reader.take(body)
            if reader.shares != shares { ledger.check(assigned: reader.assigned, of: reader.member) }
            ledger.handle(entries, by: reader.member)
            guard !entries.isEmpty, Int.random(in: 0..<3, using: &random) > 0 else { continue }
            let moved = reader.next.sorted { $0.key < $1.key }.map { LogReader.position($0.key, $0.value) }
            _ = await reader.commit(moved)
        }
        _ = await reader.leave()
    }

    /// Waits until everything that was sent is stored; 40 s at most.
    private func drain(_ ledger: Ledger, after sent: Flag) async {
        while !sent.isSet { try? await Task.sleep(for: .milliseconds(50)) }
        for _ in 0..<800 {
            let complete = (0..<Self.senders).allSatisfy { sender in
                Set(ledger.records(UInt32(sender))).count == Self.messages
            }
            if complete { return }
            try? await Task.sleep(for: .milliseconds(50))
        }
        ledger.violate("not everything that was accepted was read")
    }

    // MARK: Trouble

    private static let passing = [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__TRANSPORT,
    ]
    private static let lasting = [
        RD_KAFKA_RESP_ERR_POLICY_VIOLATION, RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
        RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    ]
    private static let ofFetch = [
        RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, RD_KAFKA_RESP_ERR__TRANSPORT,
    ]
    private static let ofGroup = [
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR__TRANSPORT,
    ]
    private static let groupCalls: [KafkaAPI] = [
        .offsetCommit, .offsetFetch, .findCoordinator, .joinGroup, .heartbeat, .syncGroup, .leaveGroup,
    ]

    private func trouble(_ mock: MockKafka, until sent: Flag) async {
        var random = SeededRandom(seed: seed)
        func pick<T>(_ choices: [T]) -> T { choices[Int.random(in: 0..<choices.count, using: &random)] }
        func some<T>(_ choices: [T]) -> [T] { (0..<Int.random(in: 1...3, using: &random)).map { _ in pick(choices) } }
        for _ in 0..<40 where !sent.isSet {
            let broker = Int32.random(in: 1...mock.brokers, using: &random)
            switch Int.random(in: 0..<12, using: &random) {
            case 0, 1: mock.fail(.produce, some(Self.passing))
            case 2: mock.fail(.produce, [pick(Self.lasting)])
            case 3: mock.fail(.fetch, some(Self.ofFetch))
            case 4, 5: mock.fail(pick(Self.groupCalls), some(Self.ofGroup))
            case 6: mock.fail(.listOffsets, some(Self.passing))
            case 7: mock.fail(.initProducer, [RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS])
            case 8: mock.setDelay(broker, milliseconds: Int32.random(in: 0...150, using: &random))
            case 9:
                mock.setDown(broker)
                try? await Task.sleep(for: .milliseconds(Int.random(in: 50...300, using: &random)))
                mock.setUp(broker)
            case 10: mock.lead("msg", Int32.random(in: 0..<4, using: &random), by: broker)
            default: mock.coordinate("g", by: broker)
            }
            try? await Task.sleep(for: .milliseconds(Int.random(in: 20...200, using: &random)))
        }
        mock.clear()
        for broker in 1...mock.brokers {
            mock.setDelay(broker, milliseconds: 0)
            mock.setUp(broker)
        }
    }
}

/// Set once, by anybody.
final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}
