import Ports
import Wire

/// What is known about a segment without opening it.
struct Segment: Sendable {
    let number: UInt64
    /// First and next offset of every partition.
    let starts: [UInt64]
    var ends: [UInt64]
    /// Bytes that are durable, header included.
    var bytes: Int
    /// Unix milliseconds of the last append, at the latest.
    var lastMS: UInt64
}

/// Names, header and index of segment files. One number in the name, so that sorting by name sorts by age.
enum SegmentFormat {
    static let headerMagic: UInt32 = 0x4745_534d
    static let indexMagic: UInt32 = 0x5844_494d
    static let version: UInt16 = 1

    static func name(_ number: UInt64) -> String { pad(number) + ".seg" }
    static func indexName(_ number: UInt64) -> String { pad(number) + ".idx" }

    private static func pad(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 12 - digits.count)) + digits
    }

    /// The number in a segment's file name.
    static func number(_ name: String, _ ending: String) -> UInt64? {
        name.hasSuffix(ending) ? UInt64(name.dropLast(ending.count)) : nil
    }

    static func headerBytes(partitions: Int) -> Int { 30 + 8 * partitions }

    /// Checksums of records start from this: a record that a client put into its message's content, or one left over
    /// from another segment, never looks valid.
    static func seed(_ incarnation: UInt64, _ number: UInt64) -> UInt32 {
        let word = (incarnation ^ number &* 0x9e37_79b9_7f4a_7c15) &* 0xff51_afd7_ed55_8ccd
        return UInt32(truncatingIfNeeded: word >> 32)
    }

    static func header(_ incarnation: UInt64, _ number: UInt64, starts: [UInt64]) -> [UInt8] {
        var writer = SealedWriter(magic: headerMagic)
        writer.put(version)
        writer.put(incarnation)
        writer.put(number)
        writer.put(UInt32(starts.count))
        writer.put(starts)
        return writer.sealed()
    }

    /// The starts in a header; nil when it is not the header of that segment.
    static func starts(_ bytes: [UInt8], _ incarnation: UInt64, _ number: UInt64, partitions: Int) -> [UInt64]? {
        guard var reader = SealedReader(bytes, magic: headerMagic), reader.number(UInt16.self) == version,
            reader.number(UInt64.self) == incarnation, reader.number(UInt64.self) == number,
            reader.number(UInt32.self) == UInt32(partitions)
        else { return nil }
        return reader.numbers(partitions)
    }

    static func index(_ segment: Segment, _ sparse: SparseIndex, incarnation: UInt64) -> [UInt8] {
        var writer = SealedWriter(magic: indexMagic)
        writer.put(version)
        writer.put(incarnation)
        writer.put(segment.number)
        writer.put(UInt64(segment.bytes))
        writer.put(segment.lastMS)
        writer.put(UInt32(segment.starts.count))
        writer.put(segment.starts)
        writer.put(segment.ends)
        writer.put(UInt32(sparse.positions.count))
        writer.put(sparse.positions)
        writer.put(sparse.nexts)
        return writer.sealed()
    }

    /// Reads an index; nil when it is not whole or belongs to another segment.
    static func readIndex(
        _ bytes: [UInt8], _ incarnation: UInt64, _ number: UInt64, partitions: Int
    ) -> (Segment, SparseIndex)? {
        guard var reader = SealedReader(bytes, magic: indexMagic), reader.number(UInt16.self) == version,
            reader.number(UInt64.self) == incarnation, reader.number(UInt64.self) == number,
            let size = reader.number(UInt64.self), let lastMS = reader.number(UInt64.self),
            reader.number(UInt32.self) == UInt32(partitions), let starts = reader.numbers(partitions),
            let ends = reader.numbers(partitions), let blocks = reader.number(UInt32.self),
            let positions = reader.numbers(Int(blocks)), let nexts = reader.numbers(Int(blocks) * partitions),
            let sparse = SparseIndex(partitions: partitions, positions: positions, nexts: nexts)
        else { return nil }
        return (Segment(number: number, starts: starts, ends: ends, bytes: Int(size), lastMS: lastMS), sparse)
    }
}
