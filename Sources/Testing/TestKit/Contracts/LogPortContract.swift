import Foundation
import Ports
import RPC
import Wire

/// What the port role `log` promises, whatever is behind it: asked as MsgProxy and MsgWriter ask. A fresh, empty log
/// "msg" with four partitions per case; answers may take a while, as groups at a broker do.
public enum LogPortContract {
    public struct Case: Sendable, CustomStringConvertible {
        public let description: String
        private let check: @Sendable (LogPort) async throws -> Void

        init(_ name: String, _ check: @escaping @Sendable (LogPort) async throws -> Void) {
            description = name
            self.check = check
        }

        /// - Throws: `ContractViolation`.
        public func run(_ port: LogPort) async throws { try await check(port) }
    }

    public static let cases: [Case] = [
        Case("appends are answered with dense offsets", denseOffsets),
        Case("records come back as they went in, in order", readBack),
        Case("bad entries are refused one by one", badEntries),
        Case("another log is not found", unknownLog),
        Case("the first fetch gives the share, the ends and the incarnation", firstFetch),
        Case("a waiting fetch is answered by what comes", waitingFetch),
        Case("a wait that is over is answered with nothing", emptyFetch),
        Case("a fetch that does not wait knows the ends of now", freshEnds),
        Case("members share the partitions, and who leaves gives its own back", sharing),
        Case("positions are kept per group and never go back", positions),
        Case("anybody may ask where a group is", progress),
        Case("what is not one's own is refused", foreign),
        Case("a member may go back, and forth", goingBack),
        Case("an answer has a record at least, and about as many bytes as asked", byteLimit),
        Case("a position beyond the end holds nobody up", beyond),
        Case("partitions that are not wanted wait", unwanted),
        Case("nothing is lost or doubled while members come and go", comingAndGoing),
    ]

    private static func entry(_ partition: UInt32, _ text: String) -> LogEntry {
        MessageLogContract.entry(partition, text)
    }

    private static func text(_ entry: LogEntry) -> String { String(decoding: entry.record, as: UTF8.self) }

    private static func done(_ result: CallResult, _ what: String) throws {
        guard case .answered(.done) = result else {
            throw ContractViolation(description: "\(what): \(result)")
        }
    }

    private static func refused(_ result: CallResult, _ code: ErrorCode, _ what: String) throws {
        guard case .refused(let failure) = result, failure.isCode(code) else {
            throw ContractViolation(description: "\(what) should be refused with \(code.name): \(result)")
        }
    }

    private static func denseOffsets(_ port: LogPort) async throws {
        let first = try await port.append([entry(0, "a"), entry(3, "b"), entry(0, "c")])
        try same(first.map(\.offset), [0, 0, 1], "offsets")
        try holds(first.allSatisfy { !$0.unknown && !$0.hasFailure }, "all are durable")
        try same(try await port.append([entry(0, "d"), entry(1, "e")]).map(\.offset), [2, 0], "offsets of the second")
        try same(try await port.append([]).count, 0, "results of nothing")
    }

    private static func readBack(_ port: LogPort) async throws {
        for round in 0..<5 {
            let entries = (0..<20).map { entry(UInt32($0 % 3), "record \(round * 20 + $0)") }
            _ = try await port.append(entries + [entry(3, "")])
        }
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        let found = try await reader.read(105)
        for partition in 0..<3 {
            let own = found.filter { $0.partition == UInt32(partition) }
            let wanted = (0..<100).filter { $0 % 20 % 3 == partition }.map { "record \($0)" }
            try same(own.map(text), wanted, "records of partition \(partition)")
            try same(own.map(\.offset), Array(0..<UInt64(wanted.count)), "offsets of partition \(partition)")
        }
        try same(found.filter { $0.partition == 3 }.map(text), ["", "", "", "", ""], "empty records")
    }

