import CRdKafka
import Foundation
import KafkaLog
import Logging
import Ports
import RPC
import TestKit
import Testing
import Wire

/// The adapter against brokers that answer what they are told to.
@Suite(.serialized) struct KafkaMockTests {
    private func entries(_ numbers: Range<Int>, partition: UInt32 = 0) -> [LogEntry] {
        numbers.map { MessageLogContract.entry(partition, "\($0)") }
    }

    /// The mock cluster does not tell a topic's settings.
    @Test func settingsThatAreNotToldAreRefusedUnlessInDevelopment() throws {
        let mock = try MockKafka(brokers: 3)
        var settings = mock.settings()
        settings.development = false
        do {
            _ = try KafkaLog.open(settings, logger: Logger(label: "test"))
            Issue.record("it was opened")
        } catch {
            #expect(error.kind == .mismatch)
            #expect(error.message.contains("development: true"), "\(error.message)")
            #expect(!error.message.contains("\n"))
        }
        settings.development = true
        _ = try KafkaLog.open(settings, logger: Logger(label: "test"))
    }

    @Test func aMissingTopicAndAMissingBrokerAreOneLine() throws {
        let mock = try MockKafka(brokers: 1, topics: [:])
        var settings = mock.settings()
        settings.limits.openMS = 1500
        settings.limits.askMS = 500
        settings.brokers = "127.0.0.1:1"
        do {
            _ = try KafkaLog.open(settings, logger: Logger(label: "test"))
            Issue.record("it was opened without a broker")
        } catch { #expect(error.message.contains("127.0.0.1:1"), "\(error.message)") }
    }

    @Test func twoProcessesAgreeOnTheLogsNumber() async throws {
        let mock = try MockKafka(brokers: 1)
        let settings = mock.settings()
        let numbers = try await withThrowingTaskGroup(of: UInt64.self, returning: [UInt64].self) { group in
            for _ in 0..<4 { group.addTask { try KafkaLog.open(settings, logger: Logger(label: "test")).incarnation } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(numbers).count == 1 && numbers[0] != 0)
        let other = try MockKafka(brokers: 1)
        #expect(try KafkaLog.open(other.settings(), logger: Logger(label: "test")).incarnation != numbers[0])
    }

    @Test func aLogThatLostItsEndHasAnotherNumber() async throws {
        let mock = try MockKafka(brokers: 1, topics: ["msg": 4, "short": 4])
        let hosted = try await HostedKafka.open(mock.settings())
        _ = try await hosted.port.append(entries(0..<10))
        let number = hosted.log.incarnation
        hosted.log.perform(.note(ends: [10, 0, 0, 0]))
        await hosted.stop()
        var settings = mock.settings()
        let again = try KafkaLog.open(settings, logger: Logger(label: "test"))
        #expect(again.incarnation == number, "the same log")
        // Another topic under the first one's identity: what a topic that was made again looks like.
        settings.topic = "short"
        settings.identity = "msg.identity"
        let short = try KafkaLog.open(settings, logger: Logger(label: "test"))
        #expect(short.incarnation != number)
        #expect(try KafkaLog.open(settings, logger: Logger(label: "test")).incarnation == short.incarnation)
    }

    /// Errors that pass are waited out: the append is answered once, with an offset.
    @Test(arguments: [
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    ]) func errorsThatPassAreWaitedOut(_ error: rd_kafka_resp_err_t) async throws {
        let mock = try MockKafka(brokers: 1)
        let hosted = try await HostedKafka.open(mock.settings())
        mock.fail(.produce, [error, error])
        let results = try await hosted.port.append(entries(0..<3))
        #expect(results.map(\.offset) == [0, 1, 2])
        #expect(results.allSatisfy { !$0.hasFailure && !$0.unknown })
        await hosted.stop()
        withExtendedLifetime(mock) {}
    }

    /// An error that does not pass breaks the producer as a whole, so that nothing overtakes what failed; the next
    /// append finds a new one.
    @Test func aRecordThatIsRefusedIsOvertakenByNothing() async throws {
        let mock = try MockKafka(brokers: 1)
        var settings = mock.settings()
        // In one request: the mock cluster checks no sequence numbers, so there a second one could pass a failed first.
        settings.limits.lingerMS = 20
        let hosted = try await HostedKafka.open(settings)
        #expect(try await hosted.port.append(entries(0..<1)).map(\.offset) == [0])
        mock.fail(.produce, [RD_KAFKA_RESP_ERR_POLICY_VIOLATION])
        let results = try await hosted.port.append(entries(1..<50))
        #expect(results.allSatisfy { $0.hasFailure }, "one failed, so all behind it did")
        #expect(results.allSatisfy { $0.failure.retryable })
        var accepted = 0
        for _ in 0..<50 where accepted == 0 {
            let request = LogAppend.with {
                $0.log = "msg"
                $0.entries = entries(1..<2)
            }
            if case .answered(.logAppended(let body)) = await hosted.port.ask(.logAppend(request)),
                body.results[0].hasFailure == false
            {
                accepted += 1
                #expect(body.results[0].offset == 1)
            } else {
                try await Task.sleep(for: .milliseconds(100))
            }
        }
        #expect(accepted == 1)
        await hosted.stop()
        withExtendedLifetime(mock) {}
    }

    /// While brokers are away the queue fills up to its limit, and what does not fit is refused; nothing that was taken
    /// is lost when they come back.
    @Test func aFullQueueIsOverloadedAndDrains() async throws {
        let mock = try MockKafka(brokers: 1)
        var settings = mock.settings()
        settings.limits.queuedRecords = 100
        let hosted = try await HostedKafka.open(settings)
        _ = try await hosted.port.append(entries(0..<1))
        mock.setDown(1)
        async let waiting = hosted.port.append(entries(1..<91))
        try await Task.sleep(for: .milliseconds(200))
        let request = LogAppend.with {
            $0.log = "msg"
            $0.entries = entries(91..<111)
        }
        guard case .refused(let failure) = await hosted.port.ask(.logAppend(request)) else {
            Issue.record("it was taken")
            await hosted.stop()
            return
        }
        #expect(failure.isCode(.overloaded))
        mock.setUp(1)
        #expect(try await waiting.map(\.offset) == Array(1..<91))
        await hosted.stop()
        withExtendedLifetime(mock) {}
    }

    @Test func linesAndStatisticsArrive() async throws {
        let mock = try MockKafka(brokers: 1)
        var settings = mock.settings()
        settings.limits.statisticsMS = 100
        let hosted = try await HostedKafka.open(settings)
        _ = try await hosted.port.append(entries(0..<10))
        var sent = 0.0
        for _ in 0..<50 where sent < 10 {
            try await Task.sleep(for: .milliseconds(100))
            sent = hosted.log.statistics["msg-producer"]?["txmsgs"] ?? 0
        }
        #expect(sent == 10)
        await hosted.stop()
        withExtendedLifetime(mock) {}
    }
}
