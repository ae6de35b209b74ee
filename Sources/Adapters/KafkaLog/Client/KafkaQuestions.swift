internal import CRdKafka
import Ports
import Wire

/// Questions that block until a broker answers: on the adapter's own lane or at its start, never on a machine's lane.
enum KafkaQuestions {
    typealias Range = (partition: UInt32, start: UInt64, end: UInt64)

    /// First offset that is kept and the next one to be written, per partition.
    static func ranges(
        _ handle: KafkaHandle, _ topic: String, _ partitions: [UInt32], _ timeoutMS: Int32
    ) -> Result<[Range], Failure> {
        let first = rangesByKnownLeaders(handle, topic, partitions, timeoutMS)
        guard case .failure = first else { return first }
        // librdkafka asks the leader that it knows, and looks for another by itself only for partitions that it fetches
        // or produces to: one that moved before would be asked in vain for minutes
        // (topic.metadata.refresh.interval.ms).
        var answer: UnsafePointer<rd_kafka_metadata>?
        guard rd_kafka_metadata(handle.raw, 1, nil, &answer, timeoutMS) == RD_KAFKA_RESP_ERR_NO_ERROR else {
            return first
        }
        rd_kafka_metadata_destroy(answer)
        return rangesByKnownLeaders(handle, topic, partitions, timeoutMS)
    }

