import CRdKafka
import Foundation
import Logging
import Ports
import RPC
import Synchronization
import TestKit
import Testing
import Wire

@testable import KafkaLog

/// The log in Kafka on a real server: only where one is named, which Tests/EndToEnd/kafka does.
@Suite(.serialized, .enabled(if: KafkaServer.program != nil)) struct KafkaServerTests {
    @Test func everyPromiseOfThePort() async throws {
        let server = try KafkaServer()
        var waiting = Array(LogPortContract.cases.enumerated())[...]
        try await withThrowingTaskGroup(of: Void.self) { group in
            func next() {
                guard let (number, contract) = waiting.popFirst() else { return }
                group.addTask {
                    do {
                        let settings = server.settings(topics: "contract-\(number)")
                        try await HostedKafka.with(settings) { try await contract.run($0.port) }
                    } catch { Issue.record("\(contract): \(error)") }
                }
            }
            // The server answers a fetch that finds nothing at once: more readers than these keep it too busy.
            for _ in 0..<4 { next() }
            while try await group.next() != nil { next() }
        }
        withExtendedLifetime(server) {}
    }

    /// The server stops cleanly and comes back while one sends and one reads; then the reader's process is another.
    /// What was accepted is there, once, in order, under the same number, and the position is where it was.
    @Test func aCleanRestartInTheMiddle() async throws {
        let server = try KafkaServer()
        let settings = server.settings(topics: "restart")
        let first = try await HostedKafka.open(settings)
        let incarnation = first.log.incarnation
        var reader = LogReader(first.port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        let port = first.port
        let restarted = CleanRestart()
        async let sent = Self.send(300, through: port) { if $0 == 150 { restarted.set(by: server) } }
        var seen: [String] = []
        for _ in 0..<600 where Set(seen).count < 300 {
            guard case .answered(.logFetched(let body)) = await reader.fetch(waitMS: 100) else { continue }
            seen += reader.take(body).map { String(decoding: $0.record, as: UTF8.self) }
        }
        #expect(try await sent == 300)
        #expect(restarted.isClean, "a clean stop in the middle")
        var once: [String] = []
        for text in seen where !once.contains(text) { once.append(text) }
        #expect(once == (0..<300).map { "\($0)" })
        let position = try #require(reader.next[1])
        for _ in 0..<50 {
            if case .answered = await reader.commit([LogReader.position(1, position)]) { break }
            _ = try? await reader.poll(waitMS: 200)
        }
        await first.stop()
        #expect(server.stop(), "a clean stop")
        try server.start()
        let second = try await HostedKafka.open(settings)
        #expect(second.log.incarnation == incarnation)
        var again = LogReader(second.port, group: "g", member: "m")
        try await again.join(wanted: 4)
        #expect(again.assigned[1] == position)
        #expect(again.ends[1] == position)
        await second.stop()
        withExtendedLifetime(server) {}
    }

    /// A process that died without a word is started again under its name: it has its share at once, long before its
    /// old session ends, and on this server, which makes a dead member the leader of its group, at all.
    @Test func aMemberThatDiedIsReplacedAtOnce() async throws {
        let server = try KafkaServer()
        var settings = server.settings(topics: "died")
        settings.lastingMembers = true
        settings.limits.sessionMS = 30_000
        for life in 0..<3 {
            try await HostedKafka.with(settings) { hosted in
                var reader = LogReader(hosted.port, group: "g", member: "m")
                let began = ContinuousClock.now
                try await reader.join(wanted: 4)
                #expect(ContinuousClock.now - began < .seconds(8))
                #expect(reader.assigned[1] == UInt64(life))
                _ = try await hosted.port.append([MessageLogContract.entry(1, "\(life)")])
                #expect(try await reader.read(1).count == 1)
                guard case .answered = await reader.commit([LogReader.position(1, UInt64(life + 1))]) else {
                    Issue.record("the position did not move")
                    return
                }
            }
            // It stopped without leaving: to the group that is what a kill -9 looks like.
            #expect(try Self.members(of: "g", settings) == 1, "the dead one is still a member")
        }
        withExtendedLifetime(server) {}
    }

    private static func members(of group: String, _ settings: KafkaSettings) throws -> Int {
        let handle = try KafkaQuestions.onlooker(settings, group: "nobody")
        var found: UnsafePointer<rd_kafka_group_list>?
        let error = rd_kafka_list_groups(handle.raw, settings.group(group), &found, 5000)
        #expect(error == RD_KAFKA_RESP_ERR_NO_ERROR)
        guard let list = found?.pointee, list.group_cnt == 1 else { return 0 }
        defer { rd_kafka_group_list_destroy(found) }
        return Int(list.groups[0].member_cnt)
    }

    /// One sender's records to partition 1, a batch at a time; what is not accepted is sent again. How many were.
    private static func send(
        _ count: Int, through port: LogPort, before: @Sendable (Int) -> Void
    ) async throws -> Int {
        var next = 0
        for _ in 0..<2000 where next < count {
            before(next)
            var request = LogAppend()
            request.log = "msg"
            request.entries = (next..<min(count, next + 3)).map { MessageLogContract.entry(1, "\($0)") }
            if case .answered(.logAppended(let body)) = await port.ask(.logAppend(request)) {
                next += body.results.prefix { !$0.hasFailure && !$0.unknown }.count
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        return next
    }

    /// What the bridge (lane, machine, owned threads) adds to librdkafka alone: one record after the other, from the
    /// append to its delivery report, and on to the record's arrival at a reader.
    @Test func theBridgeAddsLittle() async throws {
        let server = try KafkaServer()
        let settings = server.settings(topics: "latency")
        let hosted = try await HostedKafka.open(settings)
        var reader = LogReader(hosted.port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        let bare = try BareKafka(settings)
        var (acks, reads, bareAcks, bareReads): ([Double], [Double], [Double], [Double]) = ([], [], [], [])
        for number in 0..<300 {
            // Alternating, so that both meet the same machine.
            let clock = ContinuousClock()
            let began = clock.now
            let asked = reader
            async let waiting = asked.fetch(waitMS: 5000)
            _ = try await hosted.port.append([MessageLogContract.entry(1, "\(number)")])
            acks.append(Self.micros(clock.now - began))
            guard case .answered(.logFetched(let body)) = await waiting else { continue }
            if reader.take(body).count == 1 { reads.append(Self.micros(clock.now - began)) }
            // The bare one writes to a partition that the reader does not want.
            let one = bare.roundTrip(partition: 3)
            bareAcks.append(one.ack)
            bareReads.append(one.read)
            reader.next[3] = UInt64(number + 1)
        }
        let (ack, read) = (Self.median(acks), Self.median(reads))
        let (bareAck, bareRead) = (Self.median(bareAcks), Self.median(bareReads))
        let text =
            "summary: ack \(Int(ack)) us, librdkafka alone \(Int(bareAck)); "
            + "read \(Int(read)) us, alone \(Int(bareRead)) (medians of \(reads.count))\n"
        FileHandle.standardError.write(Data(text.utf8))
        await hosted.stop()
        #expect(reads.count > 250)
        #expect(ack - bareAck < 5000, "a sleep on the way of an acknowledgement")
        #expect(read - bareRead < 10_000, "a sleep on the way of a record")
        withExtendedLifetime(server) {}
    }

    private static func micros(_ duration: Duration) -> Double {
        Double(duration.components.attoseconds) / 1e12 + Double(duration.components.seconds) * 1e6
    }

    private static func median(_ values: [Double]) -> Double {
        values.isEmpty ? .infinity : values.sorted()[values.count / 2]
    }
}

/// The stop of a server between two batches of the only sender, for it loses what it acknowledges while it saves; it
/// comes back while the sender goes on.
private final class CleanRestart: Sendable {
    private let stopped = Mutex<Bool?>(nil)
    var isClean: Bool { stopped.withLock { $0 == true } }

    /// Once only. Blocks until the server has stopped.
    func set(by server: KafkaServer) {
        guard stopped.withLock({ $0 == nil }) else { return }
        let isClean = server.stop()
        stopped.withLock { $0 = isClean }
        OwnedThread.start(name: "restart") {
            usleep(400_000)
            try? server.start()
        }
    }
}

/// librdkafka without anything around it: the measure for what is around it.
final class BareKafka {
    private let writer: KafkaHandle
    private let reader: KafkaHandle
    private let topic: OpaquePointer

    init(_ settings: KafkaSettings) throws {
        writer = try KafkaHandle(
            .producer, name: "bare", properties: KafkaProducer.properties(settings), events: RD_KAFKA_EVENT_DR)
        reader = try KafkaHandle(
            .consumer, name: "bare", properties: KafkaConsumer.properties(settings, group: "bare"),
            events: RD_KAFKA_EVENT_FETCH)
        topic = try #require(rd_kafka_topic_new(writer.raw, settings.topic, nil))
        let list = PartitionList(settings.topic, [(partition: 3, offset: 0)])
        list.lend { rd_kafka_assign(reader.raw, $0) }
    }

    deinit { rd_kafka_topic_destroy(topic) }

    /// Microseconds until the delivery report, and until the record is read.
    func roundTrip(partition: Int32) -> (ack: Double, read: Double) {
        let clock = ContinuousClock()
        let began = clock.now
        var bytes: [UInt8] = Array("bare".utf8)
        rd_kafka_produce(topic, partition, martlet_produce_copy, &bytes, bytes.count, nil, 0, nil)
        wait(writer, for: RD_KAFKA_EVENT_DR)
        let ack = clock.now - began
        wait(reader, for: RD_KAFKA_EVENT_FETCH)
        let read = clock.now - began
        return (Double(ack.components.attoseconds) / 1e12, Double(read.components.attoseconds) / 1e12)
    }

    private func wait(_ handle: KafkaHandle, for type: Int32) {
        for _ in 0..<10 {
            guard let event = rd_kafka_queue_poll(handle.queue, 1000) else { continue }
            defer { rd_kafka_event_destroy(event) }
            if rd_kafka_event_type(event) == type { return }
        }
    }
}
