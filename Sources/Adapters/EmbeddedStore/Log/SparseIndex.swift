/// For some places in a segment, the next offset of every partition there: enough to start reading close to any record.
struct SparseIndex: Sendable, Equatable {
    private(set) var positions: [UInt64] = []
    /// `partitions` numbers for each position.
    private(set) var nexts: [UInt64] = []
    let partitions: Int

    init(partitions: Int) { self.partitions = partitions }

    init?(partitions: Int, positions: [UInt64], nexts: [UInt64]) {
        guard nexts.count == positions.count * partitions else { return nil }
        self.partitions = partitions
        self.positions = positions
        self.nexts = nexts
    }

    /// Notes a place when it is far enough from the last one.
    mutating func note(_ position: Int, _ ends: [UInt64], every blockBytes: Int) {
        if let last = positions.last, position - Int(last) < blockBytes { return }
        positions.append(UInt64(position))
        nexts += ends
    }

    /// The last noted place before the record; nil when nothing was noted.
    func place(_ partition: UInt32, _ offset: UInt64) -> Int? {
        var low = 0
        var high = positions.count
        while low < high {
            let middle = (low + high) / 2
            if nexts[middle * partitions + Int(partition)] <= offset { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? nil : Int(positions[low - 1])
    }
}
