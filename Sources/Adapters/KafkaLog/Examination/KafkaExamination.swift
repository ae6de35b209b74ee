internal import CRdKafka
import Ports
import RPC
import Wire

/// Looks at the brokers and the topics of a log before it is used. Blocks, for some seconds when nobody answers.
public enum KafkaExamination {
    private static let rounds = 3
    private static let askMS: Int32 = 4000

    /// - Parameter probe: a topic of one partition that a record is written to and read from; no log's.
    public static func examine(_ settings: KafkaSettings, probe: String, subject: String) -> [Finding] {
        var settings = settings
        settings.limits.askMS = Int(askMS)
        settings.limits.openMS = 2 * Int(askMS)
        let handle: KafkaHandle
        do throws(StoreOpenError) {
            try settings.checkProperties()
            handle = try KafkaOpener.writer(settings)
        } catch { return [Finding(.error, "\(subject): settings", error.message, cure: "Correct log.kafka")] }
        var all: [Finding] = []
        var micros: [UInt64] = []
        do throws(Failure) {
            for _ in 0..<rounds {
                let began = SystemClock.now().micros
                _ = try KafkaQuestions.topic(handle, settings.topic, askMS)
                micros.append(SystemClock.now().micros - began)
            }
        } catch {
            return [
                Finding(
                    .error, "\(subject): reachable", error.message,
                    cure: "Start a broker at \(settings.brokers), or correct brokers, user, password and TLS")
            ]
        }
        all.append(Finding(.ok, "\(subject): reachable", "brokers answer"))
        if let latency = Findings.latency(subject, Array(micros.dropFirst())) { all.append(latency) }
        all += topics(handle, settings, subject)
        all.append(roundTrip(handle, settings, probe, subject))
        return all
    }

    private static func topics(_ handle: KafkaHandle, _ settings: KafkaSettings, _ subject: String) -> [Finding] {
        var all: [Finding] = []
        for (name, isLog) in [(settings.topic, true), (settings.identityTopic, false)] {
            let about = "\(subject): topic \(name)"
            do throws(Failure) {
                guard let facts = try KafkaQuestions.topic(handle, name, askMS) else {
                    all.append(missing(about, name, isLog, settings))
                    continue
                }
                let values: [String: String]?
                do throws(Failure) { values = try KafkaQuestions.settings(handle, name, askMS) } catch { values = nil }
                let partitions = isLog ? settings.partitions : 1
                if isLog, let wrong = facts.mismatch(name, partitions: partitions, settings: values) {
                    all.append(
                        Finding(.error, about, wrong, cure: "Set it so; a wrong number of partitions needs a new topic")
                    )
                }
                let dangers = facts.dangers(name, settings: values)
                for danger in dangers {
                    all.append(
                        Finding(
                            settings.development ? .warning : .error, about, danger,
                            cure: "Three copies, min.insync.replicas=2, unclean.leader.election.enable=false"))
                }
                if dangers.isEmpty {
                    all.append(Finding(.ok, about, "\(facts.partitions) partitions, \(facts.replicas) copies"))
                }
            } catch {
                all.append(Finding(.error, about, error.message, cure: "Let the user DESCRIBE topics"))
            }
        }
        return all
    }

    private static func missing(_ about: String, _ name: String, _ isLog: Bool, _ settings: KafkaSettings) -> Finding {
        if settings.development { return Finding(.ok, about, "it is made at the first start") }
        let partitions = isLog ? settings.partitions : 1
        return Finding(
            .error, about, "there is none",
            cure:
                "Create \(name) with \(partitions) partitions, 3 copies, cleanup.policy=\(isLog ? "delete" : "compact")"
        )
    }

    /// What a log's number goes through at every start, on a topic where it harms nobody.
    private static func roundTrip(
        _ handle: KafkaHandle, _ settings: KafkaSettings, _ probe: String, _ subject: String
    ) -> Finding {
        let about = "\(subject): produce and consume"
        var own = settings
        own.topic = probe
        own.identity = probe
        own.partitions = 1
        do throws(Failure) {
            if try KafkaQuestions.topic(handle, probe, askMS) == nil {
                guard settings.development else {
                    return Finding(
                        .warning, about, "not tried, as there is no topic \(probe)",
                        cure: "Create \(probe) with 1 partition and cleanup.policy=compact to have it tried")
                }
                try KafkaQuestions.create(
                    handle, probe, partitions: 1, replicas: 1, [("cleanup.policy", "compact")], askMS)
                // A topic that was just made is known a moment later.
                for _ in 0..<20 where try KafkaQuestions.topic(handle, probe, askMS) == nil {
                    _ = rd_kafka_queue_poll(handle.queue, 200).map { rd_kafka_event_destroy($0) }
                }
            }
            _ = try IdentityTopic(settings: own, writer: handle).settle(seen: [], fresh: 1)
            return Finding(.ok, about, "a record was written to \(probe) and read back")
        } catch {
            return Finding(
                .error, about, error.message,
                cure: "Let the user WRITE to and READ from topics \(settings.topic) and \(probe)")
        }
    }
}
