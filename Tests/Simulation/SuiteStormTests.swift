import Foundation
import RPC
import Testing

@testable import Simulator

/// Seeded histories of the whole message path. `MARTLET_SEEDS=2000` runs more of them, `MARTLET_SEED=17` only that one;
/// with `MARTLET_LOG=FILE` too its event log is written, in words.
@Suite struct SuiteStormTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let seeds: [UInt64] = {
        if let one = environment["MARTLET_SEED"].flatMap({ UInt64($0) }) { return [one] }
        let first = environment["MARTLET_FIRST_SEED"].flatMap { UInt64($0) } ?? 1
        let count = environment["MARTLET_SEEDS"].flatMap { UInt64($0) } ?? 12
        return Array(first..<first + max(1, count))
    }()

    /// Histories are independent, so two run at a time. Together they meet every fault and every role: one that they do
    /// not touch would prove nothing.
    @Test func promisesHoldInEveryStorm() async {
        var faults: [String: Int] = [:]
        await withTaskGroup(of: [String: Int].self) { group in
            for half in 0..<2 {
                group.addTask { Self.run(Self.seeds.enumerated().filter { $0.0 % 2 == half }.map(\.1)) }
            }
            for await found in group { faults.merge(found, uniquingKeysWith: +) }
        }
        guard Self.seeds.count >= 12 else { return }
        let crashes = Self.roles.map { "crash \($0)" }
        let others = ["pause", "cut", "silence", "stall", "drain", "lost call", "lost reply", "refused call"]
        #expect((crashes + others).filter { faults[$0] == nil } == [], "never happened")
    }

    private static func run(_ seeds: [UInt64]) -> [String: Int] {
        var faults: [String: Int] = [:]
        for seed in seeds {
            var scenario = SuiteScenario(seed: seed)
            let log = Self.environment["MARTLET_LOG"]
            scenario.keepsLines = log != nil
            scenario.explains = log != nil
            let outcome = scenario.run()
            let text = outcome.violations.prefix(5).map(\.description).joined(separator: "; ")
            let isFine = outcome.violations.isEmpty
            #expect(
                isFine, "seed \(seed): \(text). Again: MARTLET_SEED=\(seed) swift test --filter SuiteStormTests")
            #expect(outcome.accepted > 15, "seed \(seed) carried only \(outcome.accepted) messages")
            faults.merge(outcome.faults, uniquingKeysWith: +)
            guard let log else { continue }
            let lines = Data(outcome.lines.joined(separator: "\n").utf8)
            #expect(FileManager.default.createFile(atPath: log, contents: lines))
        }
        return faults
    }

    /// Seed 43 has one of most roles, seed 47 has not.
    @Test func sameSeedSameHistoryByteForByte() {
        var digests: Set<UInt64> = []
        for seed: UInt64 in [43, 47] {
            var scenario = SuiteScenario(seed: seed)
            scenario.keepsLines = true
            scenario.checksReplay = false
            let first = scenario.run()
            let second = scenario.run()
            #expect(first.lines.count > 5000)
            let isSame = first.lines == second.lines
            #expect(isSame, "seed \(seed)")
            #expect(first.digest == second.digest)
            digests.insert(first.digest)
        }
        #expect(digests.count == 2)
    }

    private static let roles: [RoleName] = [
        .login, .online, .route, .im, .user, .msgProxy, .msgWriter, .msgReader, .pushProxy, .pushServer, .pushWorker,
        .messageLog, .pushLog, .recentStore, .hotStore, .presenceStore, .userStore,
    ]
}
