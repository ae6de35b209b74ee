internal import CRdKafka
import Ports
import RPC
import Wire

/// Looks after the topics of a log: for an operator, beside whatever runs. Everything blocks, at most about `askMS` a
/// question.
///
/// Isolation: one thread's.
public final class KafkaTopics {
    private let settings: KafkaSettings
    private let handle: KafkaHandle
    /// A group that nobody is in: whoever reads a record needs a name.
    private static let onlookers = "martlet-ops"

    /// - Throws: `other` when librdkafka does not take a property.
    public init(_ settings: KafkaSettings) throws(StoreOpenError) {
        self.settings = settings
        handle = try KafkaOpener.writer(settings)
    }

    private var timeout: Int32 { Int32(settings.limits.askMS) }

    /// What the topic is, beside what the log needs.
    ///
    /// - Throws: `storeUnavailable` when no broker answers.
    public func describe() throws(Failure) -> TopicReport {
        guard let facts = try KafkaQuestions.topic(handle, settings.topic, timeout) else {
            return .of(settings, facts: nil, settings: nil)
        }
        var values: [String: String]?
        do throws(Failure) { values = try KafkaQuestions.settings(handle, settings.topic, timeout) } catch {
            // Some servers tell none; then that is a risk of its own.
            values = nil
        }
        return .of(settings, facts: facts, settings: values)
    }

    /// Makes the log's topic and the one that remembers which log it is; one that is there stays as it is.
    ///
    /// - Returns: the names that were made.
    /// - Throws: `storeUnavailable` with the brokers' word.
    public func create(_ plan: TopicPlan) throws(Failure) -> [String] {
        var made: [String] = []
        let identity = [("cleanup.policy", "compact"), ("min.insync.replicas", "\(plan.insync)")]
        for (name, partitions, config) in [
            (settings.topic, plan.partitions, plan.settings), (settings.identityTopic, 1, identity),
        ] {
            if try KafkaQuestions.topic(handle, name, timeout) != nil { continue }
            try KafkaQuestions.create(
                handle, name, partitions: partitions, replicas: Int32(clamping: plan.replicas), config, timeout)
            made.append(name)
        }
        return made
    }

    /// How far a group is behind, per partition of the topic.
    ///
    /// - Parameter nowMS: Unix milliseconds, for ages.
    /// - Throws: `notFound` without a topic, `storeUnavailable` when a broker does not answer.
    public func lag(of group: String, nowMS: UInt64) throws(Failure) -> [PartitionLag] {
        guard let facts = try KafkaQuestions.topic(handle, settings.topic, timeout) else {
            throw Failure(.notFound, "there is no topic \(settings.topic)")
        }
        let partitions = (0..<UInt32(facts.partitions)).map { $0 }
        let ranges = try KafkaQuestions.ranges(handle, settings.topic, partitions, timeout).get()
        let onlooker: KafkaHandle
        do throws(StoreOpenError) { onlooker = try KafkaQuestions.onlooker(settings, group: group) } catch {
            throw Failure(.storeUnavailable, error.message)
        }
        let positions = try KafkaQuestions.committed(onlooker, settings.topic, partitions, timeout).get()
        var lags = zip(ranges, positions).map { range, position in
            PartitionLag(partition: range.partition, start: range.start, end: range.end, position: position.value)
        }
        let waiting = lags.filter { $0.records > 0 }
            .map { (partition: $0.partition, offset: Int64(max($0.position ?? $0.start, $0.start))) }
        let times = try times(of: waiting)
        for index in lags.indices {
            lags[index].behindMS = times[lags[index].partition].map { nowMS - min(nowMS, $0) }
        }
        return lags
    }

    /// When the records at these places were written, in Unix milliseconds; those that could be read in time.
    private func times(of places: [(partition: UInt32, offset: Int64)]) throws(Failure) -> [UInt32: UInt64] {
        guard !places.isEmpty else { return [:] }
        let reader: KafkaHandle
        do throws(StoreOpenError) {
            reader = try KafkaHandle(
                .consumer, name: Self.onlookers,
                properties: KafkaConsumer.properties(settings, group: Self.onlookers) + [("client.id", "martlet")],
                events: RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR)
        } catch { throw Failure(.storeUnavailable, error.message) }
        let list = PartitionList(settings.topic, places)
        list.lend { rd_kafka_assign(reader.raw, $0) }
        defer { withExtendedLifetime(reader) { _ = rd_kafka_consumer_close(reader.raw) } }
        var times: [UInt32: UInt64] = [:]
        let limit = SystemTime.milliseconds() + UInt64(settings.limits.askMS)
        while times.count < places.count, SystemTime.milliseconds() < limit {
            guard let event = rd_kafka_queue_poll(reader.queue, 100) else { continue }
            while let message = rd_kafka_event_message_next(event) {
                guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
                let partition = UInt32(max(0, message.pointee.partition))
                var type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
                let time = rd_kafka_message_timestamp(message, &type)
                // The first of a partition is the one that was asked for.
                if times[partition] == nil, time > 0 { times[partition] = UInt64(time) }
            }
            rd_kafka_event_destroy(event)
        }
        return times
    }
}
