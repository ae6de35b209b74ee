internal import CRdKafka
import Dispatch
import Foundation
import Ports
import RPC
import Wire

/// The consumer of one member of a group. It fetches, tells of shares that come and go, and commits; where to read and
/// when to stop is the machine's word.
///
/// Isolation: commands from any thread, carried out on the pump's; everything mutable belongs to the pump's thread.
final class KafkaConsumer: @unchecked Sendable {
    // @unchecked: the state below is touched on the pump's thread only.
    let id: MemberID
    private let topic: String
    private let askMS: Int32
    private let handle: KafkaHandle
    private let pump: KafkaPump
    private let tell: KafkaTell
    private let deliver: @Sendable (KafkaEvent) -> Void
    private let left = DispatchSemaphore(value: 0)
    private var versions: [UInt32: UInt64] = [:]
    private var runs: [KafkaRun] = []
    private var runOf: [UInt32: Int] = [:]
    /// What the group waits for: the answer to what it gave or took.
    private enum Owed {
        case nothing
        case assign
        case unassign([UInt32])
    }
    private var owed = Owed.nothing
    private var isClosing = false
    /// librdkafka before 2.3 aborts when a cooperative consumer is freed that joined and was given nothing yet (its
    /// issue 4381). Such a one is closed, so it left its group, and not freed: a few idle threads, seldom.
    private static let freesLate = rd_kafka_version() < 0x0203_0000

