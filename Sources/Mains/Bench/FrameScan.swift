/// Reads the few fields of a body that the bench needs, and nothing else: a full decode would cost more than the rest
/// of the generator.
enum FrameScan {
    /// The big-endian number after the type byte: request id or push id. 0 when the frame is too short.
    static func number(_ frame: UnsafeRawBufferPointer) -> UInt32 {
        guard frame.count >= 5 else { return 0 }
        return UInt32(bigEndian: frame.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
    }

    /// The client_msg_id of a PUSH frame (PushedMessage.message, ChatMessage.client_msg_id): its place in the frame.
    static func messageID(push frame: UnsafeRawBufferPointer) -> Range<Int>? {
        guard frame.count >= 5, let message = field(5, frame, 5..<frame.count), let id = field(3, frame, message),
            id.count == 16
        else {
            return nil
        }
        return id
    }

    /// Whether the first result of a RESPONSE to a send is "accepted".
    static func accepted(response frame: UnsafeRawBufferPointer) -> Bool {
        guard frame.count >= 5, let result = field(1, frame, 5..<frame.count), result.count >= 2 else { return false }
        return frame[result.lowerBound] == 1 << 3 && frame[result.lowerBound + 1] == 1
    }

    /// The place of a length-delimited field's bytes; nil when it is not there or the bytes are no message.
    static func field(_ wanted: UInt64, _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> Range<Int>? {
        var at = range.lowerBound
        let end = range.upperBound
        while at < end {
            guard let tag = varint(bytes, &at, end) else { return nil }
            switch tag & 7 {
            case 0: guard varint(bytes, &at, end) != nil else { return nil }
            case 1: at += 8
            case 2:
                guard let length = varint(bytes, &at, end), length <= UInt64(end - at) else { return nil }
                if tag >> 3 == wanted { return at..<(at + Int(length)) }
                at += Int(length)
            case 5: at += 4
            default: return nil
            }
        }
        return nil
    }

    private static func varint(_ bytes: UnsafeRawBufferPointer, _ at: inout Int, _ end: Int) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while at < end, shift < 64 {
            let byte = bytes[at]
            at += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        return nil
    }
}
