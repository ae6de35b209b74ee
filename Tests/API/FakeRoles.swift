import Foundation
import RPC
import Synchronization
import Wire

/// User, Online and Route in memory, as the contracts describe them: what API talks to.
final class FakeRoles: CallTarget {
    struct State {
        var apps: [String: App] = [:]
        var users: [String: UserFact] = [:]
        var profiles: [String: Profile] = [:]
        var revoked: [RevokeItem] = []
        var calls: [ServiceCall] = []
        /// What Route says to each call; nil: what a healthy IM or history would.
        var serve: (@Sendable (ServiceCall) -> ServiceReply)?
        /// Replies are kept back until released.
        var held: [@Sendable () -> Void]?
        var news: AsyncStream<Void>.Continuation?
        var refusal: Failure?
        /// Payload kinds of the calls that were answered, in their order.
        var kinds: [UInt16] = []
        /// What is refused, by payload kind.
        var refusedKinds: Set<UInt16> = []
    }

    let state = Mutex(State())
    var lane: Lane? { nil }

    func join(_ directory: Directory) {
        for role in [RoleName.user, .online, .route] { directory.add(role, "fake", self) }
    }

    func accept(_ call: IncomingCall) -> Failure? {
        if let refusal = state.withLock({ $0.refusal }) { return refusal }
        if state.withLock({ $0.refusedKinds.contains(call.payload.kind) }) {
            return Failure(.storeUnavailable, "as scripted")
        }
        state.withLock { $0.kinds.append(call.payload.kind) }
        let answer = reply(to: call.payload)
        let deliver: @Sendable () -> Void = { call.origin?.reply(call.id, .answered(answer)) }
        let held = state.withLock { state in
            guard state.held != nil else { return false }
            state.held?.append(deliver)
            state.news?.yield()
            return true
        }
        if !held { deliver() }
        return nil
    }

    /// Keeps replies back from now on; the stream tells of each.
    @discardableResult
    func hold() -> AsyncStream<Void> {
        let news = AsyncStream<Void>.makeStream()
        state.withLock {
            $0.held = []
            $0.news = news.continuation
        }
        return news.stream
    }

    func release() {
        let waiting = state.withLock { state in
            defer { state.held = nil }
            return state.held ?? []
        }
        for deliver in waiting { deliver() }
    }

    private func reply(to payload: Payload) -> Payload {
        switch payload {
        case .appsGet(let get):
            return .appsGot(.with { got in got.apps = state.withLock { s in get.appIds.map { s.apps[$0] ?? App() } } })
        case .appsPut(let put): return .done(state.withLock { Self.store(put, &$0) })
        case .userCheck(let check):
            return .userChecked(
                .with { checked in
                    let known = state.withLock { $0.users }
                    checked.users = check.users.map { known[$0.appID + "/" + $0.userID] ?? UserFact() }
                })
        case .usersPut(let put):
            state.withLock { s in for user in put.users { Self.store(user, &s) } }
            return .done(Done())
        case .revokeRequest(let request):
            state.withLock { $0.revoked += request.items }
            return .done(Done())
        case .lookupRequest(let request):
            return .lookupResponse(.with { $0.results = request.users.map { _ in LookupResult() } })
        case .serviceCalls(let calls):
            let serve = state.withLock { s in
                s.calls += calls.calls
                return s.serve
            }
            return .serviceReplies(.with { $0.replies = calls.calls.map { serve?($0) ?? Self.healthy($0) } })
        default: return .done(Done())
        }
    }

    private static func store(_ put: AppsPut, _ state: inout State) -> Done {
        var done = Done()
        for app in put.apps {
            let version = state.apps[app.appID]?.version ?? 0
            let fits = !put.compare || app.version == version
            done.failures.append(fits ? Failure() : Failure(.alreadyExists, "another version"))
            guard fits else { continue }
            state.apps[app.appID] = app
            state.apps[app.appID]?.version = version + 1
        }
        return done
    }

    private static func store(_ user: UserPut, _ state: inout State) {
        let key = user.appID + "/" + user.profile.userID
        var fact = state.users[key] ?? UserFact()
        fact.exists = true
        fact.tokenEpoch = max(fact.tokenEpoch, user.tokenEpoch)
        state.users[key] = fact
        guard user.hasPatch else {
            state.profiles[key] = user.profile
            return
        }
        let patch = user.patch
        var profile = state.profiles[key] ?? user.profile
        if patch.hasNickname { profile.nickname = patch.nickname }
        if patch.hasAvatarURL { profile.avatarURL = patch.avatarURL }
        if patch.hasCustom { profile.custom = patch.custom }
        state.profiles[key] = profile
    }

    static func healthy(_ call: ServiceCall) -> ServiceReply {
        guard call.svid == 1, let request = try? SendRequest(serializedBytes: call.body) else { return ServiceReply() }
        let response = SendResponse.with { response in
            response.results = request.items.map { _ in
                .with {
                    $0.outcome = .accepted
                    $0.sentMs = 1_700_000_000_000
                }
            }
        }
        return .with { $0.body = response.buffer.withUnsafeReadableBytes { Data($0) } }
    }

    static func answering(_ results: [SendResult]) -> ServiceReply {
        let response = SendResponse.with { $0.results = results }
        return .with { $0.body = response.buffer.withUnsafeReadableBytes { Data($0) } }
    }
}
