import Testing

@testable import KafkaLog

/// Topics as an operator sees them.
@Suite struct TopicTests {
    private let fine = [
        "min.insync.replicas": "2", "unclean.leader.election.enable": "false", "cleanup.policy": "delete",
        "retention.ms": "604800000", "max.message.bytes": "10000000",
    ]

    private func settings(development: Bool = false) -> KafkaSettings {
        var settings = KafkaSettings(brokers: "b:1", log: "msg", topic: "t-msg")
        settings.development = development
        return settings
    }

    @Test func aTopicThatWillDo() {
        let report = TopicReport.of(settings(), facts: TopicFacts(partitions: 8, replicas: 3), settings: fine)
        #expect(report.wrong == [] && report.risks == [] && report.partitions == 8)
    }

    @Test func tooFewPartitionsAreTold() throws {
        let report = TopicReport.of(settings(), facts: TopicFacts(partitions: 4, replicas: 3), settings: fine)
        #expect(report.wrong.count == 1 && report.risks == [])
        #expect(try #require(report.wrong.first).contains("4 partitions and 8"))
        let none = TopicReport.of(settings(), facts: nil, settings: nil)
        #expect(try #require(none.wrong.first).contains("topics create"))
    }

    @Test func whatMayLoseMessagesIsARisk() {
        let report = TopicReport.of(settings(), facts: TopicFacts(partitions: 8, replicas: 1), settings: nil)
        #expect(report.wrong == [] && report.risks.count == 2)
    }

    @Test func plansAreJudgedAsTopicsAre() {
        let plan = TopicPlan(partitions: 8, replicas: 3, insync: 2, retentionHours: 168)
        #expect(plan.objections(settings()) == [])
        var other = plan
        other.partitions = 4
        #expect(other.objections(settings()).count == 1)
        other = plan
        other.retentionHours = 24
        #expect(other.objections(settings()).count == 1)
        other = TopicPlan(partitions: 8, replicas: 1, insync: 1, retentionHours: 168)
        #expect(other.objections(settings()).count == 2)
        #expect(other.objections(settings(development: true)) == [])
        #expect(Dictionary(plan.settings) { $1 }["retention.ms"] == "604800000")
    }

    @Test func lagsAreCountedFromWhatIsKept() {
        let behind = PartitionLag(partition: 0, start: 10, end: 100, position: 40)
        #expect(behind.records == 60 && behind.lost == 0)
        let lost = PartitionLag(partition: 0, start: 50, end: 100, position: 40)
        #expect(lost.records == 50 && lost.lost == 10)
        let new = PartitionLag(partition: 0, start: 10, end: 100, position: nil)
        #expect(new.records == 90 && new.lost == 0)
        #expect(PartitionLag(partition: 0, start: 0, end: 5, position: 9).records == 0, "a log that came back shorter")
    }
}
