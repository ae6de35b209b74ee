import Crypto
import Foundation

/// A token taken apart but not yet believed: its app and key id say which secret to check it with.
public struct UnverifiedToken: Sendable, Equatable {
    public let claims: TokenClaims
    public let keyID: String
    private let signed: [UInt8]
    private let signature: [UInt8]

    private struct Header: Decodable {
        var alg: String
        var kid: String?
        var crit: [String]?
    }

    private struct Body: Decodable {
        var app: String
        var sub: String
        var exp: Double
        var iat: Double?
        var nbf: Double?
        var te: Double?
    }

    /// - Throws: `TokenError.malformed` or `.wrongAlgorithm`.
    public init(_ text: String) throws(TokenError) {
        let bytes = Array(text.utf8)
        guard !bytes.isEmpty, bytes.count <= TokenLimits.maxBytes else {
            throw .malformed("a token has 1 to \(TokenLimits.maxBytes) bytes")
        }
        let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw .malformed("a token has three parts") }
        let header = try Self.json(Header.self, parts[0], "header")
        guard header.alg == "HS256" else { throw .wrongAlgorithm(String(header.alg.prefix(32))) }
        guard header.crit == nil else { throw .malformed("the header's crit is not understood") }
        guard let kid = header.kid, !kid.isEmpty, kid.utf8.count <= NameRule.maxBytes else {
            throw .malformed("the header has no kid")
        }
        let body = try Self.json(Body.self, parts[1], "claims")
        guard NameRule.isApp(body.app) else { throw .malformed("claim app is not an app id") }
        guard NameRule.isUser(body.sub) else { throw .malformed("claim sub must be a user id: \(NameRule.userForm)") }
        guard let signature = Base64URL.decode(parts[2]) else { throw .malformed("the signature is not base64url") }
        claims = TokenClaims(
            appID: body.app, userID: body.sub, expiresAt: try Self.whole(body.exp, "exp"),
            issuedAt: try Self.whole(body.iat ?? 0, "iat"), notBefore: try Self.whole(body.nbf ?? 0, "nbf"),
            epoch: try Self.whole(body.te ?? 0, "te"))
        keyID = kid
        signed = Array(bytes[..<parts[1].endIndex])
        self.signature = signature
    }

    /// Checks it against the keys of its app.
    ///
    /// - Parameter nowMS: Unix milliseconds.
    /// - Returns: the claims, now believed.
    /// - Throws: `.unknownKey`, `.badSignature`, `.expired` or `.notYetValid`, in that order: nothing is said about the
    ///   claims of a token that nobody signed.
    public func verified(keys: [TokenKey], nowMS: UInt64) throws(TokenError) -> TokenClaims {
        guard let key = keys.first(where: { $0.id == keyID && !$0.retired && !$0.secret.isEmpty }) else {
            throw .unknownKey(keyID)
        }
        // Compares in constant time.
        guard
            HMAC<SHA256>.isValidAuthenticationCode(
                signature, authenticating: signed, using: SymmetricKey(data: key.secret))
        else { throw .badSignature }
        let now = nowMS / 1000
        guard claims.expiresAt > now else { throw .expired }
        let latest = now + TokenLimits.clockSkewSeconds
        guard claims.notBefore <= latest, claims.issuedAt <= latest else { throw .notYetValid }
        return claims
    }

    private static func json<T: Decodable>(
        _ type: T.Type, _ part: ArraySlice<UInt8>, _ name: String
    ) throws(TokenError) -> T {
        guard let bytes = Base64URL.decode(part) else { throw .malformed("the \(name) is not base64url") }
        guard let value = try? JSONDecoder().decode(type, from: Data(bytes)) else {
            throw .malformed("the \(name) is not JSON with the fields required")
        }
        return value
    }

    private static func whole(_ number: Double, _ name: String) throws(TokenError) -> UInt64 {
        guard number >= 0, number <= Double(TokenLimits.maxSeconds) else {
            throw .malformed("claim \(name) is out of range")
        }
        return UInt64(number)
    }
}

/// Checks user tokens against one app's keys: the two steps in one, for those who know the app already.
public struct TokenVerifier: Sendable, Equatable {
    public let appID: String
    public let keys: [TokenKey]

    public init(appID: String, keys: [TokenKey]) {
        self.appID = appID
        self.keys = keys
    }

    /// - Throws: `TokenError`; `.unknownKey` also for a token of another app.
    public func verify(_ token: String, nowMS: UInt64) throws(TokenError) -> TokenClaims {
        let parsed = try UnverifiedToken(token)
        guard parsed.claims.appID == appID else { throw .unknownKey(parsed.keyID) }
        return try parsed.verified(keys: keys, nowMS: nowMS)
    }
}
