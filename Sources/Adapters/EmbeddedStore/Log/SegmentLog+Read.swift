import Foundation
import Wire

extension SegmentLog {
    /// Bytes of segments that one call looks through after it has found a record of the partition that it looked for.
    private static var scanBytes: Int { 4 << 20 }

    public func read(_ positions: [LogPosition], maxBytes: Int) throws(Failure) -> [LogEntry] {
        var out: [LogEntry] = []
        var budget = maxBytes
        var cold: [LogPosition] = []
        readTurn &+= 1
        let turn = positions.isEmpty ? 0 : readTurn % positions.count
        let rotated = positions[turn...] + positions[..<turn]
        for position in rotated {
            try check(position)
            if !tail.covers(position.partition, position.offset) { cold.append(position) }
        }
        if !cold.isEmpty {
            // Half for those who are behind, so that neither they nor the others starve.
            let share = cold.count == positions.count ? maxBytes : maxBytes / 2
            var left = share
            try readCold(cold, budget: &left, into: &out)
            budget -= share - left
        }
        for position in rotated where tail.covers(position.partition, position.offset) {
            guard budget > 0 || out.isEmpty else { break }
            tail.take(position.partition, from: position.offset, budget: &budget, into: &out)
        }
        return out
    }

    private func check(_ position: LogPosition) throws(Failure) {
        guard position.partition < partitions else {
            throw Failure(.malformedRequest, "there is no partition \(position.partition)")
        }
        let range = range(of: position.partition)
        if position.offset < range.start {
            throw Failure(.notFound, "partition \(position.partition) is kept from offset \(range.start) only")
        }
        if position.offset > range.end {
            throw Failure(
                .limitExceeded,
                "partition \(position.partition) ends at \(range.end), before offset \(position.offset): "
                    + "the log has lost records"
            )
        }
    }

    /// The segment that holds a record: its place in `sealed`, or `sealed.count` for the active one.
    private func segment(of position: LogPosition) -> Int {
        var low = 0
        var high = sealed.count
        while low < high {
            let middle = (low + high) / 2
            if sealed[middle].ends[Int(position.partition)] <= position.offset {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }

    /// Goes through the files from the place of the furthest behind on, and gives every wanted partition its records
    /// on the way; partitions that were not met get a pass of their own.
    private func readCold(_ cold: [LogPosition], budget: inout Int, into out: inout [LogEntry]) throws(Failure) {
        var next: [UInt32: UInt64] = [:]
        for position in cold { next[position.partition] = position.offset }
        let first = next
        for position in cold where next[position.partition] == first[position.partition] {
            if budget <= 0 && !out.isEmpty { return }
            var index = segment(of: position)
            var place = try startPlace(index, position)
            var looked = 0
            while index <= sealed.count, looked < Self.scanBytes, budget > 0 || out.isEmpty {
                let isSealed = index < sealed.count
                var stopped = false
                try reader.scan(isSealed ? sealed[index] : active, sealed: isSealed, from: place) { frame, raw in
                    if next[frame.partition] == frame.offset {
                        next[frame.partition] = frame.offset + 1
                        var entry = LogEntry()
                        entry.partition = frame.partition
                        entry.offset = frame.offset
                        entry.record = Data(UnsafeRawBufferPointer(rebasing: raw[frame.body]))
                        budget -= entry.record.count
                        out.append(entry)
                    }
                    let found = next[position.partition] != position.offset
                    if found { looked += LogRecordFrame.headerBytes + frame.body.count }
                    stopped = found && (budget <= 0 || looked >= Self.scanBytes)
                    return !stopped
                }
                if stopped { break }
                index += 1
                place = reader.firstRecord
            }
        }
    }

    private func startPlace(_ index: Int, _ position: LogPosition) throws(Failure) -> Int {
        if index < sealed.count { return try reader.place(sealed[index], position.partition, position.offset) }
        return activeIndex.place(position.partition, position.offset) ?? reader.firstRecord
    }
}
