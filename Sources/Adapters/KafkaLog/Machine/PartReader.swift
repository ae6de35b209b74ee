import Wire

/// What one member has of one partition: where it is, and what was fetched ahead.
struct PartReader: Sendable {
    let partition: UInt32
    /// The range as the brokers said it last. The end is never below what was handed out.
    var start: UInt64
    var end: UInt64
    /// The group's position.
    var committed: UInt64
    /// The next offset to hand out, and the next one to come.
    private(set) var next: UInt64
    private(set) var tail: UInt64
    /// Of the place that records have to come from.
    var version: UInt64
    var isPaused = false
    /// The broker refused the place: its range has to be asked for.
    var isLost = false
    /// The brokers said that the log ends before it: asked again once a second, for it may be a leader that is new.
    var isBeyond = false
    /// The log was replaced: nothing that is known here is about this one.
    var isForeign = false
    private var ahead: [LogEntry] = []
    private var taken = 0
    private(set) var bytes = 0

    init(_ facts: PartitionFacts, version: UInt64) {
        partition = facts.partition
        start = facts.start
        end = facts.end
        committed = max(facts.start, facts.committed ?? 0)
        // A position beyond the end cannot be read; whoever wants it is told by the end.
        next = min(committed, facts.end)
        tail = next
        self.version = version
    }

    var place: KafkaPlace { KafkaPlace(partition: partition, offset: tail, version: version) }
    var hasRecords: Bool { taken < ahead.count }

    /// Takes what came. Offsets may jump (the log's start went past the place): the member sees the gap.
    mutating func append(_ run: KafkaRun) {
        guard run.version == version else { return }
        for entry in run.entries where entry.offset >= tail {
            ahead.append(entry)
            bytes += entry.record.count
            tail = entry.offset + 1
        }
        end = max(end, run.end, tail)
    }

    /// Goes to the offset that the member wants. False when the consumer has to move there.
    mutating func align(_ offset: UInt64) -> Bool {
        if offset == next { return true }
        if offset > next, offset <= tail {
            var index = taken
            while index < ahead.count, ahead[index].offset < offset {
                bytes -= ahead[index].record.count
                index += 1
            }
            if index == ahead.count || ahead[index].offset == offset {
                taken = index
                next = offset
                compact()
                return true
            }
        }
        forget(at: offset)
        return false
    }

    /// Drops what was fetched ahead; the next record comes from the offset, under another version.
    mutating func forget(at offset: UInt64) {
        next = offset
        tail = offset
        ahead = []
        taken = 0
        bytes = 0
    }

    /// The consumer starts later than the member wants to: what lies between is gone.
    mutating func skip(to offset: UInt64) { tail = max(tail, offset) }

    /// Hands records out while there is budget, at least one when `out` is empty.
    mutating func take(budget: inout Int, into out: inout [LogEntry]) {
        while taken < ahead.count, budget > 0 || out.isEmpty {
            let entry = ahead[taken]
            taken += 1
            bytes -= entry.record.count
            budget -= entry.record.count
            next = entry.offset + 1
            out.append(entry)
        }
        compact()
    }

    private mutating func compact() {
        if taken == ahead.count {
            ahead.removeAll(keepingCapacity: true)
            taken = 0
        } else if taken > 256, taken * 2 > ahead.count {
            ahead.removeFirst(taken)
            taken = 0
        }
    }
}
