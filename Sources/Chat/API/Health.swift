import Hummingbird
import Identity
import Machinery
import RPC
import Synchronization
import Wire

/// The answer of `/health`.
struct Health: Encodable, Sendable {
    let status: String
    let version: String
    /// Instances known per role, and whether a real question was answered where one is asked.
    let roles: [String: RoleHealth]

    struct RoleHealth: Encodable, Sendable {
        let instances: Int
        let answers: Bool?
    }
}

extension APIMethods {
    /// GET /health: 200 when every expected role is there and the probed ones answer, 503 otherwise.
    func health() async -> Response {
        let now = clock().micros
        let cached = healthCache.withLock { $0 }
        let answer: Health
        if let cached, now.since(cached.micros) < config.limits.cacheMS * 1000 {
            answer = cached.answer
        } else {
            answer = await probe()
            healthCache.withLock { $0 = (now, answer) }
        }
        return Answer.json(answer, status: answer.status == "ok" ? .ok : .serviceUnavailable)
    }

    /// Real questions to the roles that this server itself needs; the rest is looked up.
    private func probe() async -> Health {
        async let route = answers { try await self.probeRoute() }
        async let user = answers { _ = try await self.roles.user("martlet", "health", timeoutMS: self.probeMS) }
        async let online = answers { try await self.probeOnline() }
        let probed = await [RoleName.route: route, .user: user, .online: online]
        var found: [String: Health.RoleHealth] = [:]
        for name in Set(config.expectedRoles).union(probed.keys.map(\.rawValue)) {
            let role = RoleName(rawValue: name)
            found[name] = Health.RoleHealth(instances: roles.directory.instances(of: role).count, answers: probed[role])
        }
        let well = found.values.allSatisfy { $0.instances > 0 && $0.answers != false }
        return Health(status: well ? "ok" : "degraded", version: config.version, roles: found)
    }

    private var probeMS: UInt32 { config.limits.probeTimeoutMS }

    private func answers(_ question: () async throws -> Void) async -> Bool {
        do { try await question() } catch { return false }
        return true
    }

    private func probeRoute() async throws {
        let caller = Caller.with {
            $0.appID = "martlet"
            $0.userID = "health"
        }
        let body = try ProfilesRequest.with { $0.userIds = ["health"] }.serializedData()
        let call = ServiceCall.with {
            $0.caller = caller
            $0.svid = WellKnownService.user
            $0.method = 3
            $0.body = body
        }
        _ = try await roles.serve([call], timeoutMS: probeMS)
    }

    private func probeOnline() async throws {
        let key = UserKey.with {
            $0.appID = "martlet"
            $0.userID = "health"
        }
        _ = try await roles.ask(.any(.online), .lookupRequest(.with { $0.users = [key] }), timeoutMS: probeMS)
    }
}
