/// CRC-32C (Castagnoli), eight bytes at a time (Kounavis and Berry, "Novel table lookup-based algorithms for
/// high-performance CRC generation", 2008).
enum Crc32c {
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for index in 0..<256 {
            var value = UInt32(index)
            for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ 0x82f6_3b78 : value >> 1 }
            tables[index] = value
        }
        for index in 0..<256 {
            for slice in 1..<8 {
                let below = tables[(slice - 1) * 256 + index]
                tables[slice * 256 + index] = (below >> 8) ^ tables[Int(below & 0xff)]
            }
        }
        return tables
    }()

    /// Checksum of the bytes; `seed` makes checksums of different files differ.
    static func of(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
        tables.withUnsafeBufferPointer { table in
            var crc = ~seed
            var position = 0
            while position + 8 <= bytes.count {
                let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
                let low = UInt32(truncatingIfNeeded: word) ^ crc
                let high = UInt32(truncatingIfNeeded: word >> 32)
                crc = table[1792 + Int(low & 0xff)] ^ table[1536 + Int(low >> 8 & 0xff)]
                crc ^= table[1280 + Int(low >> 16 & 0xff)] ^ table[1024 + Int(low >> 24)]
                crc ^= table[768 + Int(high & 0xff)] ^ table[512 + Int(high >> 8 & 0xff)]
                crc ^= table[256 + Int(high >> 16 & 0xff)] ^ table[Int(high >> 24)]
                position += 8
            }
            while position < bytes.count {
                crc = (crc >> 8) ^ table[Int((crc ^ UInt32(bytes[position])) & 0xff)]
                position += 1
            }
            return ~crc
        }
    }
}
