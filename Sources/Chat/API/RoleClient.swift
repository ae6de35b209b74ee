import RPC
import Wire

/// Typed questions to the other roles: one method per payload, failures thrown, an unexpected reply an internal error.
struct RoleClient: Sendable {
    let caller: RoleCaller
    let directory: Directory
    let timeoutMS: UInt32

    /// - Throws: `Failure`: the callee's own when it refused, outcome_unknown when nobody knows.
    func ask(_ address: Address, _ payload: Payload, timeoutMS: UInt32? = nil) async throws -> Payload {
        switch await caller.call(address, payload, timeoutMS: timeoutMS ?? self.timeoutMS) {
        case .answered(let reply): return reply
        case .refused(let failure): throw failure
        case .unknown(let failure): throw Failure(.outcomeUnknown, failure.message, retryAfterMS: 300)
        }
    }

    func app(_ id: String) async throws -> App? {
        let reply = try await ask(.any(.user), .appsGet(.with { $0.appIds = [id] }))
        guard case .appsGot(let got) = reply, let app = got.apps.first else { throw unexpected(reply) }
        return app.exists ? app : nil
    }

    func user(_ app: String, _ user: String, timeoutMS: UInt32? = nil) async throws -> UserFact {
        let key = UserKey.with {
            $0.appID = app
            $0.userID = user
        }
        let reply = try await ask(.any(.user), .userCheck(.with { $0.users = [key] }), timeoutMS: timeoutMS)
        guard case .userChecked(let checked) = reply, let fact = checked.users.first else { throw unexpected(reply) }
        return fact
    }

    /// One failure per user; code 0 for those that were stored.
    func put(_ users: [UserPut]) async throws -> [Failure] {
        try await done(.any(.user), .usersPut(.with { $0.users = users }), count: users.count)
    }

    /// Writes the app over the version that it carries, or makes it (version 0).
    ///
    /// - Throws: already_exists when the stored version is another.
    func replace(_ app: App) async throws {
        let put = AppsPut.with {
            $0.apps = [app]
            $0.compare = true
        }
        if let failure = try await done(.any(.user), .appsPut(put), count: 1).first, failure.code != 0 { throw failure }
    }

    func revoke(_ items: [RevokeItem]) async throws -> [Failure] {
        try await done(.any(.online), .revokeRequest(.with { $0.items = items }), count: items.count)
    }

    /// One reply per call, in order.
    func serve(_ calls: [ServiceCall], timeoutMS: UInt32? = nil) async throws -> [ServiceReply] {
        let reply = try await ask(.any(.route), .serviceCalls(.with { $0.calls = calls }), timeoutMS: timeoutMS)
        guard case .serviceReplies(let replies) = reply, replies.replies.count == calls.count else {
            throw unexpected(reply)
        }
        return replies.replies
    }

    private func done(_ address: Address, _ payload: Payload, count: Int) async throws -> [Failure] {
        let reply = try await ask(address, payload)
        guard case .done(let done) = reply else { throw unexpected(reply) }
        // Empty means that every item succeeded.
        if done.failures.isEmpty { return Array(repeating: Failure(), count: count) }
        guard done.failures.count == count else { throw unexpected(reply) }
        return done.failures
    }

    private func unexpected(_ reply: Payload) -> Failure {
        Failure(.internalError, "a service gave an answer of kind \(reply.kind) that does not fit the question")
    }
}