    private static func badEntries(_ port: LogPort) async throws {
        let big = String(repeating: "x", count: LogLimits.recordBytes + 1)
        let results = try await port.append([entry(0, "a"), entry(4, "b"), entry(0, big), entry(0, "c")])
        try same(results.map(\.hasFailure), [false, true, true, false], "refused")
        try same(results.map(\.offset), [0, 0, 0, 1], "offsets")
        let largest = String(repeating: "y", count: LogLimits.recordBytes)
        try same(try await port.append([entry(1, largest)]).map(\.hasFailure), [false], "the largest record")
    }

    private static func unknownLog(_ port: LogPort) async throws {
        let other = LogPort(log: "other", ask: port.ask)
        var append = LogAppend()
        append.log = "other"
        append.entries = [entry(0, "a")]
        try refused(await port.ask(.logAppend(append)), .notFound, "an append")
        let reader = LogReader(other, group: "g", member: "m")
        try refused(await reader.fetch(waitMS: 0), .notFound, "a fetch")
        try refused(await reader.commit([]), .notFound, "a commit")
        try refused(await reader.leave(), .notFound, "a leave")
        let nameless = LogReader(port, group: "", member: "m")
        try refused(await nameless.fetch(waitMS: 0), .malformedRequest, "a fetch without a group")
    }

    private static func firstFetch(_ port: LogPort) async throws {
        _ = try await port.append([entry(1, "a"), entry(1, "b"), entry(3, "c")])
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        try same(reader.assigned, [0: 0, 1: 0, 2: 0, 3: 0], "positions of a new group")
        try same(reader.ends, [0: 0, 1: 2, 2: 0, 3: 1], "ends")
        try same(reader.partitions, 4, "partitions of the log")
        try holds(reader.incarnation != 0, "the log has an incarnation")
        try holds(reader.generation != 0, "the group has a generation")
    }

    private static func waitingFetch(_ port: LogPort) async throws {
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        let asked = reader
        async let waiting = asked.fetch(waitMS: 5000)
        // Whichever comes first at the log: the append wakes a fetch that waits, and one that comes later finds it.
        _ = try await port.append([entry(2, "news")])
        let clock = ContinuousClock()
        let began = clock.now
        guard case .answered(.logFetched(let body)) = await waiting else {
            throw ContractViolation(description: "no answer")
        }
        try same(reader.take(body).map(text), ["news"], "what the fetch brings")
        try holds(clock.now - began < .seconds(4), "it did not wait for its end")
    }

    private static func emptyFetch(_ port: LogPort) async throws {
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        let clock = ContinuousClock()
        let began = clock.now
        try same(try await reader.poll(waitMS: 300).count, 0, "records of an empty log")
        try holds(clock.now - began >= .milliseconds(290), "it waited")
    }

    private static func freshEnds(_ port: LogPort) async throws {
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        for number in 1...20 {
            _ = try await port.append([entry(1, "r\(number)")])
            // Nothing is wanted, so nothing is fetched ahead that could tell.
            _ = try await reader.poll(waitMS: 0, only: [])
            try same(reader.ends[1], UInt64(number), "the end right after an append")
        }
    }

    private static func sharing(_ port: LogPort) async throws {
        var (one, two) = (LogReader(port, group: "g", member: "one"), LogReader(port, group: "g", member: "two"))
        try await one.join(wanted: 4)
        try await settle(&one, &two)
        let alone = two
        try done(await alone.leave(), "leaving")
        for _ in 0..<60 where one.next.count < 4 { _ = try await one.poll(waitMS: 200) }
        try same(one.next.keys.sorted(), [0, 1, 2, 3], "partitions of the one that stays")
    }

    /// Polls two members until they share four partitions evenly.
    private static func settle(_ one: inout LogReader, _ two: inout LogReader) async throws {
        for _ in 0..<300 where one.next.count != 2 || two.next.count != 2 {
            _ = try await one.poll(waitMS: 50)
            _ = try await two.poll(waitMS: 50)
        }
        try same((Array(one.next.keys) + Array(two.next.keys)).sorted(), [0, 1, 2, 3], "partitions of both")
    }

