import Crypto

/// The key under which a message is recognized when it is sent again: its client_msg_id and a hash of who sent what.
/// The same id with other content is another message. Part of the stored format: never change it.
public enum MessageDedup {
    /// 16 bytes of id, 16 of SHA-256.
    public static let byteCount = 32
    private static let hashBytes = 16

    /// The key of a message; nil when the encoded ChatMessage cannot be read.
    ///
    /// - Parameters:
    ///   - clientMsgID: 16 bytes; the caller has checked it.
    ///   - message: the encoded ChatMessage. Only what the client chose is hashed (kind, content, target_seq), not the
    ///     time it was taken, so that a resend has the same key.
    public static func key(
        sender: String, device: String, clientMsgID: some Collection<UInt8>, message: UnsafeRawBufferPointer
    ) -> [UInt8]? {
        guard let chosen = ChosenContent(message) else { return nil }
        var head: [UInt8] = []
        head.reserveCapacity(32 + 2 * NameRule.maxBytes)
        for name in [sender, device] {
            append(UInt64(name.utf8.count), to: &head)
            head += name.utf8
        }
        append(chosen.kind, to: &head)
        append(chosen.target, to: &head)
        var hash = SHA256()
        head.withUnsafeBytes { hash.update(bufferPointer: $0) }
        hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: message[chosen.content]))
        var key: [UInt8] = []
        key.reserveCapacity(byteCount)
        key += clientMsgID
        hash.finalize().withUnsafeBytes { key += $0.prefix(hashBytes) }
        return key
    }

    private static func append(_ number: UInt64, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
    }

    /// The key of a placeholder: its log record and place, so that looking it up again finds it.
    public static func placeholderKey(record: [UInt8], offset: UInt64) -> [UInt8] {
        var hash = SHA256()
        update(&hash, length: offset)
        hash.update(data: record)
        return [UInt8](repeating: 0, count: byteCount - hashBytes) + hash.finalize().prefix(hashBytes)
    }

    private static func update(_ hash: inout SHA256, length: UInt64) {
        withUnsafeBytes(of: length.littleEndian) { hash.update(bufferPointer: $0) }
    }
}

/// The fields of an encoded ChatMessage that its client chose, found without decoding the rest or copying the content.
struct ChosenContent {
    private(set) var kind: UInt64 = 0
    private(set) var content = 0..<0
    private(set) var target: UInt64 = 0

    /// Nil when the bytes are not a protobuf message.
    init?(_ bytes: UnsafeRawBufferPointer) {
        var position = 0
        while position < bytes.count {
            guard let tag = Self.varint(bytes, &position), tag >> 3 != 0 else { return nil }
            switch (tag >> 3, tag & 7) {
            case (let field, 0):
                guard let value = Self.varint(bytes, &position) else { return nil }
                if field == 4 { kind = value }
                if field == 8 { target = value }
            case (let field, 2):
                guard let length = Self.varint(bytes, &position), length <= UInt64(bytes.count - position) else {
                    return nil
                }
                let end = position + Int(length)
                if field == 5 { content = position..<end }
                position = end
            case (_, 1): position += 8
            case (_, 5): position += 4
            default: return nil
            }
        }
        if position > bytes.count { return nil }
    }

    private static func varint(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < bytes.count, shift < 64 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        return nil
    }
}
