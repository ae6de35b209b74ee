import Foundation
import Ports
import Wire

/// A log in memory whose appends are durable at once and whose group positions are durable when they are saved, as in
/// the segment files. Trouble fails appends from some entry of a partition on, one half of them after writing.
///
/// Isolation: none; a simulation has one thread.
public final class SimulatedLogStore: MessageLogStore, @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    public let partitions: UInt32
    public private(set) var incarnation: UInt64
    /// For tests of the checker: what was appended since the positions were last saved does not survive a crash, as
    /// on a disk that is never told to write.
    public var forgetsUnsaved = false
    /// Told of every move of a group's position.
    var onCommit: ((_ group: String, _ moved: [LogPosition]) -> Void)?
    private let trouble: StoreTrouble
    private var records: [[Data]]
    /// What was held before the log began anew.
    private var bygone: [[Data]]
    private var positions: [String: [UInt32: UInt64]] = [:]
    private var savedPositions: [String: [UInt32: UInt64]] = [:]
    private var savedEnds: [Int]
    private var turn = 0

    public init(partitions: UInt32, incarnation: UInt64 = 7, trouble: StoreTrouble = StoreTrouble()) {
        self.partitions = partitions
        self.incarnation = incarnation
        self.trouble = trouble
        self.records = Array(repeating: [], count: Int(partitions))
        self.bygone = self.records
        self.savedEnds = Array(repeating: 0, count: Int(partitions))
    }

    // MARK: For the simulation

    /// The process has ended and is started again.
    public func crash() {
        positions = savedPositions
        guard forgetsUnsaved else { return }
        for partition in records.indices {
            records[partition].removeLast(max(0, records[partition].count - savedEnds[partition]))
        }
    }

    /// A log that lived in memory has lost its process: another log takes its place.
    public func startAnew() {
        incarnation += 1
        for partition in records.indices { bygone[partition] += records[partition] }
        records = Array(repeating: [], count: Int(partitions))
        savedEnds = Array(repeating: 0, count: Int(partitions))
        positions = [:]
        savedPositions = [:]
    }

    /// The same records without any group, for a replay.
    public func forReplay() -> SimulatedLogStore {
        let copy = SimulatedLogStore(partitions: partitions, incarnation: incarnation)
        copy.records = records
        return copy
    }

    /// Everything that a partition holds.
    public func entries(_ partition: UInt32) -> [Data] { records[Int(partition)] }

    /// Whether a partition holds such a record, newest first, or held one before the log began anew.
    func everHeld(_ partition: UInt32, _ isWanted: (Data) -> Bool) -> Bool {
        records[Int(partition)].reversed().contains(where: isWanted) || bygone[Int(partition)].contains(where: isWanted)
    }

    /// Whether the group has passed everything.
    public func isConsumed(by group: String) -> Bool {
        let passed = positions[group] ?? [:]
        return (0..<partitions).allSatisfy { (passed[$0] ?? 0) == UInt64(records[Int($0)].count) }
    }

    // MARK: MessageLogStore

    public func append(_ entries: [LogEntry]) -> [LogAppendResult] {
        var broken: Set<UInt32> = []
        return entries.map { entry in
            var result = LogAppendResult()
            if broken.contains(entry.partition) {
                result.failure = Failure(.storeUnavailable, "an earlier entry of the partition failed")
                return result
            }
            let fails = trouble.strikes()
            if fails { broken.insert(entry.partition) }
            if fails, trouble.coin() {
                result.failure = Failure(.storeUnavailable, "the disk said no")
                return result
            }
            result.offset = UInt64(records[Int(entry.partition)].count)
            records[Int(entry.partition)].append(entry.record)
            result.unknown = fails
            return result
        }
    }

    public func range(of partition: UInt32) -> (start: UInt64, end: UInt64) {
        (0, UInt64(records[Int(partition)].count))
    }

    public func read(_ wanted: [LogPosition], maxBytes: Int) throws(Failure) -> [LogEntry] {
        for position in wanted {
            guard position.partition < partitions else {
                throw Failure(.malformedRequest, "there is no partition \(position.partition)")
            }
            guard position.offset <= range(of: position.partition).end else {
                throw Failure(.limitExceeded, "partition \(position.partition) ends before \(position.offset)")
            }
        }
        try trouble.strike()
        guard !wanted.isEmpty else { return [] }
        turn = (turn + 1) % wanted.count
        var found: [LogEntry] = []
        var left = maxBytes
        for position in wanted[turn...] + wanted[..<turn] {
            var offset = position.offset
            while left > 0, offset < range(of: position.partition).end {
                var entry = LogEntry()
                entry.partition = position.partition
                entry.offset = offset
                entry.record = records[Int(position.partition)][Int(offset)]
                left -= entry.record.count
                offset += 1
                found.append(entry)
            }
        }
        return found
    }

    public func committed(_ group: String) -> [UInt32: UInt64] { positions[group] ?? [:] }

    public func commit(_ group: String, _ moved: [LogPosition]) {
        onCommit?(group, moved)
        for position in moved where position.partition < partitions {
            let known = positions[group]?[position.partition] ?? 0
            positions[group, default: [:]][position.partition] = max(known, position.offset)
        }
    }

    public func saveCommitted() throws(Failure) {
        try trouble.strike()
        savedPositions = positions
        savedEnds = records.map(\.count)
    }

    public func dropExpired(nowMS: UInt64) throws(Failure) -> Int { 0 }
}
