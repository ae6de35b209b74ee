internal import CRdKafka
import Foundation
import Ports
import Wire

/// The idempotent producer of one topic. What it took it never gives up by itself: a record ends with its delivery
/// report, stored, or, when the producer failed as a whole, with a report that says whether it may be in the log.
///
/// Isolation: `produce` on the lane of the machine; reports come from the pump's thread.
final class KafkaProducer: @unchecked Sendable {
    // @unchecked: `topic` is a librdkafka object that locks for itself; `reports` belongs to the pump's thread.
    let life: UInt64
    private let handle: KafkaHandle
    private let pump: KafkaPump
    private let topic: OpaquePointer
    private let tell: KafkaTell
    private let deliver: @Sendable (KafkaEvent) -> Void
    private var reports: [KafkaReport] = []
    private var hasFailed = false

    init(
        _ settings: KafkaSettings, life: UInt64, tell: KafkaTell, deliver: @escaping @Sendable (KafkaEvent) -> Void
    ) throws(StoreOpenError) {
        self.life = life
        self.tell = tell
        self.deliver = deliver
        let events = RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS
        handle = try KafkaHandle(
            .producer, name: "\(settings.log)-producer", properties: Self.properties(settings), events: events)
        pump = KafkaPump(handle)
        guard let topic = rd_kafka_topic_new(handle.raw, settings.topic, nil) else {
            throw StoreOpenError(.other, "librdkafka does not take the topic name \(settings.topic)")
        }
        self.topic = topic
        pump.start(serve: { [self] in serve($0) }, done: { [self] in send() })
    }

    static func properties(_ settings: KafkaSettings) -> [(String, String)] {
        let limits = settings.limits
        let base = [("socket.nagle.disable", "true"), ("reconnect.backoff.max.ms", "2000")]
        return base + settings.properties.sorted { $0.key < $1.key } + [
            ("bootstrap.servers", settings.brokers), ("client.id", "martlet"), ("log.queue", "true"),
            ("statistics.interval.ms", "\(limits.statisticsMS)"),
            ("enable.idempotence", "true"), ("acks", "all"),
            // A hole that is closed by failing as a whole keeps the order that senders rely on.
            ("enable.gapless.guarantee", "true"),
            // Records wait for as long as it takes: one that timed out could be overtaken by the next.
            ("message.timeout.ms", "0"), ("linger.ms", "\(limits.lingerMS)"),
            // The machine refuses first; the local queue is larger, so that it never does.
            ("queue.buffering.max.messages", "\(limits.queuedRecords * 2 + 8192)"),
            ("queue.buffering.max.kbytes", "\(limits.queuedBytes / 512 + 32 * 1024)"),
            ("message.max.bytes", "\(LogLimits.recordBytes + 4096)"),
        ]
    }

    /// Hands records over, in order. When librdkafka does not take one, what follows it in its partition is refused
    /// too.
    func produce(_ records: [KafkaRecord]) {
        var refused: [KafkaReport] = []
        var broken: [UInt32: Failure] = [:]
        for record in records {
            if let failure = broken[record.partition] {
                refused.append(KafkaReport(slot: record.slot, fate: .refused(failure)))
            } else if let failure = hand(record) {
                broken[record.partition] = failure
                refused.append(KafkaReport(slot: record.slot, fate: .refused(failure)))
            }
        }
        if !refused.isEmpty { deliver(.reports(refused)) }
    }

    private func hand(_ record: KafkaRecord) -> Failure? {
        let opaque = UnsafeMutableRawPointer(bitPattern: UInt(record.slot) + 1)
        let result = record.bytes.withUnsafeBytes { bytes in
            rd_kafka_produce(
                topic, Int32(record.partition), martlet_produce_copy,
                UnsafeMutableRawPointer(mutating: bytes.baseAddress),
                bytes.count, nil, 0, opaque)
        }
        guard result != 0 else { return nil }
        let error = rd_kafka_last_error()
        if error == RD_KAFKA_RESP_ERR__QUEUE_FULL {
            return Failure(.overloaded, "the queue to Kafka is full")
        }
        return KafkaText.unavailable("Kafka does not take the record", error)
    }

    // MARK: The pump's thread

    private func serve(_ event: OpaquePointer) {
        switch rd_kafka_event_type(event) {
        case RD_KAFKA_EVENT_DR:
            while let message = rd_kafka_event_message_next(event) { reports.append(Self.report(message)) }
        case RD_KAFKA_EVENT_ERROR where rd_kafka_event_error_is_fatal(event) != 0:
            var text = [CChar](repeating: 0, count: 512)
            let error = rd_kafka_fatal_error(handle.raw, &text, text.count)
            hasFailed = true
            deliver(.producerFailed(life: life, "\(KafkaText.name(error)): \(KafkaText.string(text))"))
        default: _ = tell.take(event, of: handle.name)
        }
    }

    private func send() {
        guard !reports.isEmpty else { return }
        deliver(.reports(reports))
        reports.removeAll(keepingCapacity: true)
    }

    private static func report(_ message: UnsafePointer<rd_kafka_message_t>) -> KafkaReport {
        let slot = UInt64(UInt(bitPattern: message.pointee._private)) - 1
        let error = message.pointee.err
        if error == RD_KAFKA_RESP_ERR_NO_ERROR, message.pointee.offset >= 0 {
            return KafkaReport(slot: slot, fate: .stored(offset: UInt64(message.pointee.offset)))
        }
        let text = "Kafka did not take the record: \(KafkaText.string(rd_kafka_err2str(error)))"
        if rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED {
            return KafkaReport(slot: slot, fate: .refused(Failure(.storeUnavailable, text)))
        }
        return KafkaReport(slot: slot, fate: .unknown(Failure(.outcomeUnknown, text)))
    }

    // MARK: Ending

    /// Blocks for at most `flushMS` until what was taken is reported; what is left then is reported as it stands.
    /// - Parameter flushMS: 0 for a producer that failed: nothing more of it will be stored.
    func close(flushMS: Int) {
        let until = SystemTime.milliseconds() + UInt64(flushMS)
        // The pump serves the reports; this thread only looks whether they are through.
        while rd_kafka_outq_len(handle.raw) > 0, SystemTime.milliseconds() < until {
            rd_kafka_flush(handle.raw, 10)
        }
        rd_kafka_purge(handle.raw, martlet_purge_all)
        let limit = SystemTime.milliseconds() + 2000
        while rd_kafka_outq_len(handle.raw) > 0, SystemTime.milliseconds() < limit { rd_kafka_flush(handle.raw, 10) }
        pump.stop()
        tell.forget(handle.name)
        rd_kafka_topic_destroy(topic)
    }
}