    private static func positions(_ port: LogPort) async throws {
        _ = try await port.append((0..<10).map { entry(1, "\($0)") })
        // The slower group first: what every group has passed may be dropped.
        var slow = LogReader(port, group: "h", member: "m")
        try await slow.join(wanted: 4)
        for _ in 0..<20 where slow.next[1] == 0 { _ = try await slow.poll() }
        try done(await slow.commit([LogReader.position(1, 1)]), "another group's commit")
        try done(await slow.leave(), "another group's leaving")
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        _ = try await reader.read(10)
        try done(await reader.commit([LogReader.position(1, 4)]), "a commit")
        try done(await reader.commit([LogReader.position(1, 3)]), "a commit of a lower position")
        try done(await reader.leave(), "leaving")
        var again = LogReader(port, group: "g", member: "m")
        try await again.join(wanted: 4)
        try same(again.assigned[1], 4, "the group's position")
        try same(try await again.read(6).map(text), (4..<10).map { "\($0)" }, "what is left")
        var other = LogReader(port, group: "h", member: "m")
        try await other.join(wanted: 4)
        try same(other.assigned[1], 1, "another group's position")
    }

    private static func progress(_ port: LogPort) async throws {
        func committed(_ group: String, log: String = "msg") async -> CallResult {
            await port.ask(
                .logProgressAsk(
                    .with {
                        $0.log = log
                        $0.group = group
                    }))
        }
        func told(_ positions: [LogPosition]) -> CallResult {
            .answered(.logProgress(.with { $0.committed = positions }))
        }
        _ = try await port.append((0..<6).map { entry(UInt32($0 % 2 + 1), "\($0)") })
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        _ = try await reader.read(6)
        try same(await committed("nobody"), told([]), "a group that nobody is in")
        try done(await reader.commit([LogReader.position(2, 2), LogReader.position(1, 3)]), "a commit")
        let wanted = told([LogReader.position(1, 3), LogReader.position(2, 2)])
        try same(await committed("g"), wanted, "the group's positions")
        try done(await reader.leave(), "leaving")
        try same(await committed("g"), wanted, "when nobody is in it any more")
        try refused(await committed("g", log: "other"), .notFound, "another log")
    }

    private static func foreign(_ port: LogPort) async throws {
        _ = try await port.append((0..<4).map { entry(UInt32($0), "a") })
        var (one, two) = (LogReader(port, group: "g", member: "one"), LogReader(port, group: "g", member: "two"))
        try await one.join(wanted: 4)
        let old = one.generation
        try await settle(&one, &two)
        let mine = try some(one.next.keys.sorted().first, "a partition of one")
        let theirs = try some(two.next.keys.sorted().first, "a partition of two")
        let end = LogReader.position(mine, 1)
        try refused(await one.commit([end], generation: old), .forbidden, "a commit of an old generation")
        try refused(await one.commit([LogReader.position(theirs, 1)]), .forbidden, "a commit of another's partition")
        try refused(await one.commit([LogReader.position(mine, 2)]), .limitExceeded, "a commit beyond the end")
        let stranger = LogReader(port, group: "g", member: "three")
        try refused(await stranger.commit([], generation: one.generation), .forbidden, "a stranger's commit")
        var greedy = one
        greedy.next = [theirs: 0]
        try refused(await greedy.fetch(waitMS: 0), .forbidden, "a fetch of another's partition")
        for _ in 0..<20 where one.next[mine] != 1 { _ = try await one.poll() }
        try done(await one.commit([end]), "a commit of one's own")
    }

    private static func goingBack(_ port: LogPort) async throws {
        _ = try await port.append((0..<30).map { entry(2, "\($0)") })
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        try same(try await reader.read(30).map(text), (0..<30).map { "\($0)" }, "all")
        reader.next[2] = 10
        try same(try await reader.read(20).map(text), (10..<30).map { "\($0)" }, "again from 10")
        reader.next[2] = 0
        try same(try await reader.read(1, maxBytes: 1).first.map(text), "0", "again from the beginning")
        reader.next[2] = 29
        try same(try await reader.read(1).map(text), ["29"], "the last one")
        _ = try await port.append([entry(2, "30")])
        try same(try await reader.read(1).map(text), ["30"], "what comes after it")
    }

