import Foundation
import Simulator
import TestKit
import Testing

/// The power goes in the middle of the whole embedded store: log, recent store, user index, tokens. Nothing that
/// anybody was promised is missing afterwards, nothing is there twice, and what anybody was shown keeps its place.
/// `MARTLET_SEEDS=600` runs more histories, `MARTLET_SEED=17` only that one.
@Suite struct EmbeddedPowerCutTests {
    private static let seeds: [UInt64] = {
        let environment = ProcessInfo.processInfo.environment
        if let one = environment["MARTLET_SEED"].flatMap({ UInt64($0) }) { return [one] }
        let count = environment["MARTLET_SEEDS"].flatMap { UInt64($0) } ?? 50
        return Array(1...max(1, count))
    }()

    /// Histories are independent, so two run at a time; each is a thread of its own.
    @Test(arguments: 0..<2) func nothingPromisedIsLost(half: Int) {
        var cuts = 0
        var cutsBeforeTheFile = 0
        var accepted = 0
        var histories = 0
        for (index, seed) in Self.seeds.enumerated() where index % 2 == half {
            let outcome = EmbeddedHistory(seed: seed).run()
            let text = outcome.violations.prefix(4).map(\.description).joined(separator: "; ")
            #expect(
                outcome.violations.isEmpty,
                "seed \(seed): \(text). Again: MARTLET_SEED=\(seed) swift test --filter EmbeddedPowerCutTests")
            cuts += outcome.cutsAtAStep
            cutsBeforeTheFile += outcome.cutsBeforeTheFile
            accepted += outcome.accepted
            histories += 1
        }
        // The test must bite: most cuts fall into the middle of the disk's work, and much was promised before them.
        #expect(cuts >= histories * 2, "only \(cuts) cuts in \(histories) histories fell into the disk's work")
        #expect(cutsBeforeTheFile >= histories, "the recent store's file was behind at \(cutsBeforeTheFile) cuts only")
        #expect(accepted >= histories * 200, "only \(accepted) messages in \(histories) histories")
    }

    /// The disk is full for a while, and then the power goes as well: who was refused comes again when there is room,
    /// who was told "accepted" keeps it.
    @Test func aFullDiskLosesNothing() {
        var fullMS: UInt64 = 0
        let seeds = Self.seeds.prefix(max(1, Self.seeds.count / 5))
        for seed in seeds {
            var history = EmbeddedHistory(seed: seed)
            history.fillsUp = true
            let outcome = history.run()
            let text = outcome.violations.prefix(4).map(\.description).joined(separator: "; ")
            #expect(outcome.violations.isEmpty, "seed \(seed): \(text)")
            fullMS += outcome.fullMS
        }
        #expect(fullMS > 100 * UInt64(seeds.count), "the disk was full for \(fullMS) ms only")
    }

    /// A disk that forgets some syncs, and the least share of the histories that must find it out.
    struct Unsynced: CustomTestStringConvertible {
        let syncs: SimulatedDisk.IgnoredSyncs
        let share: Double
        var testDescription: String { "\(syncs.path) after \(syncs.after) syncs" }

        init(_ path: String, after: Int = 0, share: Double) {
            syncs = SimulatedDisk.IgnoredSyncs(of: path, after: after)
            self.share = share
        }
    }

    /// The rows that the recent store loses come back from the log; it is damaged only by checkpoints that are not
    /// synced, which not every history has.
    static let unsynced = [
        Unsynced("/", share: 0.9), Unsynced(".seg", after: 1, share: 0.9),
        Unsynced("relational.sqlite", after: 10, share: 0.9), Unsynced("tokens.sqlite", after: 10, share: 0.3),
        Unsynced("recent.sqlite", after: 10, share: 0.2),
    ]

    /// The same histories on a disk whose fdatasync does nothing: the losses are found.
    @Test(arguments: unsynced) func aDiskThatDoesNotSyncIsFoundOut(_ disk: Unsynced) {
        let seeds = UInt64(1)...10
        let caught = seeds.filter { seed in
            var history = EmbeddedHistory(seed: seed)
            history.faults.ignoredSyncs = disk.syncs
            return !history.run().violations.isEmpty
        }
        #expect(
            Double(caught.count) >= disk.share * Double(seeds.count),
            "only \(caught.count) of \(seeds.count) histories found the loss")
    }
}
