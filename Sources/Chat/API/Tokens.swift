import Hummingbird
import Identity
import RPC
import Wire

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
        let wanted = try await request.json(TokenRequest.self, limit: config.limits.bodyBytes, context)
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
        let key = TokenKey(id: proven.key.keyID, secret: Array(proven.key.secret))
        let claims = TokenClaims(
            appID: proven.app.appID, userID: user, expiresAt: now + lifetime, issuedAt: now, epoch: fact.tokenEpoch)
        let token: String
        do { token = try TokenIssuer(appID: proven.app.appID, key: key).issue(claims) } catch {
            throw Failure(.internalError, "no token can be made for app \(proven.app.appID)")
        }
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
        let body = try await request.json(RevokeBody.self, limit: config.limits.bodyBytes, context)
        let user = try checkedUser(body.user_id)
        let fact = try await roles.user(app, user)
        guard fact.exists else { throw Failure(.unknownUser, "app \(app) has no user \(user)") }
        let epoch = fact.tokenEpoch + 1
        // Online first: its epoch, durable too, is the one that logins are held against. Should the second call fail,
        // the tokens that are made from the old row are refused, and a retry arrives at the same epoch.
        let item = RevokeItem.with {
            $0.appID = app
            $0.userID = user
            $0.tokenEpoch = epoch
        }
        if let failure = try await roles.revoke([item]).first, failure.code != 0 { throw failure }
        let put = UserPut.with {
            $0.appID = app
            $0.profile = .with { $0.userID = user }
            $0.tokenEpoch = epoch
        }
        if let failure = try await roles.put([put]).first, failure.code != 0 { throw failure }
        return Answer.json(Revoked(user_id: user, token_epoch: epoch))
    }
}
