import Foundation
import Logging
import Ports
import Testing

@testable import KafkaLog

/// What is decided before a log in Kafka is served: its settings, its topic, its number.
@Suite struct KafkaOpeningTests {
    private let safe = [
        "min.insync.replicas": "2", "unclean.leader.election.enable": "false", "cleanup.policy": "delete",
        "max.message.bytes": "2000000", "retention.ms": "604800000",
    ]

    @Test func aSafeTopicHasNoDangers() {
        let topic = TopicFacts(partitions: 8, replicas: 3)
        #expect(topic.dangers("msg", settings: safe) == [])
        #expect(topic.mismatch("msg", partitions: 8, settings: safe) == nil)
    }

    @Test(arguments: [
        ("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true"),
    ]) func everySettingThatLosesMessagesIsNamed(_ name: String, _ value: String) throws {
        var settings = safe
        settings[name] = value
        let dangers = TopicFacts(partitions: 8, replicas: 3).dangers("msg", settings: settings)
        #expect(dangers.count == 1)
        #expect(try #require(dangers.first).hasPrefix(name))
        settings[name] = nil
        #expect(TopicFacts(partitions: 8, replicas: 3).dangers("msg", settings: settings).count == 1)
    }

    @Test func twoCopiesAndSettingsThatAreNotToldAreDangers() {
        #expect(TopicFacts(partitions: 8, replicas: 2).dangers("msg", settings: safe).count == 1)
        #expect(TopicFacts(partitions: 8, replicas: 3).dangers("msg", settings: nil).count == 1)
    }

    @Test(arguments: [
        ("cleanup.policy", "compact"), ("cleanup.policy", "compact,delete"), ("max.message.bytes", "1048575"),
        ("retention.ms", "604799999"),
    ]) func whatCannotCarryALogIsRefusedEverywhere(_ name: String, _ value: String) throws {
        var settings = safe
        settings[name] = value
        let wrong = try #require(
            TopicFacts(partitions: 8, replicas: 3).mismatch("msg", partitions: 8, settings: settings))
        #expect(wrong.hasPrefix(name))
    }

    @Test func anotherNumberOfPartitionsIsRefused() {
        #expect(TopicFacts(partitions: 7, replicas: 3).mismatch("msg", partitions: 8, settings: safe) != nil)
        #expect(TopicFacts(partitions: 8, replicas: 3).mismatch("msg", partitions: 8, settings: nil) == nil)
        var endless = safe
        endless["retention.ms"] = "-1"
        #expect(TopicFacts(partitions: 8, replicas: 3).mismatch("msg", partitions: 8, settings: endless) == nil)
    }

    // MARK: The log's number

    private func identity(_ notes: [LogIdentity.Note]) -> LogIdentity {
        var identity = LogIdentity()
        for note in notes { identity.read(note) }
        return identity
    }

    @Test func theFirstNameCountsWhoeverElseWroteOne() {
        #expect(identity([.named(id: 5, after: 0), .named(id: 6, after: 0)]).id == 5)
        #expect(identity([.named(id: 5, after: 0), .named(id: 6, after: 5), .named(id: 7, after: 5)]).id == 6)
        #expect(identity([.named(id: 5, after: 4)]).id == 0)
    }

    @Test func aLogThatIsShorterThanItWasIsAnother() {
        let known = identity([.named(id: 5, after: 0), .ends(id: 5, [3, 9]), .ends(id: 5, [4, 8])])
        #expect(known.ends == [4, 9])
        #expect(known.fits([4, 9]))
        #expect(known.fits([100, 100]))
        #expect(!known.fits([3, 9]))
        #expect(!known.fits([4, 8]))
        #expect(!known.fits([4]))
        #expect(!identity([]).fits([0, 0]), "a log without a name needs one")
    }

    @Test func endsBelongToTheirLog() {
        let known = identity([
            .named(id: 5, after: 0), .ends(id: 5, [90, 90]), .named(id: 6, after: 5), .ends(id: 5, [95, 95]),
        ])
        #expect(known.ends == [])
        #expect(known.fits([0, 0]))
    }

    @Test func notesAreReadAsTheyWereWritten() {
        let notes: [LogIdentity.Note] = [
            .named(id: .max, after: 0), .named(id: 2, after: 1), .ends(id: 3, [0, .max, 7]),
        ]
        for note in notes { #expect(LogIdentity.Note(note.text) == note) }
        for text in ["", "martlet-log 2 named 1 after 0", "martlet-log 1 named x after 0", "martlet-log 1 ends 1 2,x"] {
            #expect(LogIdentity.Note(text) == nil, "\(text)")
        }
        #expect(Set(notes.map(\.key)).count == 3)
    }

    // MARK: Settings

    @Test func addressesAreRead() throws {
        let settings = try KafkaSettings.parse(
            "kafka://a:1,b:2?development=true&topics=test-&security.protocol=sasl_ssl&sasl.password=x=y", log: "push")
        #expect(settings.brokers == "a:1,b:2")
        #expect(settings.topic == "test-push" && settings.log == "push")
        #expect(settings.development)
        #expect(settings.properties == ["security.protocol": "sasl_ssl", "sasl.password": "x=y"])
        #expect(try KafkaSettings.parse("kafka://a:1", log: "msg").development == false)
        #expect(try KafkaSettings.parse("kafka://a:1", log: "msg").lastingMembers)
        #expect(try !KafkaSettings.parse("kafka://a:1?members=passing", log: "msg").lastingMembers)
        #expect(try KafkaSettings.parse("kafka://a:1?let-go-ms=50", log: "msg").limits.letGoMS == 50)
        #expect(try KafkaSettings.parse("kafka://a:1?rebalance-ms=12000", log: "msg").limits.rebalanceMS == 12_000)
        #expect(settings.group("g") == "\(settings.topic).g", "each log has its own groups")
    }

    @Test(arguments: [
        "", "kafka://", "redis://a:1", "kafka://a/b", "kafka://a:1?x", "kafka://a:1?acks=1",
        "kafka://a:1?members=some", "kafka://a:1?let-go-ms=2000", "kafka://a:1?rebalance-ms=9",
        "kafka://a:1?enable.idempotence=false",
        "kafka://a:1?auto.offset.reset=latest",
    ]) func whatBreaksAPromiseCannotBeSet(_ address: String) {
        #expect(throws: StoreOpenError.self) { try KafkaSettings.parse(address, log: "msg") }
    }

    @Test func aSecretIsNotRepeated() throws {
        var settings = KafkaSettings(brokers: "127.0.0.1:1", log: "msg")
        let secret = "hunter\(Int.random(in: 1000...9999))"
        settings.properties = ["security.protocol": secret]
        do {
            _ = try KafkaLog.open(settings, logger: Logger(label: "test"))
            Issue.record("it was taken")
        } catch {
            #expect(error.message.contains("security.protocol"))
            #expect(!error.message.contains(secret))
        }
    }

    @Test func statisticsAreNumbersByTheirPaths() throws {
        let text = #"{"name":"x","tx":3,"brokers":{"b:1/1":{"rtt":{"avg":12}}},"list":[1],"on":true}"#
        var found: [String: Double] = [:]
        KafkaTell.flatten(try JSONSerialization.jsonObject(with: Data(text.utf8)), "", &found)
        #expect(found["tx"] == 3)
        #expect(found["brokers.b:1/1.rtt.avg"] == 12)
    }
}
