internal import CRdKafka
import Ports
import Wire

/// Reads and writes the identity topic of a log. Everything blocks.
struct IdentityTopic {
    let settings: KafkaSettings
    /// A producer with `acks=all`.
    let writer: KafkaHandle

    /// The log's number: the one that it has, another when the log is not the one that was named, a first one when it
    /// never was named.
    ///
    /// - Parameter ends: the highest ends that somebody saw, beside those that were noted.
    func settle(seen: [UInt64], fresh: UInt64) throws(Failure) -> UInt64 {
        var identity = try read()
        let wanted = Array(0..<settings.partitions)
        let ranges = try KafkaQuestions.ranges(writer, settings.topic, wanted, Int32(settings.limits.askMS)).get()
        let ends = ranges.map(\.end)
        if identity.id != 0 { identity.read(.ends(id: identity.id, seen)) }
        if !identity.fits(ends) {
            try write(.named(id: fresh, after: identity.id))
            // Whoever wrote first has named it: read again.
            identity = try read()
        }
        guard identity.id != 0 else { throw Failure(.storeUnavailable, "the log's number could not be read back") }
        try write(.ends(id: identity.id, ends))
        return identity.id
    }

    private func read() throws(Failure) -> LogIdentity {
        let handle: KafkaHandle
        do throws(StoreOpenError) {
            let own = [("group.id", "martlet-identity"), ("auto.offset.reset", "earliest"), ("client.id", "martlet")]
            handle = try KafkaHandle(
                .consumer, name: "identity",
                properties: KafkaConsumer.properties(settings, group: "martlet-identity") + own,
                events: RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_ERROR)
        } catch { throw Failure(.storeUnavailable, error.message) }
        let topic = settings.identityTopic
        let range = try KafkaQuestions.ranges(handle, topic, [0], Int32(settings.limits.askMS)).get()
        var identity = LogIdentity()
        guard let only = range.first, only.start < only.end else { return identity }
        let list = PartitionList(topic, [(0, Int64(only.start))])
        list.lend { rd_kafka_assign(handle.raw, $0) }
        defer { withExtendedLifetime(handle) { _ = rd_kafka_consumer_close(handle.raw) } }
        var next = only.start
        let limit = SystemTime.milliseconds() + UInt64(settings.limits.openMS)
        // Compaction may have taken the last record before the end, so the reader's own position says when it is there.
        while next < only.end {
            guard SystemTime.milliseconds() < limit else {
                throw Failure(.storeUnavailable, "\(topic) could not be read to its end in time")
            }
            if let event = rd_kafka_queue_poll(handle.queue, 100) {
                while let message = rd_kafka_event_message_next(event) {
                    guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
                    if let payload = message.pointee.payload {
                        let bytes = UnsafeRawBufferPointer(start: payload, count: message.pointee.len)
                        if let note = LogIdentity.Note(String(decoding: bytes, as: UTF8.self)) { identity.read(note) }
                    }
                    next = UInt64(max(0, message.pointee.offset)) + 1
                }
                rd_kafka_event_destroy(event)
            }
        }
        return identity
    }

    func note(_ id: UInt64, ends: [UInt64]) throws(Failure) { try write(.ends(id: id, ends)) }

    private func write(_ note: LogIdentity.Note) throws(Failure) {
        guard let topic = rd_kafka_topic_new(writer.raw, settings.identityTopic, nil) else {
            throw Failure(.storeUnavailable, "librdkafka has no memory")
        }
        defer { rd_kafka_topic_destroy(topic) }
        var (key, text) = (Array(note.key.utf8), Array(note.text.utf8))
        guard rd_kafka_produce(topic, 0, martlet_produce_copy, &text, text.count, &key, key.count, nil) == 0 else {
            throw KafkaText.unavailable("\(settings.identityTopic) cannot be written", rd_kafka_last_error())
        }
        let limit = SystemTime.milliseconds() + UInt64(settings.limits.openMS)
        while SystemTime.milliseconds() < limit {
            guard let event = rd_kafka_queue_poll(writer.queue, 100) else { continue }
            defer { rd_kafka_event_destroy(event) }
            while let message = rd_kafka_event_message_next(event) {
                if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR { return }
                throw KafkaText.unavailable("\(settings.identityTopic) cannot be written", message.pointee.err)
            }
        }
        throw Failure(.storeUnavailable, "\(settings.identityTopic) could not be written in time")
    }
}
