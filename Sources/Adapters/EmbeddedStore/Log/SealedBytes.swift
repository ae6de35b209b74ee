/// Writes the log's small files (meta, segment header, index, positions): a magic word, the fields, little-endian,
/// and a CRC-32C at the end.
struct SealedWriter {
    private(set) var bytes: [UInt8] = []

    init(magic: UInt32) { put(magic) }

    mutating func put<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ values: [UInt64]) {
        for value in values { put(value) }
    }

    mutating func put(_ text: String) {
        put(UInt32(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    /// The bytes with their checksum.
    consuming func sealed() -> [UInt8] {
        let crc = bytes.withUnsafeBytes { Crc32c.of($0) }
        put(crc)
        return bytes
    }
}

/// Reads what `SealedWriter` wrote. A field beyond the end is nil.
struct SealedReader {
    private let bytes: [UInt8]
    private var position = 0
    private let end: Int

    /// Nil when the bytes are not whole or not of that kind.
    init?(_ bytes: [UInt8], magic: UInt32) {
        guard bytes.count >= 8 else { return nil }
        end = bytes.count - 4
        self.bytes = bytes
        let stored = bytes.withUnsafeBytes { raw in
            UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: raw.count - 4, as: UInt32.self))
        }
        let found = bytes.withUnsafeBytes { Crc32c.of(UnsafeRawBufferPointer(rebasing: $0.dropLast(4))) }
        guard stored == found, let first: UInt32 = number(), first == magic else { return nil }
    }

    mutating func number<T: FixedWidthInteger>(_: T.Type = T.self) -> T? {
        let width = MemoryLayout<T>.size
        guard position + width <= end else { return nil }
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: position, as: T.self) }
        position += width
        return T(littleEndian: value)
    }

    mutating func numbers(_ count: Int) -> [UInt64]? {
        guard count >= 0, count <= (end - position) / 8 else { return nil }
        var values: [UInt64] = []
        values.reserveCapacity(count)
        for _ in 0..<count {
            guard let value: UInt64 = number() else { return nil }
            values.append(value)
        }
        return values
    }

    mutating func text() -> String? {
        guard let count: UInt32 = number(), Int(count) <= end - position else { return nil }
        let slice = bytes[position..<position + Int(count)]
        position += Int(count)
        return String(validating: slice, as: UTF8.self)
    }
}