    init(
        _ settings: KafkaSettings, id: MemberID, tell: KafkaTell, deliver: @escaping @Sendable (KafkaEvent) -> Void
    ) throws(StoreOpenError) {
        self.id = id
        self.tell = tell
        self.deliver = deliver
        topic = settings.topic
        askMS = Int32(settings.limits.askMS)
        let events =
            RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS
            | RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT
        handle = try KafkaHandle(
            .consumer, name: "\(settings.log)-\(id.group)-\(id.member)",
            properties: Self.properties(settings, group: settings.group(id.group)) + Self.name(id, settings),
            events: events)
        handle.keep(Self.freesLate)
        pump = KafkaPump(handle)
        let list = PartitionList(settings.topic, [(partition: 0, offset: Int64(RD_KAFKA_OFFSET_INVALID))])
        list.raw.pointee.elems.pointee.partition = martlet_partition_any
        let error = list.lend { rd_kafka_subscribe(handle.raw, $0) }
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw StoreOpenError(.other, "cannot subscribe to \(settings.topic): \(KafkaText.name(error))")
        }
        pump.start(serve: { [self] in serve($0) }, done: { [self] in endBatch() })
    }

    /// Who it is to the group.
    private static func name(_ id: MemberID, _ settings: KafkaSettings) -> [(String, String)] {
        let name = [("client.id", id.member)]
        return settings.lastingMembers ? name + [("group.instance.id", id.member)] : name
    }

    static func properties(_ settings: KafkaSettings, group: String) -> [(String, String)] {
        let limits = settings.limits
        let base = [("socket.nagle.disable", "true"), ("reconnect.backoff.max.ms", "2000")]
        let passed = settings.properties.sorted { $0.key < $1.key }
            .filter { !$0.key.hasPrefix("compression.") && !$0.key.hasPrefix("max.in.flight") }
        return base + passed.map { ($0.key, $0.value) } + [
            ("bootstrap.servers", settings.brokers), ("log.queue", "true"), ("group.id", group),
            ("statistics.interval.ms", "\(limits.statisticsMS)"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            // A position moves when the machine says so, after what is before it was handled.
            ("enable.auto.commit", "false"), ("enable.auto.offset.store", "false"),
            // Nobody guesses where to go on when the broker does not have an offset.
            ("auto.offset.reset", "error"),
            ("session.timeout.ms", "\(limits.sessionMS)"), ("heartbeat.interval.ms", "\(limits.heartbeatMS)"),
            ("max.poll.interval.ms", "\(max(limits.rebalanceMS, limits.sessionMS))"),
            ("queued.max.messages.kbytes", "\(max(1, limits.aheadBytes / 1024))"),
            ("fetch.error.backoff.ms", "100"), ("allow.auto.create.topics", "false"),
        ]
    }

    // MARK: Commands

    func assign(_ places: [KafkaPlace]) {
        pump.post { [self] in
            guard !isClosing else { return }
            owed = .nothing
            for place in places { versions[place.partition] = place.version }
            let list = PartitionList(topic, places.map { ($0.partition, Int64($0.offset)) })
            report(list.lend { rd_kafka_incremental_assign(handle.raw, $0) })
        }
    }

    func unassign(_ partitions: [UInt32]) {
        pump.post { [self] in
            guard !isClosing else { return }
            owed = .nothing
            for partition in partitions { versions[partition] = nil }
            let list = PartitionList(topic, partitions, offset: Int64(RD_KAFKA_OFFSET_INVALID))
            report(list.lend { rd_kafka_incremental_unassign(handle.raw, $0) })
        }
    }

    func move(_ place: KafkaPlace) {
        pump.post { [self] in
            guard !isClosing, versions[place.partition] != nil else { return }
            versions[place.partition] = place.version
            let list = PartitionList(topic, [(place.partition, Int64(place.offset))])
            let failed = KafkaText.take(list.lend { rd_kafka_seek_partitions(handle.raw, $0, askMS) })
            let error = list.elements.first?.error
            if failed == nil, error == RD_KAFKA_RESP_ERR_NO_ERROR { return }
            restart(place)
        }
    }

    /// A reader that the broker refused does not move; it is taken out of the share and put in again. Not while the
    /// group waits for an answer, which this would be taken for: then the machine is told to try again.
    private func restart(_ place: KafkaPlace) {
        guard case .nothing = owed else { return deliver(.outOfRange(id, place.partition)) }
        let list = PartitionList(topic, [(place.partition, Int64(place.offset))])
        report(list.lend { rd_kafka_incremental_unassign(handle.raw, $0) })
        let again = PartitionList(topic, [(place.partition, Int64(place.offset))])
        report(again.lend { rd_kafka_incremental_assign(handle.raw, $0) })
    }

    func pause(_ partitions: [UInt32], _ isPaused: Bool) {
        pump.post { [self] in
            let held = partitions.filter { versions[$0] != nil }
            guard !isClosing, !held.isEmpty else { return }
            let list = PartitionList(topic, held, offset: Int64(RD_KAFKA_OFFSET_INVALID))
            if isPaused {
                list.lend { rd_kafka_pause_partitions(handle.raw, $0) }
            } else {
                list.lend { rd_kafka_resume_partitions(handle.raw, $0) }
            }
        }
    }

    func commit(_ token: UInt64, _ positions: [LogPosition]) {
        pump.post { [self] in
            let list = PartitionList(topic, positions.map { ($0.partition, Int64($0.offset)) })
            let opaque = UnsafeMutableRawPointer(bitPattern: UInt(token))
            let error = list.lend { rd_kafka_commit_queue(handle.raw, $0, handle.queue, nil, opaque) }
            guard error != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
            deliver(.committed(token: token, Self.failure(error)))
        }
    }

    /// Leaves the group; `.closed` comes when that is done.
    func close() {
        pump.post { [self] in
            guard !isClosing else { return }
            isClosing = true
            settle()
            if let error = rd_kafka_consumer_close_queue(handle.raw, handle.queue) { report(error) }
        }
    }

    /// Answers what the group waits for, as nobody else will: without an answer a consumer never ends.
    private func settle() {
        switch owed {
        case .nothing: break
        case .assign:
            let list = PartitionList(topic, [])
            _ = KafkaText.take(list.lend { rd_kafka_incremental_assign(handle.raw, $0) })
        case .unassign(let partitions):
            let list = PartitionList(topic, partitions, offset: Int64(RD_KAFKA_OFFSET_INVALID))
            _ = KafkaText.take(list.lend { rd_kafka_incremental_unassign(handle.raw, $0) })
        }
        owed = .nothing
    }

    /// Waits until the consumer has left, at most so long.
    func waitClosed(milliseconds: Int) { _ = left.wait(timeout: .now() + .milliseconds(milliseconds)) }

    /// Start, end and committed position of partitions as the brokers have them now. Blocks; not on the pump's thread.
    func facts(_ partitions: [UInt32]) -> Result<[PartitionFacts], Failure> {
        let positions: [(partition: UInt32, value: UInt64?)]
        switch KafkaQuestions.committed(handle, topic, partitions, askMS) {
        case .failure(let failure): return .failure(failure)
        case .success(let found): positions = found
        }
        return KafkaQuestions.ranges(handle, topic, partitions, askMS).map { ranges in
            zip(positions, ranges).map { position, range in
                PartitionFacts(
                    partition: range.partition, start: range.start, end: range.end, committed: position.value)
            }
        }
    }

    // MARK: The pump's thread

    private func report(_ error: OpaquePointer?) {
        guard let text = KafkaText.take(error) else { return }
        deliver(.memberFailed(id, text))
    }

    private func serve(_ event: OpaquePointer) {
        switch rd_kafka_event_type(event) {
        case RD_KAFKA_EVENT_FETCH:
            while let message = rd_kafka_event_message_next(event) { take(message) }
        case RD_KAFKA_EVENT_REBALANCE: rebalance(event)
        case RD_KAFKA_EVENT_OFFSET_COMMIT: committed(event)
        case RD_KAFKA_EVENT_ERROR: failed(event)
        default: _ = tell.take(event, of: handle.name)
        }
    }

    private func take(_ message: UnsafePointer<rd_kafka_message_t>) {
        let found = message.pointee
        guard found.err == RD_KAFKA_RESP_ERR_NO_ERROR, found.partition >= 0, found.offset >= 0 else { return }
        let partition = UInt32(found.partition)
        guard let version = versions[partition] else { return }
        var entry = LogEntry()
        entry.partition = partition
        entry.offset = UInt64(found.offset)
        if let payload = found.payload { entry.record = Data(bytes: payload, count: found.len) }
        if let index = runOf[partition] {
            runs[index].entries.append(entry)
        } else {
            runOf[partition] = runs.count
            runs.append(KafkaRun(partition: partition, version: version, entries: [entry], end: 0))
        }
    }

    /// Records go before whatever comes after them.
    private func sendRuns() {
        guard !runs.isEmpty else { return }
        for index in runs.indices {
            var (low, high): (Int64, Int64) = (-1, -1)
            // The end as the last answer to a fetch had it: no request.
            rd_kafka_get_watermark_offsets(handle.raw, topic, Int32(runs[index].partition), &low, &high)
            runs[index].end = UInt64(max(0, high))
        }
        deliver(.records(id, runs))
        runs = []
        runOf.removeAll(keepingCapacity: true)
    }

    private func endBatch() {
        sendRuns()
        guard isClosing, rd_kafka_consumer_closed(handle.raw) != 0 else { return }
        pump.finish()
        tell.forget(handle.name)
        deliver(.closed(id))
        left.signal()
    }

    private func rebalance(_ event: OpaquePointer) {
        sendRuns()
        let error = rd_kafka_event_error(event)
        if error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS { handle.keep(false) }
        let list = rd_kafka_event_topic_partition_list(event)
        guard !isClosing else {
            let isGiven = error == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
            owed = isGiven ? .assign : .unassign(PartitionList.elements(list).map(\.partition))
            return settle()
        }
        let partitions = PartitionList.elements(list).map(\.partition)
        switch error {
        case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
            owed = .assign
            deliver(.assigned(id, partitions))
        case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
            owed = .unassign(partitions)
            deliver(.revoked(id, partitions))
        default:
            rd_kafka_assign(handle.raw, nil)
            deliver(.memberFailed(id, "rebalance: \(KafkaText.name(error))"))
        }
    }

    private func committed(_ event: OpaquePointer) {
        let token = UInt64(UInt(bitPattern: rd_kafka_event_opaque(event)))
        guard token != 0 else { return }
        var error = rd_kafka_event_error(event)
        for element in PartitionList.elements(rd_kafka_event_topic_partition_list(event))
        where element.error != RD_KAFKA_RESP_ERR_NO_ERROR {
            error = element.error
        }
        deliver(.committed(token: token, error == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : Self.failure(error)))
    }

    private static func failure(_ error: rd_kafka_resp_err_t) -> Failure {
        switch error {
        case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
            return Failure(.forbidden, "the group went on without this member: \(KafkaText.name(error))")
        default: return KafkaText.unavailable("the position was not committed", error)
        }
    }

    private func failed(_ event: OpaquePointer) {
        let error = rd_kafka_event_error(event)
        if error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE {
            guard let place = rd_kafka_event_topic_partition(event) else { return }
            defer { rd_kafka_topic_partition_destroy(place) }
            sendRuns()
            if place.pointee.partition >= 0 { deliver(.outOfRange(id, UInt32(place.pointee.partition))) }
            return
        }
        _ = tell.take(event, of: handle.name)
        guard rd_kafka_event_error_is_fatal(event) != 0 else { return }
        let isFenced = rd_kafka_fatal_error(handle.raw, nil, 0) == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
        let why = isFenced ? "another process has the name of this member" : KafkaText.name(error)
        deliver(.memberFailed(id, why))
    }
}