    private static func rangesByKnownLeaders(
        _ handle: KafkaHandle, _ topic: String, _ partitions: [UInt32], _ timeoutMS: Int32
    ) -> Result<[Range], Failure> {
        var found: [[UInt32: UInt64]] = []
        // ListOffsets takes the logical offsets in the place of times.
        for offset in [Int64(RD_KAFKA_OFFSET_BEGINNING), Int64(RD_KAFKA_OFFSET_END)] {
            let list = PartitionList(topic, partitions, offset: offset)
            let error = list.lend { rd_kafka_offsets_for_times(handle.raw, $0, timeoutMS) }
            guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
                return .failure(KafkaText.unavailable("the brokers do not say where the log ends", error))
            }
            var offsets: [UInt32: UInt64] = [:]
            for element in list.elements {
                guard element.error == RD_KAFKA_RESP_ERR_NO_ERROR, element.offset >= 0 else {
                    return .failure(
                        KafkaText.unavailable("partition \(element.partition) has no leader", element.error))
                }
                offsets[element.partition] = UInt64(element.offset)
            }
            found.append(offsets)
        }
        return .success(
            partitions.sorted().map { ($0, found[0][$0] ?? 0, found[1][$0] ?? 0) })
    }

    /// A client that asks for a group's positions and never joins it.
    static func onlooker(_ settings: KafkaSettings, group: String) throws(StoreOpenError) -> KafkaHandle {
        try KafkaHandle(
            .consumer, name: "onlooker",
            properties: KafkaConsumer.properties(settings, group: settings.group(group)) + [("client.id", "martlet")],
            events: RD_KAFKA_EVENT_ERROR)
    }

    /// A group's positions, by partition; nil where it has none.
    static func committed(
        _ handle: KafkaHandle, _ topic: String, _ partitions: [UInt32], _ timeoutMS: Int32
    ) -> Result<[(partition: UInt32, value: UInt64?)], Failure> {
        let list = PartitionList(topic, partitions, offset: Int64(RD_KAFKA_OFFSET_INVALID))
        let error = list.lend { rd_kafka_committed(handle.raw, $0, timeoutMS) }
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
            return .failure(KafkaText.unavailable("the group's positions are not known", error))
        }
        let found = list.elements
        guard !found.contains(where: { $0.error != RD_KAFKA_RESP_ERR_NO_ERROR }) else {
            return .failure(Failure(.storeUnavailable, "the group's positions are not known"))
        }
        return .success(
            found.sorted { $0.partition < $1.partition }
                .map { ($0.partition, $0.offset >= 0 ? UInt64($0.offset) : nil) })
    }

    /// What a topic is made of; nil when there is none. All topics are asked for: brokers of Kafka's usual
    /// configuration make a topic that is asked for by name, with whatever settings they have.
    ///
    /// - Throws: the failure when no broker answers.
    static func topic(
        _ handle: KafkaHandle, _ name: String, _ timeoutMS: Int32
    ) throws(Failure) -> TopicFacts? {
        var answer: UnsafePointer<rd_kafka_metadata>?
        let error = rd_kafka_metadata(handle.raw, 1, nil, &answer, timeoutMS)
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let answer else {
            throw KafkaText.unavailable("no broker answers", error)
        }
        defer { rd_kafka_metadata_destroy(answer) }
        let topics = UnsafeBufferPointer(start: answer.pointee.topics, count: Int(answer.pointee.topic_cnt))
        guard let found = topics.first(where: { KafkaText.string($0.topic) == name }) else { return nil }
        if found.err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART { return nil }
        guard found.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
            throw KafkaText.unavailable("the topic \(name) cannot be looked at", found.err)
        }
        let replicas = (0..<Int(found.partition_cnt)).compactMap { found.partitions?[$0].replica_cnt }
        return TopicFacts(partitions: replicas.count, replicas: replicas.min() ?? 0)
    }

    /// Makes a topic; one that is there already is fine.
    static func create(
        _ handle: KafkaHandle, _ name: String, partitions: UInt32, replicas: Int32, _ config: [(String, String)],
        _ timeoutMS: Int32
    ) throws(Failure) {
        var text = [CChar](repeating: 0, count: 512)
        guard let topic = rd_kafka_NewTopic_new(name, Int32(partitions), replicas, &text, text.count) else {
            throw Failure(.malformedRequest, "\(name) cannot be made: \(KafkaText.string(text))")
        }
        defer { rd_kafka_NewTopic_destroy(topic) }
        for (key, value) in config { rd_kafka_NewTopic_set_config(topic, key, value) }
        let queue = rd_kafka_queue_new(handle.raw)
        defer { rd_kafka_queue_destroy(queue) }
        var topics: [OpaquePointer?] = [topic]
        rd_kafka_CreateTopics(handle.raw, &topics, 1, nil, queue)
        guard let event = rd_kafka_queue_poll(queue, timeoutMS) else {
            throw Failure(.storeUnavailable, "the topic \(name) could not be made in time")
        }
        defer { rd_kafka_event_destroy(event) }
        var error = rd_kafka_event_error(event)
        if error == RD_KAFKA_RESP_ERR_NO_ERROR, let result = rd_kafka_event_CreateTopics_result(event) {
            var count = 0
            if let results = rd_kafka_CreateTopics_result_topics(result, &count), count == 1 {
                error = rd_kafka_topic_result_error(results[0])
            }
        }
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR || error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS else {
            throw KafkaText.unavailable("the topic \(name) could not be made", error)
        }
    }

    /// A topic's settings by name.
    static func settings(
        _ handle: KafkaHandle, _ name: String, _ timeoutMS: Int32
    ) throws(Failure) -> [String: String] {
        guard let resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name) else {
            throw Failure(.malformedRequest, "\(name) is no name for a topic")
        }
        defer { rd_kafka_ConfigResource_destroy(resource) }
        let queue = rd_kafka_queue_new(handle.raw)
        defer { rd_kafka_queue_destroy(queue) }
        var resources: [OpaquePointer?] = [resource]
        rd_kafka_DescribeConfigs(handle.raw, &resources, 1, nil, queue)
        guard let event = rd_kafka_queue_poll(queue, timeoutMS) else {
            throw Failure(.storeUnavailable, "the brokers do not tell the settings of \(name) in time")
        }
        defer { rd_kafka_event_destroy(event) }
        var error = rd_kafka_event_error(event)
        var count = 0
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR, let result = rd_kafka_event_DescribeConfigs_result(event),
            let found = rd_kafka_DescribeConfigs_result_resources(result, &count), count == 1
        else { throw KafkaText.unavailable("the brokers do not tell the settings of \(name)", error) }
        error = rd_kafka_ConfigResource_error(found[0])
        guard error == RD_KAFKA_RESP_ERR_NO_ERROR,
            let entries = rd_kafka_ConfigResource_configs(found[0], &count)
        else { throw KafkaText.unavailable("the brokers do not tell the settings of \(name)", error) }
        var values: [String: String] = [:]
        for index in 0..<count {
            let key = KafkaText.string(rd_kafka_ConfigEntry_name(entries[index]))
            values[key] = KafkaText.string(rd_kafka_ConfigEntry_value(entries[index]))
        }
        return values
    }
}
