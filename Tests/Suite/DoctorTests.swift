import Ports
import Testing

@testable import MartletSuite

/// What is said about a machine, and about what every backend has.
@Suite struct DoctorTests {
    private func levels(_ findings: [Finding]) -> [String: Finding.Level] {
        Dictionary(findings.map { ($0.subject, $0.level) }) { max($0, $1) }
    }

    @Test func aMachineIsJudged() {
        var facts = HostFacts(openFiles: 20_000)
        facts.ports = [
            .init(key: "a", host: "h", port: 1, problem: nil),
            .init(key: "b", host: "h", port: 2, problem: "is in use"),
            .init(key: "c", host: "h", port: 3, problem: "needs the rights of root"),
            .init(key: "d", host: "h", port: 0, problem: nil),
        ]
        facts.folder = "/data"
        facts.freeBytes = 2 << 30
        #expect(
            levels(facts.findings) == [
                "host: open files": .ok, "host: a h:1": .ok, "host: b h:2": .warning, "host: c h:3": .error,
                "host: /data": .ok,
            ])
        facts.ports = []
        for (files, level) in [(16_383, Finding.Level.warning), (1024, .warning), (1023, .error)]
            as [(UInt64, Finding.Level)]
        {
            facts.openFiles = files
            #expect(levels(facts.findings)["host: open files"] == level)
        }
        for (bytes, level) in [((1 << 30) - 1, Finding.Level.warning), (16 << 20, .warning), (1, .error)]
            as [(UInt64, Finding.Level)]
        {
            facts.freeBytes = bytes
            #expect(levels(facts.findings)["host: /data"] == level)
        }
        facts.freeBytes = 2 << 30
        facts.isWritable = false
        #expect(levels(facts.findings)["host: /data"] == .error)
        facts.folder = nil
        #expect(facts.findings.count == 1)
        for finding in facts.findings { #expect((finding.cure == nil) == (finding.level == .ok)) }
    }

    @Test func clocksLatenciesAndCertificates() {
        #expect(Findings.clock("s", aheadMS: -999).level == .ok)
        #expect(Findings.clock("s", aheadMS: -1000).level == .warning)
        #expect(Findings.clock("s", aheadMS: 60_000).level == .error)
        #expect(Findings.clock("s", aheadMS: -5).found == "5 ms behind this machine's")
        #expect(Findings.latency("s", []) == nil)
        #expect(Findings.latency("s", [9_000_000, 10, 99_999])?.level == .ok)
        #expect(Findings.latency("s", [100_000])?.level == .warning)
        #expect(Findings.latency("s", [1_000_000])?.level == .error)
        #expect(Findings.certificate("s", secondsLeft: 30 * 86_400).level == .ok)
        #expect(Findings.certificate("s", secondsLeft: 30 * 86_400 - 1).level == .warning)
        #expect(Findings.certificate("s", secondsLeft: 0).level == .error)
        #expect(Finding.Level.ok < .warning && Finding.Level.warning < .error)
    }
}
