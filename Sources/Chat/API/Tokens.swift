import Crypto
import Foundation
import Hummingbird
import Identity
import RPC
import Wire

/// A user token: JWT, HS256 (RFC 7515, RFC 7519), signed with an app's key and checked by Login.
enum UserToken {
    private struct Header: Encodable {
        let alg = "HS256"
        let typ = "JWT"
        let kid: String
    }

    private struct Claims: Encodable {
        let app: String
        let sub: String
        let iat: UInt64
        let exp: UInt64
        let te: UInt64
    }

    /// - Parameters:
    ///   - epoch: the user's token epoch; a later revocation raises it and so ends this token.
    ///   - issuedAt: Unix seconds. - lifetime: seconds.
    static func make(
        _ proven: ProvenApp, user: String, epoch: UInt64, issuedAt: UInt64, lifetime: UInt64
    ) throws -> String {
        let claims = Claims(
            app: proven.app.appID, sub: user, iat: issuedAt, exp: issuedAt + lifetime, te: epoch)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let signed =
            Base64URL.text(try encoder.encode(Header(kid: proven.key.keyID))) + "."
            + Base64URL.text(try encoder.encode(claims))
        let code = HMAC<SHA256>.authenticationCode(
            for: Array(signed.utf8), using: SymmetricKey(data: proven.key.secret))
        return signed + "." + Base64URL.text(Data(code))
    }
}

enum Base64URL {
    static func text(_ bytes: Data) -> String {
        bytes.base64EncodedString().replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
    }
}

struct IssuedToken: Encodable {
    let token: String
    let app_id: String
    let user_id: String
    /// Unix seconds.
    let expires_at: UInt64
}

extension APIMethods {
    private struct TokenRequest: Decodable {
        let user_id: String
        let ttl_s: Int?
    }

    /// POST /v1/tokens
    func issueToken(_ request: Request, _ context: APIContext) async throws -> Response {
        let proven = try await provenApp(request, context)
        let wanted = try await request.json(TokenRequest.self, limit: config.limits.bodyBytes)
        let user = try checkedUser(wanted.user_id)
        let lifetime = wanted.ttl_s ?? config.limits.tokenDefaultSeconds
        guard (1...config.limits.tokenSeconds).contains(lifetime) else {
            throw Failure(.malformedRequest, "ttl_s must be 1 to \(config.limits.tokenSeconds)")
        }
        return Answer.json(try await token(proven, user, lifetime: UInt64(lifetime)), status: .created)
    }

    /// Makes the user where there is none yet, and a token that carries the current epoch.
    func token(_ proven: ProvenApp, _ user: String, lifetime: UInt64) async throws -> IssuedToken {
        let fact = try await roles.user(proven.app.appID, user)
        if !fact.exists {
            let put = UserPut.with {
                $0.appID = proven.app.appID
                $0.profile = .with { $0.userID = user }
            }
            if let failure = try await roles.put([put]).first, failure.code != 0 { throw failure }
        }
        let now = clock().wallMS / 1000
        let token = try UserToken.make(
            proven, user: user, epoch: fact.tokenEpoch, issuedAt: now, lifetime: lifetime)
        return IssuedToken(token: token, app_id: proven.app.appID, user_id: user, expires_at: now + lifetime)
    }

    private struct RevokeBody: Decodable { let user_id: String }

    private struct Revoked: Encodable {
        let user_id: String
        let token_epoch: UInt64
    }

    /// POST /v1/tokens/revoke: every token issued so far ends, and live sessions with them.
    func revokeTokens(_ request: Request, _ context: APIContext) async throws -> Response {
        let app = try await provenApp(request, context).app.appID
        let body = try await request.json(RevokeBody.self, limit: config.limits.bodyBytes)
        let user = try checkedUser(body.user_id)
        let fact = try await roles.user(app, user)
        guard fact.exists else { throw Failure(.unknownUser, "app \(app) has no user \(user)") }
        let epoch = fact.tokenEpoch + 1
        // The durable epoch first: should the second call fail, new logins are already refused and a retry is harmless.
        let put = UserPut.with {
            $0.appID = app
            $0.profile = .with { $0.userID = user }
            $0.tokenEpoch = epoch
        }
        if let failure = try await roles.put([put]).first, failure.code != 0 { throw failure }
        let item = RevokeItem.with {
            $0.appID = app
            $0.userID = user
            $0.tokenEpoch = epoch
        }
        if let failure = try await roles.revoke([item]).first, failure.code != 0 { throw failure }
        return Answer.json(Revoked(user_id: user, token_epoch: epoch))
    }
}
