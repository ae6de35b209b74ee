import Foundation
import Machinery
import Simulator
import Testing

/// Seeded histories of the storage path. `MARTLET_SEEDS=5000` runs more of them, `MARTLET_SEED=17` only that one.
@Suite struct StorageStormTests {
    private static let seeds: [UInt64] = {
        let environment = ProcessInfo.processInfo.environment
        if let one = environment["MARTLET_SEED"].flatMap({ UInt64($0) }) { return [one] }
        let count = environment["MARTLET_SEEDS"].flatMap { UInt64($0) } ?? 200
        return Array(1...max(1, count))
    }()

    /// Histories are independent, so two run at a time; each is a thread of its own.
    @Test(arguments: 0..<2) func promisesHoldInEveryStorm(half: Int) {
        for (index, seed) in Self.seeds.enumerated() where index % 2 == half {
            var scenario = StorageScenario(seed: seed)
            scenario.checksReplay = seed % 4 == 0
            let outcome = scenario.run()
            let text = outcome.violations.prefix(5).map(\.description).joined(separator: "; ")
            #expect(
                outcome.violations.isEmpty,
                "seed \(seed): \(text). Again: MARTLET_SEED=\(seed) swift test --filter StorageStormTests")
            #expect(outcome.accepted > 100, "seed \(seed) carried only \(outcome.accepted) messages")
        }
    }

    @Test func sameSeedSameHistoryByteForByte() {
        var scenario = StorageScenario(seed: 42)
        scenario.keepsLines = true
        let first = scenario.run()
        let second = scenario.run()
        #expect(first.lines.count > 1000)
        #expect(first.lines == second.lines)
        #expect(first.digest == second.digest && first.rows == second.rows)
        scenario.seed = 43
        #expect(scenario.run().digest != first.digest)
    }

    @Test func stormsReallyHappen() {
        var scenario = StorageScenario(seed: 7)
        scenario.keepsLines = true
        let lines = scenario.run().lines
        for mark in [" crash", " restart", " pause for ", " unknown ", " refused "] {
            #expect(lines.contains { $0.contains(mark) }, "no\(mark)in the history of seed 7")
        }
    }
}

/// The checker can fail: one mistake on purpose, found by its own name.
@Suite struct InjectedFaultTests {
    struct Case: CustomTestStringConvertible {
        let fault: InjectedFault
        let kind: Violation.Kind
        var testDescription: String { fault.rawValue }
    }

    static let cases = [
        Case(fault: .dropOne, kind: .lost), Case(fault: .doubleOne, kind: .duplicated),
        Case(fault: .swapTwo, kind: .outOfOrder), Case(fault: .miscountOne, kind: .unread),
    ]

    private func calm() -> StorageScenario {
        var scenario = StorageScenario(seed: 11)
        scenario.storm = false
        return scenario
    }

    @Test func nothingIsFoundWithoutAFault() {
        let outcome = calm().run()
        #expect(outcome.violations == [])
        #expect(outcome.warnings == [])
    }

    @Test(arguments: cases) func inMsgWriter(_ test: Case) {
        var scenario = calm()
        scenario.writerFault = FaultHook(test.fault, after: 3)
        expectOnly(test.kind, scenario)
    }

    @Test(arguments: cases) func inMsgProxy(_ test: Case) {
        var scenario = calm()
        scenario.proxyFault = FaultHook(test.fault, after: 3)
        expectOnly(test.kind, scenario)
    }

    @Test(arguments: cases) func inIM(_ test: Case) {
        var scenario = calm()
        scenario.imFault = FaultHook(test.fault, after: 3)
        expectOnly(test.kind, scenario)
    }

    /// A message that is gone has no row where the group offset passed it either; both are `lost`.
    private func expectOnly(_ kind: Violation.Kind, _ scenario: StorageScenario) {
        let kinds = Set(scenario.run().violations.map(\.kind))
        #expect(kinds == [kind])
    }
}
