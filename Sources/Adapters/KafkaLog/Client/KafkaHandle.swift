internal import CRdKafka
import Foundation
import Ports
import Synchronization
import Wire

/// A librdkafka client and the one queue that everything it has to say arrives on.
///
/// Isolation: any thread; librdkafka's handles are safe to share. Must be freed outside of its own queue's thread.
final class KafkaHandle: @unchecked Sendable {
    // @unchecked: two pointers that never change, to objects that lock for themselves (rdkafka.h, "Thread safety").
    enum Kind { case producer, consumer }

    let raw: OpaquePointer
    let queue: OpaquePointer
    let name: String
    /// Set while freeing the client would abort the process: see `KafkaConsumer`.
    private let isKept = Atomic<Bool>(false)
    func keep(_ isKept: Bool) { self.isKept.store(isKept, ordering: .relaxed) }

    /// - Parameters:
    ///   - properties: of librdkafka; a later one of the same name wins.
    /// - Throws: `other` with librdkafka's word on a property that it does not take.
    init(_ kind: Kind, name: String, properties: [(String, String)], events: Int32) throws(StoreOpenError) {
        guard let conf = rd_kafka_conf_new() else { throw StoreOpenError(.other, "librdkafka has no memory") }
        var text = [CChar](repeating: 0, count: 512)
        for (key, value) in properties {
            guard rd_kafka_conf_set(conf, key, value, &text, text.count) == RD_KAFKA_CONF_OK else {
                rd_kafka_conf_destroy(conf)
                // The library's text repeats the value, which may be a password.
                throw StoreOpenError(.other, "librdkafka does not take the value of \(key); correct it")
            }
        }
        rd_kafka_conf_set_events(conf, events)
        let type = kind == .producer ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER
        guard let raw = rd_kafka_new(type, conf, &text, text.count) else {
            rd_kafka_conf_destroy(conf)
            throw StoreOpenError(.other, "librdkafka cannot start: \(KafkaText.string(text))")
        }
        self.raw = raw
        self.name = name
        if kind == .consumer { rd_kafka_poll_set_consumer(raw) }
        // A queue of its own: a consumer that closes forwards its queue to whom it is told, never to itself.
        queue = rd_kafka_queue_new(raw)
        let source = kind == .consumer ? rd_kafka_queue_get_consumer(raw) : rd_kafka_queue_get_main(raw)
        rd_kafka_queue_forward(source, queue)
        rd_kafka_queue_destroy(source)
        rd_kafka_set_log_queue(raw, queue)
    }

    deinit {
        guard !isKept.load(ordering: .relaxed) else { return }
        rd_kafka_queue_destroy(queue)
        rd_kafka_destroy(raw)
    }
}

/// Strings and errors of librdkafka as ours.
enum KafkaText {
    static func string(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    static func string(_ text: UnsafePointer<CChar>?) -> String { text.map { String(cString: $0) } ?? "" }

    static func name(_ error: rd_kafka_resp_err_t) -> String { string(rd_kafka_err2name(error)) }

    /// The error of a call that gives one as an object, freed.
    static func take(_ error: OpaquePointer?) -> String? {
        guard let error else { return nil }
        defer { rd_kafka_error_destroy(error) }
        return string(rd_kafka_error_string(error))
    }

    static func unavailable(_ what: String, _ error: rd_kafka_resp_err_t) -> Failure {
        Failure(.storeUnavailable, "\(what): \(string(rd_kafka_err2str(error)))")
    }
}

/// A list of partitions of one topic, as librdkafka wants it.
///
/// Isolation: one thread.
struct PartitionList: ~Copyable {
    let raw: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>

    init(_ topic: String, _ partitions: [UInt32], offset: Int64) {
        self.init(topic, partitions.map { ($0, offset) })
    }

    init(_ topic: String, _ places: [(partition: UInt32, offset: Int64)]) {
        raw = rd_kafka_topic_partition_list_new(Int32(places.count))
        for place in places {
            rd_kafka_topic_partition_list_add(raw, topic, Int32(place.partition)).pointee.offset = place.offset
        }
    }

    deinit { rd_kafka_topic_partition_list_destroy(raw) }

    /// Lends the list to a call; it stays as long as that takes.
    @discardableResult
    borrowing func lend<T>(_ body: (UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) -> T) -> T { body(raw) }

    /// What a call left in the list.
    var elements: [(partition: UInt32, offset: Int64, error: rd_kafka_resp_err_t)] { Self.elements(raw) }

    /// Partition, offset and error of each element.
    static func elements(
        _ list: UnsafePointer<rd_kafka_topic_partition_list_t>?
    ) -> [(partition: UInt32, offset: Int64, error: rd_kafka_resp_err_t)] {
        guard let list = list?.pointee, let elements = list.elems else { return [] }
        return (0..<Int(list.cnt)).compactMap { index in
            let element = elements[index]
            return element.partition < 0 ? nil : (UInt32(element.partition), element.offset, element.err)
        }
    }
}
