/// A client_msg_id: a UUIDv7 (RFC 9562, section 5.7), 16 bytes, whose first 48 bits are Unix milliseconds.
public enum MessageID {
    public static let byteCount = 16
    /// Oldest id that IM takes: one day less than the dedup window, so that a resend always meets its first copy.
    public static let oldestAcceptedMS: UInt64 = 6 * 24 * 3600 * 1000
    /// Furthest ahead of the server's clock that IM takes.
    public static let futureAcceptedMS: UInt64 = 5 * 60 * 1000
    /// How long dedup entries are kept, by the records' times.
    public static let dedupWindowMS: UInt64 = 7 * 24 * 3600 * 1000

    /// Makes an id from a time and two random words.
    public static func make(timeMS: UInt64, random: (UInt64, UInt64)) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        for index in 0..<6 { bytes[index] = UInt8(truncatingIfNeeded: timeMS >> UInt64(40 - 8 * index)) }
        for index in 6..<8 { bytes[index] = UInt8(truncatingIfNeeded: random.0 >> UInt64(8 * (index - 6))) }
        for index in 8..<16 { bytes[index] = UInt8(truncatingIfNeeded: random.1 >> UInt64(8 * (index - 8))) }
        bytes[6] = 0x70 | (bytes[6] & 0x0f)
        bytes[8] = 0x80 | (bytes[8] & 0x3f)
        return bytes
    }

    /// The same of bytes that lie in one piece, as ids on the message path do.
    public static func timeMS(bytes id: UnsafeRawBufferPointer) -> UInt64? {
        guard id.count == byteCount, id[6] >> 4 == 7, id[8] >> 6 == 2 else { return nil }
        return UInt64(bigEndian: id.loadUnaligned(as: UInt64.self)) >> 16
    }

    /// The time in an id; nil when it is not 16 bytes of a version 7 UUID.
    public static func timeMS(_ id: some RandomAccessCollection<UInt8>) -> UInt64? {
        guard id.count == byteCount else { return nil }
        var time: UInt64 = 0
        for byte in id.prefix(6) { time = time << 8 | UInt64(byte) }
        let version = id[id.index(id.startIndex, offsetBy: 6)] >> 4
        let variant = id[id.index(id.startIndex, offsetBy: 8)] >> 6
        return version == 7 && variant == 2 ? time : nil
    }
}