    private static func byteLimit(_ port: LogPort) async throws {
        let big = String(repeating: "x", count: 50_000)
        _ = try await port.append((0..<8).map { _ in entry(2, big) })
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        var sizes: [Int] = []
        for _ in 0..<60 where sizes.reduce(0, +) < 8 {
            let count = try await reader.poll(maxBytes: 1).count
            if count > 0 { sizes.append(count) }
        }
        try same(sizes, Array(repeating: 1, count: 8), "records of answers for a byte")
        reader.next[2] = 0
        for _ in 0..<60 where reader.next[2] != 8 {
            let count = try await reader.poll(maxBytes: 120_000).count
            try holds(count <= 3, "\(count) records of 50,000 bytes in an answer of about 120,000")
        }
        try same(reader.next[2], 8, "all were read")
    }

    private static func beyond(_ port: LogPort) async throws {
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        _ = try await port.append([entry(1, "x")])
        reader.next[0] = 9
        try same(try await reader.read(1).map(text), ["x"], "what others bring")
        try same(reader.ends[0], 0, "the end that tells")
    }

    private static func unwanted(_ port: LogPort) async throws {
        var reader = LogReader(port, group: "g", member: "m")
        try await reader.join(wanted: 4)
        _ = try await port.append([entry(0, "a"), entry(1, "b")])
        var found: [LogEntry] = []
        for _ in 0..<60 where found.isEmpty { found = try await reader.poll(waitMS: 200, only: [1, 2, 3]) }
        try same(found.map(text), ["b"], "what is wanted")
        try same(try await reader.read(1).map(text), ["a"], "what waited")
    }

    private static func comingAndGoing(_ port: LogPort) async throws {
        var one = LogReader(port, group: "g", member: "one")
        var handled: [UInt32: UInt64] = [:]
        try await one.join(wanted: 4)
        for round in 0..<3 {
            _ = try await port.append((0..<40).map { entry(UInt32($0 % 4), "\(round)") })
            var two = LogReader(port, group: "g", member: "two-\(round)")
            for _ in 0..<100 where two.next.isEmpty {
                try await handle(&one, &handled)
                try await handle(&two, &handled)
            }
            try holds(!two.next.isEmpty, "the second member has a share")
            for _ in 0..<3 { try await handle(&two, &handled) }
            try done(await two.leave(), "leaving")
            let wanted = UInt64((round + 1) * 10)
            for _ in 0..<120 where !(0..<4).allSatisfy({ handled[$0] == wanted }) { try await handle(&one, &handled) }
            try same(handled, [0: wanted, 1: wanted, 2: wanted, 3: wanted], "handled after round \(round)")
        }
    }

    /// A writer's round: what is stored already is left out, a hole is a loss, positions move after.
    private static func handle(_ reader: inout LogReader, _ handled: inout [UInt32: UInt64]) async throws {
        let records = try await reader.poll(waitMS: 50)
        for (partition, position) in reader.assigned {
            try holds(
                position <= handled[partition] ?? 0, "the position of \(partition) is not ahead of what is handled")
        }
        var moved: [UInt32: UInt64] = [:]
        for record in records {
            let stored = handled[record.partition] ?? 0
            try holds(record.offset <= stored, "no hole before \(record.offset) of \(record.partition)")
            handled[record.partition] = max(stored, record.offset + 1)
            moved[record.partition] = handled[record.partition]
        }
        guard !moved.isEmpty else { return }
        // A commit that the group refuses, because it is changing, is made again by whoever has the partition next.
        _ = await reader.commit(moved.sorted { $0.key < $1.key }.map { LogReader.position($0.key, $0.value) })
    }
}
