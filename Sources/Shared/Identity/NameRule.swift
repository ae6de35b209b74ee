// The standard library compares and hashes strings by this normal form, and offers it nowhere else. Foundation's tables
// are of another Unicode version: two names that it takes for different could still be one key in a Dictionary.
@_spi(_Unicode) import Swift

/// What apps may call their users, groups, devices and themselves.
///
/// Names are keys: of dictionaries, where Swift takes two strings for equal when they are canonically equivalent, and
/// of files and hashes, where bytes count. Only one spelling of each is legal (NFC), so that both agree.
public enum NameRule {
    /// Longest user, group, device or app id, in UTF-8 bytes: a pair's id then fits one index page comfortably.
    public static let maxBytes = 64

    /// The rule of `isUser` for error messages: "user_id must be " + this.
    public static let userForm =
        "1 to \(maxBytes) bytes of UTF-8 in normalization form NFC, without spaces, control characters or \"|\""

    /// Users, groups and devices: 1 to 64 bytes of UTF-8 in NFC without control characters, space or `|`.
    public static func isUser(_ name: String) -> Bool {
        var name = name
        return name.withUTF8 { isUser($0) }
    }

    static func isUser(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard !bytes.isEmpty, bytes.count <= maxBytes else { return false }
        var all: UInt8 = 0
        for byte in bytes {
            if byte <= 0x20 || byte == 0x7c || byte == 0x7f { return false }
            all |= byte
        }
        return all < 0x80 || isNormal(bytes)
    }

    /// Whether the text is the only spelling of itself: in normalization form NFC.
    public static func isNormal(_ text: String) -> Bool {
        var text = text
        return text.withUTF8 { bytes in bytes.allSatisfy { $0 < 0x80 } || isNormal(bytes) }
    }

    /// False as well for bytes that are no UTF-8.
    private static func isNormal(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard let text = String(validating: bytes, as: UTF8.self) else { return false }
        return text._nfc.elementsEqual(text.unicodeScalars)
    }

    /// Apps: 1 to 64 of a-z, 0-9, `-` and `_`.
    public static func isApp(_ name: String) -> Bool {
        var name = name
        return name.withUTF8 { bytes in
            guard !bytes.isEmpty, bytes.count <= maxBytes else { return false }
            for byte in bytes {
                let legal =
                    (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2d || byte == 0x5f
                guard legal else { return false }
            }
            return true
        }
    }
}
