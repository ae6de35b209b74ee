import MySQLStore
import Testing

@testable import MartletOps

/// Which buckets are moved.
@Suite struct MovePlanTests {
    private let map = ShardMap(version: 3, shards: [0, 1, 0, 1])

    private func plan(
        buckets: [UInt32]? = nil, from: Int? = nil, to: Int, shards: Int = 3
    ) throws(OpsError) -> MovePlan {
        try MovePlan.of(map, buckets: buckets, from: from, to: to, shards: shards)
    }

    private func step(_ bucket: UInt32, _ from: Int, _ to: Int) -> MovePlan.Step {
        MovePlan.Step(bucket: bucket, from: from, to: to)
    }

    @Test func allBucketsOrThoseOfAShard() throws {
        #expect(try plan(to: 1) == MovePlan(steps: [step(0, 0, 1), step(2, 0, 1)], settled: [1, 3]))
        #expect(
            try plan(to: 2)
                == MovePlan(steps: [step(0, 0, 2), step(1, 1, 2), step(2, 0, 2), step(3, 1, 2)], settled: []))
        #expect(try plan(from: 1, to: 2) == MovePlan(steps: [step(1, 1, 2), step(3, 1, 2)], settled: []))
    }

    /// The same command after a run that died: what has moved is left alone.
    @Test func namedBucketsAndThoseThatAreThere() throws {
        #expect(try plan(buckets: [3, 0, 3], to: 1) == MovePlan(steps: [step(0, 0, 1)], settled: [3]))
        #expect(try plan(buckets: [1], from: 0, to: 1) == MovePlan(steps: [], settled: [1]))
    }

    @Test func whatDoesNotExistIsTold() {
        #expect(throws: OpsError.self) { try plan(to: 3) }
        #expect(throws: OpsError.self) { try plan(from: -1, to: 1) }
        #expect(throws: OpsError.self) { try plan(buckets: [4], to: 1) }
        #expect(throws: OpsError.self) { try plan(buckets: [1], from: 0, to: 2) }
        #expect(throws: OpsError.self) {
            try MovePlan.of(ShardMap.single, buckets: nil, from: nil, to: 0, shards: 1)
        }
    }

    @Test func listsOfBuckets() {
        #expect(BucketList("0,3,5-7")?.buckets == [0, 3, 5, 6, 7])
        #expect(BucketList("4")?.buckets == [4])
        for text in ["", "a", "1,", "3-1", "1-2-3", "-1", "0-9999999"] { #expect(BucketList(text) == nil, "\(text)") }
    }

    private typealias Found = ShardAddition.Found

    @Test func shardsAreAddedAtTheEnd() {
        let (one, two) = (
            Found(deployment: "us", number: 0, hasBuckets: true), Found(deployment: "us", number: 1, hasBuckets: true)
        )
        let new = Found(deployment: nil, number: 0, hasBuckets: false)
        func of(_ found: [Found]) -> ShardAddition { ShardAddition.of(deployment: "us", mapped: 2, found: found) }
        #expect(of([one, two, new, new]) == .add([2, 3]))
        // Twice is the same as once.
        let third = Found(deployment: "us", number: 2, hasBuckets: false)
        #expect(of([one, two, third]) == .add([]))
        let refused: [(String, [Found])] = [
            ("fewer than the map names", [one]), ("another order", [two, one]), ("a new one between", [one, new, two]),
            ("another's", [one, two, Found(deployment: "them", number: 2, hasBuckets: false)]),
            ("rows of its own", [one, two, Found(deployment: nil, number: 0, hasBuckets: true)]),
        ]
        for (name, found) in refused {
            guard case .refuse = of(found) else {
                Issue.record("\(name) was not refused")
                continue
            }
        }
    }
}
