import Foundation
import Ports
import Wire

/// What every storage of a log promises. A fresh, empty log with at least four partitions per case.
public enum MessageLogContract {
    public typealias Case = ContractCase<any MessageLogStore>

    public static let cases: [Case] = [
        Case("offsets are dense from 0 in every partition", denseOffsets),
        Case("records come back as they went in, in order", readBack),
        Case("a read gives one record at least, and about as many bytes as asked", byteLimit),
        Case("every wanted partition is served in a few reads", fairness),
        Case("positions outside of the log are refused by name", outside),
        Case("group positions are kept per group and never go back", positions),
        Case("an empty batch is nothing", emptyBatch),
    ]

    public static func entry(_ partition: UInt32, _ text: String) -> LogEntry {
        var entry = LogEntry()
        entry.partition = partition
        entry.record = Data(text.utf8)
        return entry
    }

    public static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        var position = LogPosition()
        position.partition = partition
        position.offset = offset
        return position
    }

    private static func denseOffsets(_ log: any MessageLogStore) throws {
        let first = log.append([entry(0, "a"), entry(3, "b"), entry(0, "c")])
        try same(first.map(\.offset), [0, 0, 1], "offsets")
        try holds(first.allSatisfy { !$0.unknown && !$0.hasFailure }, "all are durable")
        try same(log.append([entry(0, "d"), entry(1, "e")]).map(\.offset), [2, 0], "offsets of the second batch")
        try same(log.range(of: 0).end, 3, "end of partition 0")
        try same(log.range(of: 2).end, 0, "end of partition 2")
    }

    private static func readBack(_ log: any MessageLogStore) throws {
        for number in 0..<50 { _ = log.append([entry(UInt32(number % 4), "record \(number)"), entry(1, "")]) }
        let found = try log.read([position(0, 0), position(1, 2), position(3, 12)], maxBytes: 1 << 20)
        let zero = found.filter { $0.partition == 0 }
        try same(zero.map(\.offset), Array(0..<13), "offsets of partition 0")
        try same(
            zero.map { String(decoding: $0.record, as: UTF8.self) }, (0..<13).map { "record \($0 * 4)" }, "records")
        let one = found.filter { $0.partition == 1 }
        try same(one.first?.offset, 2, "first wanted offset of partition 1")
        try same(one.map(\.offset), Array(2..<log.range(of: 1).end), "offsets of partition 1")
        try same(found.filter { $0.partition == 3 }.isEmpty, true, "partition 3 is at its end")
    }

    private static func byteLimit(_ log: any MessageLogStore) throws {
        let big = String(repeating: "x", count: 5000)
        _ = log.append((0..<20).map { _ in entry(2, big) })
        try same(try log.read([position(2, 0)], maxBytes: 1).count, 1, "records for one byte")
        let some = try log.read([position(2, 4)], maxBytes: 20_000).count
        try holds(some >= 3 && some <= 5, "about 20,000 bytes: \(some) records of 5,000")
        try same(try log.read([position(2, 20)], maxBytes: 1000).count, 0, "records at the end")
    }

    private static func fairness(_ log: any MessageLogStore) throws {
        let text = String(repeating: "y", count: 1000)
        _ = log.append((0..<400).map { entry(UInt32($0 % 4), text) })
        var served: Set<UInt32> = []
        for _ in 0..<8 {
            served.formUnion(try log.read((0..<4).map { position($0, 0) }, maxBytes: 4000).map(\.partition))
        }
        try same(served, [0, 1, 2, 3], "partitions that were served")
    }

    private static func outside(_ log: any MessageLogStore) throws {
        _ = log.append([entry(0, "a")])
        let beyond = try failure("reading beyond the end") { () throws(Failure) in
            try log.read([position(0, 5)], maxBytes: 100)
        }
        try holds(beyond.isCode(.limitExceeded), "beyond the end: \(beyond.reason)")
        let absent = try failure("reading a partition that is not there") { () throws(Failure) in
            try log.read([position(log.partitions, 0)], maxBytes: 100)
        }
        try holds(absent.isCode(.malformedRequest), "no such partition: \(absent.reason)")
    }

    private static func positions(_ log: any MessageLogStore) throws {
        _ = log.append((0..<10).map { entry(1, "\($0)") })
        try same(log.committed("one"), [:], "a new group")
        // The slower group first: what every group has passed may be dropped.
        log.commit("two", [position(1, 2)])
        log.commit("one", [position(1, 4)])
        log.commit("one", [position(1, 3)])
        try same(log.committed("one"), [1: 4], "group one")
        try same(log.committed("two"), [1: 2], "group two")
        try log.saveCommitted()
        try same(try log.read([position(1, 2)], maxBytes: 100).first?.offset, 2, "what group two still wants")
    }

    private static func emptyBatch(_ log: any MessageLogStore) throws {
        try same(log.append([]).count, 0, "results")
        try same(try log.read([], maxBytes: 100).count, 0, "records")
    }
}
