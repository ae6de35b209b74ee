import Foundation

/// How far each bucket's changes were seen, as clients carry it around: a tag, then pairs of bucket and number, each a
/// varint. Buckets that are not named were not seen at all.
struct HeadMarks: Equatable, Sendable {
    private(set) var numbers: [UInt32: UInt64] = [:]
    /// A store of another kind gives out marks of another form; from those, everything has changed.
    private static let tag: UInt8 = 0x4d

    init() {}

    init(_ bytes: Data) {
        var rest = bytes[...]
        guard rest.popFirst() == Self.tag else { return }
        var found: [UInt32: UInt64] = [:]
        while !rest.isEmpty {
            guard let bucket = Self.number(&rest), let number = Self.number(&rest), bucket <= UInt64(UInt32.max) else {
                return
            }
            found[UInt32(bucket)] = number
        }
        numbers = found
    }

    var isEmpty: Bool { numbers.isEmpty }

    subscript(bucket: UInt32) -> UInt64 {
        get { numbers[bucket] ?? 0 }
        set { numbers[bucket] = newValue }
    }

    /// Newer numbers for some of the buckets.
    mutating func merge(_ other: HeadMarks) { numbers.merge(other.numbers) { $1 } }

    var data: Data {
        var bytes = Data([Self.tag])
        for bucket in numbers.keys.sorted() {
            Self.append(UInt64(bucket), to: &bytes)
            Self.append(self[bucket], to: &bytes)
        }
        return bytes
    }

    private static func append(_ number: UInt64, to bytes: inout Data) {
        var rest = number
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    private static func number(_ bytes: inout Data) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while shift < 64, let byte = bytes.popFirst() {
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        return nil
    }
}
