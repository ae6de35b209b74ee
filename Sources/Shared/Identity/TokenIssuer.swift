import Crypto
import Foundation

/// Makes user tokens for one app: what an app's own server does, or the API for it.
public struct TokenIssuer: Sendable, Equatable {
    public let appID: String
    public let key: TokenKey

    private struct Header: Encodable {
        var alg = "HS256"
        var kid: String
        var typ = "JWT"
    }

    private struct Body: Encodable {
        var app: String
        var sub: String
        var exp: UInt64
        var iat: UInt64?
        var nbf: UInt64?
        var te: UInt64?
    }

    public init(appID: String, key: TokenKey) {
        self.appID = appID
        self.key = key
    }

    /// A token for a user, valid from now on.
    ///
    /// - Parameters:
    ///   - lifetimeSeconds: how long it is good for.
    ///   - epoch: the user's token epoch (0 until their tokens were revoked for the first time).
    ///   - nowMS: Unix milliseconds.
    /// - Throws: `TokenError.malformed` when the app or user id is illegal.
    public func issue(
        userID: String, lifetimeSeconds: UInt64, epoch: UInt64 = 0, nowMS: UInt64
    ) throws(TokenError) -> String {
        let now = nowMS / 1000
        return try issue(
            TokenClaims(
                appID: appID, userID: userID,
                expiresAt: min(
                    now + min(lifetimeSeconds, TokenLimits.maxSeconds),
                    TokenLimits.maxSeconds), issuedAt: now, epoch: epoch))
    }

    /// A token with exactly these claims.
    ///
    /// - Throws: `TokenError.malformed` when the app or user id is illegal.
    public func issue(_ claims: TokenClaims) throws(TokenError) -> String {
        guard NameRule.isApp(claims.appID) else { throw .malformed("not an app id") }
        guard NameRule.isUser(claims.userID) else { throw .malformed("a user id must be \(NameRule.userForm)") }
        let body = Body(
            app: claims.appID, sub: claims.userID, exp: claims.expiresAt,
            iat: claims.issuedAt == 0 ? nil : claims.issuedAt, nbf: claims.notBefore == 0 ? nil : claims.notBefore,
            te: claims.epoch == 0 ? nil : claims.epoch)
        let signed = try Self.part(Header(kid: key.id)) + "." + Self.part(body)
        let code = HMAC<SHA256>.authenticationCode(for: Data(signed.utf8), using: SymmetricKey(data: key.secret))
        return signed + "." + Base64URL.encode(code)
    }

    private static func part(_ value: some Encodable) throws(TokenError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let json = try? encoder.encode(value) else { throw .malformed("not encodable") }
        return Base64URL.encode(json)
    }
}
