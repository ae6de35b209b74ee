import Foundation
import Testing

/// Seeded histories against librdkafka's mock cluster. `MARTLET_KAFKA_SEEDS=1000` runs as many, `MARTLET_SEED=17` one.
@Suite(.serialized) struct KafkaHistoryTests {
    /// Histories that run at the same time: each spends most of its time waiting for its group.
    private static let abreast = 12

    private var seeds: [UInt64] {
        let environment = ProcessInfo.processInfo.environment
        if let one = environment["MARTLET_SEED"].flatMap({ UInt64($0) }) { return [one] }
        return Array(1...(environment["MARTLET_KAFKA_SEEDS"].flatMap { UInt64($0) } ?? 50))
    }

    @Test func promisesHoldInEveryHistory() async throws {
        var waiting = seeds[...]
        try await withThrowingTaskGroup(of: (UInt64, [String]).self) { group in
            func next() {
                guard let seed = waiting.popFirst() else { return }
                group.addTask { (seed, try await KafkaHistory(seed: seed).run()) }
            }
            for _ in 0..<Self.abreast { next() }
            while let (seed, broken) = try await group.next() {
                for text in broken { Issue.record("seed \(seed): \(text)") }
                next()
            }
        }
    }
}
