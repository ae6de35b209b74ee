import Machinery
import RPC
import Wire

/// Group offsets on their way to the log: one call at a time.
struct OffsetCommits {
    /// Buckets whose `delivered` the log does not know.
    var dirty: Set<UInt32> = []
    var inFlight = false
    /// A retry timer is running.
    var waiting = false
    var backoff: Backoff

    init(config: MsgWriterConfig) {
        self.backoff = Backoff(firstMS: config.retryFirstMS, mostMS: config.retryMostMS)
    }

    mutating func again(_ buckets: [UInt32]) { dirty.formUnion(buckets) }
}

extension MsgWriterMachine {
    /// One of the callees has confirmed all that a unit had for it.
    mutating func confirm(_ unit: UInt64) {
        guard let number = unitBucket[unit],
            let place = buckets[number]?.units.firstIndex(where: { $0.id == unit })
        else { return }
        buckets[number]?.units[place].remaining -= 1
        if place == 0 { advance(number) }
    }

    /// Moves `delivered` over the units at the front that are confirmed.
    mutating func advance(_ number: UInt32) {
        while let unit = buckets[number]?.units.first, unit.remaining == 0 {
            let delivered = max(unit.offset, buckets[number]?.delivered ?? 0)
            buckets[number]?.units.removeFirst()
            unitBucket[unit.id] = nil
            buckets[number]?.delivered = delivered
            buckets[number]?.heldRecords -= unit.records
            buckets[number]?.heldBytes -= unit.bytes
            heldRecords -= unit.records
            heldBytes -= unit.bytes
            offsets.dirty.insert(number)
        }
    }

    mutating func commitOffsets() -> [Action] {
        guard !offsets.inFlight, !offsets.waiting, !offsets.dirty.isEmpty else { return [] }
        var body = LogCommit()
        body.log = config.log
        body.group = config.group
        body.member = config.instance
        body.generation = membership.generation
        body.positions = offsets.dirty.sorted().compactMap { number in
            guard let bucket = buckets[number], bucket.delivered > bucket.committed else { return nil }
            var position = LogPosition()
            position.partition = number
            position.offset = bucket.delivered
            return position
        }
        offsets.dirty = []
        guard !body.positions.isEmpty else { return [] }
        offsets.inFlight = true
        return [ask(.any(.messageLog), .logCommit(body), .offsets(body.positions))]
    }

    /// A refusal means that the generation is over or the log is not there; either way the next fetch tells which,
    /// and what is still ours is committed again.
    mutating func committedOffsets(_ positions: [LogPosition], _ result: CallResult) -> [Action] {
        offsets.inFlight = false
        if case .answered(.done(let done)) = result, !done.failures.contains(where: { $0.code != 0 }) {
            offsets.backoff.reset()
            for position in positions {
                guard let committed = buckets[position.partition]?.committed else { continue }
                buckets[position.partition]?.committed = max(committed, position.offset)
            }
            return []
        }
        offsets.again(positions.map(\.partition))
        offsets.waiting = true
        return [.timer(Alarm.offsets, afterMS: UInt32(offsets.backoff.nextMS(using: &random)))]
    }
}
