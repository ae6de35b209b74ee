import Foundation
import Ports
import Wire

/// A log in memory: for log "push" when the suite is one process, where a crash closes every connection anyway and
/// reconnecting syncs. Records are dropped once every group has consumed them; past its limit it refuses as busy.
///
/// Isolation: the lane of its machine.
public final class MemoryLog: MessageLogStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.
    public let partitions: UInt32
    public let incarnation: UInt64
    private let limit: Int
    private var queues: [RecordQueue]
    private var positions: GroupPositions
    private var bytes = 0
    private var readTurn = 0

    /// - Parameter limit: bytes of records that some group has not consumed yet.
    public init(partitions: UInt32, incarnation: UInt64, limit: Int) {
        self.partitions = partitions
        self.incarnation = incarnation
        self.limit = limit
        queues = (0..<partitions).map { _ in RecordQueue(start: 0) }
        positions = GroupPositions(partitions: Int(partitions))
    }

    public func append(_ entries: [LogEntry]) -> [LogAppendResult] {
        entries.map { entry in
            var result = LogAppendResult()
            let cost = entry.record.count + TailCache.overhead
            guard bytes + cost <= limit else {
                result.failure = Failure(.busy, "\(limit) bytes of records wait for their consumers")
                return result
            }
            bytes += cost
            result.offset = queues[Int(entry.partition)].end
            queues[Int(entry.partition)].append(entry.record)
            return result
        }
    }

    public func range(of partition: UInt32) -> (start: UInt64, end: UInt64) {
        (queues[Int(partition)].start, queues[Int(partition)].end)
    }

    public func read(_ wanted: [LogPosition], maxBytes: Int) throws(Failure) -> [LogEntry] {
        var out: [LogEntry] = []
        var budget = maxBytes
        readTurn &+= 1
        let turn = wanted.isEmpty ? 0 : readTurn % wanted.count
        for position in wanted[turn...] + wanted[..<turn] {
            guard position.partition < partitions else {
                throw Failure(.malformedRequest, "there is no partition \(position.partition)")
            }
            let queue = queues[Int(position.partition)]
            if position.offset < queue.start {
                throw Failure(.notFound, "partition \(position.partition) is kept from offset \(queue.start) only")
            }
            if position.offset > queue.end {
                throw Failure(
                    .limitExceeded,
                    "partition \(position.partition) ends at \(queue.end), before offset \(position.offset): "
                        + "the log has lost records"
                )
            }
            if budget > 0 { queue.take(position.partition, from: position.offset, budget: &budget, into: &out) }
        }
        return out
    }

    public func committed(_ group: String) -> [UInt32: UInt64] { positions.committed(group) }

    public func commit(_ group: String, _ moved: [LogPosition]) {
        for position in moved where position.partition < partitions {
            positions.commit(group, position.partition, position.offset)
            guard let lowest = positions.lowest(Int(position.partition)) else { continue }
            while queues[Int(position.partition)].start < lowest,
                let old = queues[Int(position.partition)].removeFirst()
            {
                bytes -= old.count + TailCache.overhead
            }
        }
    }

    public func saveCommitted() throws(Failure) {}
    public func dropExpired(nowMS: UInt64) throws(Failure) -> Int { 0 }
}
