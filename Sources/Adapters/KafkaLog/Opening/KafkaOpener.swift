internal import CRdKafka
import Logging
import Ports
import Wire

/// What happens before a log is served: brokers are found, topics looked at, the log's number is learned. Blocks.
struct KafkaOpener {
    let settings: KafkaSettings
    let logger: Logger

    /// - Throws: one sentence: no broker answers, the topic is missing or its settings put messages at risk.
    func open() throws(StoreOpenError) -> UInt64 {
        try settings.checkProperties()
        let handle = try Self.writer(settings)
        do throws(Failure) {
            try provideTopics(handle)
        } catch {
            throw StoreOpenError(.other, "Kafka at \(settings.brokers): \(error.message)")
        }
        try check(handle)
        do throws(Failure) {
            return try IdentityTopic(settings: settings, writer: handle)
                .settle(seen: [], fresh: UInt64.random(in: 1...UInt64.max))
        } catch {
            throw StoreOpenError(.other, "the number of the log \(settings.log) cannot be settled: \(error.message)")
        }
    }

    static func writer(_ settings: KafkaSettings) throws(StoreOpenError) -> KafkaHandle {
        try KafkaHandle(
            .producer, name: "\(settings.log)-opener", properties: KafkaProducer.properties(settings),
            events: RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR)
    }

    /// Waits for brokers; makes what is missing when this is a development's deployment.
    private func provideTopics(_ handle: KafkaHandle) throws(Failure) {
        let limit = SystemTime.milliseconds() + UInt64(settings.limits.openMS)
        var last = Failure(.storeUnavailable, "no broker answers")
        while SystemTime.milliseconds() < limit {
            do throws(Failure) { return try provideOnce(handle) } catch {
                guard error.retryable else { throw error }
                last = error
            }
            // The metadata request has waited for a broker; this only keeps refusals from spinning.
            _ = rd_kafka_queue_poll(handle.queue, 200).map { rd_kafka_event_destroy($0) }
        }
        throw last
    }

    private func provideOnce(_ handle: KafkaHandle) throws(Failure) {
        let timeout = Int32(settings.limits.askMS)
        let topics: [(String, UInt32, [(String, String)])] = [
            (settings.topic, settings.partitions, TopicFacts.wanted(development: settings.development)),
            (settings.identityTopic, 1, [("cleanup.policy", "compact")]),
        ]
        for (name, partitions, config) in topics {
            if try KafkaQuestions.topic(handle, name, timeout) != nil { continue }
            guard settings.development else {
                throw Failure(.notFound, "there is no topic \(name); create it with 3 copies")
            }
            try KafkaQuestions.create(
                handle, name, partitions: partitions, replicas: settings.replicas, config, timeout)
            throw Failure(.retry, "the topic \(name) was made and is not known yet")
        }
    }

    private func check(_ handle: KafkaHandle) throws(StoreOpenError) {
        let timeout = Int32(settings.limits.askMS)
        var found: TopicFacts?
        var values: [String: String]?
        do throws(Failure) {
            found = try KafkaQuestions.topic(handle, settings.topic, timeout)
        } catch { throw StoreOpenError(.other, "Kafka at \(settings.brokers): \(error.message)") }
        do throws(Failure) { values = try KafkaQuestions.settings(handle, settings.topic, timeout) } catch {
            logger.info("topic settings not told", metadata: ["topic": "\(settings.topic)", "why": "\(error.message)"])
        }
        guard let found else { throw StoreOpenError(.other, "there is no topic \(settings.topic)") }
        if let wrong = found.mismatch(settings.topic, partitions: settings.partitions, settings: values) {
            throw StoreOpenError(.mismatch, wrong)
        }
        let dangers = found.dangers(settings.topic, settings: values)
        guard !dangers.isEmpty else { return }
        guard settings.development else {
            throw StoreOpenError(
                .mismatch, dangers.joined(separator: "; ") + "; or say development: true, where losing messages is fine"
            )
        }
        for danger in dangers {
            logger.notice("development log", metadata: ["log": "\(settings.log)", "risk": "\(danger)"])
        }
    }
}
