internal import CRdKafka
import Foundation
import Logging
import Synchronization

/// librdkafka's lines into the log and its statistics into a snapshot.
///
/// Isolation: any thread; a mutex around the snapshot.
final class KafkaTell: Sendable {
    private let logger: Logger
    private let values = Mutex<[String: [String: Double]]>([:])

    init(_ logger: Logger) { self.logger = logger }

    /// Every number of every client's last statistics: client -> path -> value.
    var snapshot: [String: [String: Double]] { values.withLock { $0 } }

    func forget(_ client: String) { values.withLock { $0[client] = nil } }

    /// Tells a log, statistics or error event; false for any other.
    func take(_ event: OpaquePointer, of client: String) -> Bool {
        switch rd_kafka_event_type(event) {
        case RD_KAFKA_EVENT_LOG: line(event, client)
        case RD_KAFKA_EVENT_STATS: statistics(KafkaText.string(rd_kafka_event_stats(event)), client)
        case RD_KAFKA_EVENT_ERROR:
            let text = KafkaText.string(rd_kafka_event_error_string(event))
            let name = KafkaText.name(rd_kafka_event_error(event))
            logger.warning(
                "librdkafka error", metadata: ["client": "\(client)", "error": "\(name)", "text": "\(text)"])
        default: return false
        }
        return true
    }

    private func line(_ event: OpaquePointer, _ client: String) {
        var facility: UnsafePointer<CChar>?
        var text: UnsafePointer<CChar>?
        var level: Int32 = 0
        guard rd_kafka_event_log(event, &facility, &text, &level) == 0 else { return }
        let (name, said) = (KafkaText.string(facility), KafkaText.string(text))
        logger.log(
            level: Self.level(level), "librdkafka",
            metadata: ["client": "\(client)", "facility": "\(name)", "text": "\(said)"])
    }

    /// syslog(3)'s levels as swift-log's.
    static func level(_ syslog: Int32) -> Logger.Level {
        switch syslog {
        case ..<3: .critical
        case 3: .error
        case 4: .warning
        case 5: .notice
        case 6: .info
        default: .debug
        }
    }

    private func statistics(_ json: String, _ client: String) {
        guard let object = try? JSONSerialization.jsonObject(with: Data(json.utf8)) else { return }
        var found: [String: Double] = [:]
        Self.flatten(object, "", &found)
        values.withLock { $0[client] = found }
    }

    /// Numbers of a JSON document by their paths, joined with dots.
    static func flatten(_ value: Any, _ path: String, _ into: inout [String: Double]) {
        if let object = value as? [String: Any] {
            for (key, inner) in object { flatten(inner, path.isEmpty ? key : path + "." + key, &into) }
        } else if let number = value as? NSNumber {
            into[path] = number.doubleValue
        }
    }
}
