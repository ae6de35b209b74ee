/// Where a key lives: CRC16 (XMODEM) of its tag, or of the whole key, modulo 16,384 - the rule of Redis Cluster, which
/// the shards of this adapter use as well, so that the same keys work in both.
public enum RedisSlot {
    public static let count = 16_384

    /// The slot of a key.
    public static func of(_ key: [UInt8]) -> UInt16 { crc16(tag(of: key)) % UInt16(count) }

    /// The slot of a key.
    public static func of(_ key: String) -> UInt16 { of(Array(key.utf8)) }

    /// What is hashed: the bytes between the first `{` and the next `}`, when there are any.
    static func tag(of key: [UInt8]) -> ArraySlice<UInt8> {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")),
            let close = key[(open + 1)...].firstIndex(of: UInt8(ascii: "}")), close > open + 1
        else { return key[...] }
        return key[(open + 1)..<close]
    }

    static func crc16(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        var crc: UInt16 = 0
        for byte in bytes {
            crc ^= UInt16(byte) << 8
            for _ in 0..<8 { crc = crc & 0x8000 == 0 ? crc << 1 : (crc << 1) ^ 0x1021 }
        }
        return crc
    }
}

/// The tags of a store's partitions. Everything that one script touches has one tag, so partitions are the grains that
/// shards share out; their slots lie evenly over all slots, so that even shards hold evenly many.
///
/// The tags are part of the stored format: for a count they never change.
public struct PartitionTags: Sendable, Equatable {
    /// One short decimal number per partition.
    public let tags: [String]
    /// The slot of each.
    public let slots: [UInt16]

    /// - Parameter count: a power of two, at most 4,096; what is not is rounded down to one.
    public init(count: Int) {
        var size = 1
        while size * 2 <= min(count, 4096) { size *= 2 }
        let width = RedisSlot.count / size
        var tags = [String](repeating: "", count: size)
        var slots = [UInt16](repeating: 0, count: size)
        var missing = size
        var number = 0
        // The first number whose slot lies in a partition's part of the slots is its tag.
        while missing > 0 {
            let tag = String(number)
            number += 1
            let slot = RedisSlot.of(tag)
            let partition = Int(slot) / width
            guard tags[partition].isEmpty else { continue }
            tags[partition] = tag
            slots[partition] = slot
            missing -= 1
        }
        self.tags = tags
        self.slots = slots
    }

    public var count: Int { tags.count }
}
