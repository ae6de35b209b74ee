/// How far each group has consumed each partition. Positions only grow.
struct GroupPositions: Equatable, Sendable {
    static let fileName = "positions"
    static let magic: UInt32 = 0x534f_5053
    static let version: UInt16 = 1
    private static let none = UInt64.max

    let partitions: Int
    private var groups: [String: [UInt64]] = [:]
    /// Moved since the last save.
    private(set) var dirty = false

    init(partitions: Int) { self.partitions = partitions }

    func committed(_ group: String) -> [UInt32: UInt64] {
        var result: [UInt32: UInt64] = [:]
        for (partition, offset) in groups[group, default: []].enumerated() where offset != Self.none {
            result[UInt32(partition)] = offset
        }
        return result
    }

    mutating func commit(_ group: String, _ partition: UInt32, _ offset: UInt64) {
        var positions = groups[group] ?? [UInt64](repeating: Self.none, count: partitions)
        let old = positions[Int(partition)]
        guard old == Self.none || offset > old else { return }
        positions[Int(partition)] = offset
        groups[group] = positions
        dirty = true
    }

    mutating func saved() { dirty = false }

    var isEmpty: Bool { groups.isEmpty }

    /// The lowest position of any group; nil when a group has not committed the partition, or there is no group.
    func lowest(_ partition: Int) -> UInt64? {
        var lowest = Self.none
        for positions in groups.values {
            if positions[partition] == Self.none { return nil }
            lowest = min(lowest, positions[partition])
        }
        return lowest == Self.none ? nil : lowest
    }

    /// A group that has consumed more than the log holds: the log has lost records.
    func beyond(_ ends: [UInt64]) -> (group: String, partition: Int, offset: UInt64)? {
        for (group, positions) in groups.sorted(by: { $0.key < $1.key }) {
            for (partition, offset) in positions.enumerated() where offset != Self.none && offset > ends[partition] {
                return (group, partition, offset)
            }
        }
        return nil
    }

    func bytes(_ incarnation: UInt64) -> [UInt8] {
        var writer = SealedWriter(magic: Self.magic)
        writer.put(Self.version)
        writer.put(incarnation)
        writer.put(UInt32(groups.count))
        for (group, positions) in groups.sorted(by: { $0.key < $1.key }) {
            writer.put(group)
            writer.put(positions)
        }
        return writer.sealed()
    }

    /// Nil when the bytes are damaged or belong to another log.
    init?(_ bytes: [UInt8], incarnation: UInt64, partitions: Int) {
        self.init(partitions: partitions)
        guard var reader = SealedReader(bytes, magic: Self.magic), reader.number(UInt16.self) == Self.version,
            reader.number(UInt64.self) == incarnation, let count = reader.number(UInt32.self)
        else { return nil }
        for _ in 0..<count {
            guard let group = reader.text(), let positions = reader.numbers(partitions) else { return nil }
            groups[group] = positions
        }
    }
}
