import Identity
import Machinery
import RPC
import Wire

/// Users exist from their first login on: the app's signature on their token says so. Those seen lately are not asked
/// about again.
struct AccountDesk: Sendable {
    struct Newcomer: Sendable {
        let id: ConnectionID
        let claims: TokenClaims
    }

    /// A user as a key: protobuf messages are larger and hash slowly.
    private struct Who: Hashable, Sendable {
        let app: String
        let user: String

        init(_ claims: TokenClaims) {
            app = claims.appID
            user = claims.userID
        }
    }

    private var known: BoundedCache<Who, Bool>
    private var newcomers: [Newcomer] = []

    init(config: LoginConfig) { known = BoundedCache(limit: config.maxKnownUsers) }

    /// True when the user is known to exist; otherwise the connection waits for the answer.
    mutating func knows(_ id: ConnectionID, _ claims: TokenClaims) -> Bool {
        if known[Who(claims)] != nil { return true }
        newcomers.append(Newcomer(id: id, claims: claims))
        return false
    }

    mutating func take(_ most: Int) -> [Newcomer] {
        let batch = Array(newcomers.prefix(most))
        newcomers.removeFirst(batch.count)
        return batch
    }

    mutating func learn(_ claims: TokenClaims) { known[Who(claims)] = true }
}

extension LoginMachine {
    mutating func flushAccounts() {
        while true {
            let batch = accounts.take(config.maxRegistrationsPerCall)
            guard !batch.isEmpty else { return }
            var request = UsersPut()
            request.users = batch.map { newcomer in
                var put = UserPut()
                put.appID = newcomer.claims.appID
                put.profile.userID = newcomer.claims.userID
                put.profile.exists = true
                return put
            }
            call(.accounts(batch), .user, .usersPut(request))
        }
    }

    mutating func accountsAnswered(_ batch: [AccountDesk.Newcomer], _ result: CallResult) {
        var failures: [Failure]?
        if case .answered(.done(let done)) = result { failures = done.failures }
        for (index, newcomer) in batch.enumerated() {
            guard let failures else {
                refuse(
                    newcomer.id,
                    Failure(.serviceUnavailable, "the user's account cannot be read now", retryAfterMS: 1000))
                continue
            }
            if index < failures.count, failures[index].code != 0 {
                refuse(newcomer.id, failures[index])
                continue
            }
            accounts.learn(newcomer.claims)
            register(newcomer.id, newcomer.claims)
        }
    }
}
