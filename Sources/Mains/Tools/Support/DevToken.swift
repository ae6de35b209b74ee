import Crypto
import Foundation

/// Issues user tokens the way an app's server does: JWT, HS256, `kid` in the header.
public struct DevToken: Sendable {
    public let app: String
    public let keyID: String
    private let secret: SymmetricKey

    /// - Parameters:
    ///   - app: the app's id, claim `app`.
    ///   - keyID: which of the app's keys, header `kid`.
    ///   - secret: the key's bytes.
    public init(app: String, keyID: String, secret: [UInt8]) {
        self.app = app
        self.keyID = keyID
        self.secret = SymmetricKey(data: secret)
    }

    private struct Header: Encodable {
        var alg = "HS256"
        var typ = "JWT"
        var kid: String
    }

    private struct Claims: Encodable {
        var app: String
        var sub: String
        var iat: UInt64
        var exp: UInt64
        var te: UInt64
    }

    /// A token for a user.
    ///
    /// - Parameters:
    ///   - nowSeconds: Unix seconds, claim `iat`.
    ///   - lifetimeSeconds: `exp` is `iat` plus this.
    ///   - epoch: the user's token epoch, claim `te`.
    public func issue(user: String, nowSeconds: UInt64, lifetimeSeconds: UInt64 = 86_400, epoch: UInt64 = 0) throws
        -> String
    {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let claims = Claims(
            app: app, sub: user, iat: nowSeconds, exp: nowSeconds + lifetimeSeconds, te: epoch)
        let head = Self.base64URL(try encoder.encode(Header(kid: keyID)))
        let signed = head + "." + Self.base64URL(try encoder.encode(claims))
        let signature = HMAC<SHA256>.authenticationCode(for: Data(signed.utf8), using: secret)
        return signed + "." + Self.base64URL(Data(signature))
    }

    static func base64URL(_ data: Data) -> String {
        data.base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
            .replacingOccurrences(of: "=", with: "")
    }
}
