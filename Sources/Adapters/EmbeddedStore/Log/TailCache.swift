import Foundation
import Wire

/// A queue of records with dense offsets.
struct RecordQueue {
    /// Offset of the first record that is kept.
    private(set) var start: UInt64
    private var records: [Data] = []
    private var head = 0
    /// Dead places in front that are tolerated before the array is moved up.
    private static let slack = 1024

    init(start: UInt64) { self.start = start }

    var end: UInt64 { start + UInt64(records.count - head) }

    mutating func append(_ record: Data) { records.append(record) }

    /// Removes the first record; nil when there is none.
    mutating func removeFirst() -> Data? {
        guard head < records.count else { return nil }
        let record = records[head]
        records[head] = Data()
        head += 1
        start += 1
        if head > Self.slack && head * 2 > records.count {
            records.removeFirst(head)
            head = 0
        }
        return record
    }

    /// Takes records from `offset` while `budget` lasts, at least one.
    func take(_ partition: UInt32, from offset: UInt64, budget: inout Int, into out: inout [LogEntry]) {
        guard offset >= start, offset < end else { return }
        var index = head + Int(offset - start)
        var next = offset
        repeat {
            var entry = LogEntry()
            entry.partition = partition
            entry.offset = next
            entry.record = records[index]
            budget -= entry.record.count
            out.append(entry)
            index += 1
            next += 1
        } while index < records.count && budget > 0
    }
}

/// The newest records of every partition, bounded in bytes over all of them; the oldest goes first.
struct TailCache {
    private var queues: [RecordQueue]
    /// Partition of every kept record, in the order in which they were added.
    private var order: [UInt32] = []
    private var head = 0
    private(set) var bytes = 0
    let limit: Int
    /// What a record costs beside its bytes.
    static let overhead = 48

    init(starts: [UInt64], limit: Int) {
        queues = starts.map(RecordQueue.init(start:))
        self.limit = limit
    }

    mutating func append(_ partition: UInt32, _ record: Data) {
        queues[Int(partition)].append(record)
        order.append(partition)
        bytes += record.count + Self.overhead
        while bytes > limit, head < order.count {
            if let old = queues[Int(order[head])].removeFirst() { bytes -= old.count + Self.overhead }
            head += 1
        }
        if head > 4096 && head * 2 > order.count {
            order.removeFirst(head)
            head = 0
        }
    }

    func covers(_ partition: UInt32, _ offset: UInt64) -> Bool { offset >= queues[Int(partition)].start }

    func take(_ partition: UInt32, from offset: UInt64, budget: inout Int, into out: inout [LogEntry]) {
        queues[Int(partition)].take(partition, from: offset, budget: &budget, into: &out)
    }
}
