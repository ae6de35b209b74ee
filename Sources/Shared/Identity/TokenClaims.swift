/// A signing key of an app. The secret never leaves the server side.
public struct TokenKey: Sendable, Equatable {
    public var id: String
    public var secret: [UInt8]
    /// A retired key signs nothing any more and its tokens are refused.
    public var retired: Bool

    public init(id: String, secret: [UInt8], retired: Bool = false) {
        self.id = id
        self.secret = secret
        self.retired = retired
    }
}

/// What a user token says. Times are Unix seconds.
public struct TokenClaims: Sendable, Equatable {
    public var appID: String
    public var userID: String
    public var expiresAt: UInt64
    /// 0: not said.
    public var issuedAt: UInt64
    /// 0: not said.
    public var notBefore: UInt64
    /// The user's token epoch when it was issued; a revocation raises the user's, and lower tokens are refused.
    public var epoch: UInt64

    public init(
        appID: String, userID: String, expiresAt: UInt64, issuedAt: UInt64 = 0, notBefore: UInt64 = 0, epoch: UInt64 = 0
    ) {
        self.appID = appID
        self.userID = userID
        self.expiresAt = expiresAt
        self.issuedAt = issuedAt
        self.notBefore = notBefore
        self.epoch = epoch
    }
}

/// Each way in which a token can be wrong by itself. That its app is unknown or suspended, or that the user's tokens
/// were revoked, is known only to those who ask the stores.
public enum TokenError: Error, Sendable, Equatable {
    /// Not a JWT with the claims that are required; says what is missing.
    case malformed(String)
    /// Signed in another way than HS256, or not at all ("none").
    case wrongAlgorithm(String)
    /// The app has no such key, or has retired it.
    case unknownKey(String)
    case badSignature
    case expired
    case notYetValid
}

/// The sizes of tokens.
public enum TokenLimits {
    /// Longest token accepted, in bytes.
    public static let maxBytes = 4096
    /// How far ahead of us another server's clock may be, in seconds.
    public static let clockSkewSeconds: UInt64 = 30
    /// Shortest secret that a key may have: as long as the hash (RFC 7518, section 3.2).
    public static let minSecretBytes = 32
    /// Largest time taken, in seconds: the year 9999. Keeps arithmetic on hostile claims from overflowing.
    public static let maxSeconds: UInt64 = 253_402_300_799
}

/// Base64 with the URL alphabet and without padding (RFC 4648, section 5), as JWTs use it.
enum Base64URL {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var out: [UInt8] = []
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for byte in bytes {
            bits = (bits << 8 | UInt32(byte)) & 0xffff
            count += 8
            while count >= 6 {
                count -= 6
                out.append(alphabet[Int(bits >> count & 0x3f)])
            }
        }
        if count > 0 { out.append(alphabet[Int(bits << (6 - count) & 0x3f)]) }
        return String(decoding: out, as: UTF8.self)
    }

    /// Nil for another alphabet, padding, an impossible length, or left-over bits that are not zero.
    static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        guard text.count % 4 != 1 else { return nil }
        var out: [UInt8] = []
        out.reserveCapacity(text.count * 3 / 4)
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for character in text {
            guard let value = value(character) else { return nil }
            bits = (bits << 6 | value) & 0x3fff
            count += 6
            if count >= 8 {
                count -= 8
                out.append(UInt8(truncatingIfNeeded: bits >> count))
            }
        }
        return bits & ((1 << count) - 1) == 0 ? out : nil
    }

    private static func value(_ character: UInt8) -> UInt32? {
        switch character {
        case 0x41...0x5a: UInt32(character) - 0x41
        case 0x61...0x7a: UInt32(character) - 0x61 + 26
        case 0x30...0x39: UInt32(character) - 0x30 + 52
        case 0x2d: 62
        case 0x5f: 63
        default: nil
        }
    }
}
