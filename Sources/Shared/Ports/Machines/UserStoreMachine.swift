import RPC
import Wire

/// Port role `relational` over any user store: the writes of a flush are one transaction, so that one fsync answers
/// all of them.
///
/// Isolation: a lane with a thread of its own; the store may block.
public struct UserStoreMachine<Store: UserStore>: RoleMachine {
    public static var role: RoleName { .userStore }

    /// A write that waits for the flush. `changes` is set for index saves, `apps` for apps that are compared: their
    /// places in the batch.
    private struct Pending: Sendable {
        let id: CallID
        var changes: Range<Int>?
        var apps: Range<Int>?
    }

    private let store: Store
    private var batch = UserBatch()
    private var pending: [Pending] = []

    public init(_ store: Store) { self.store = store }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .call(let id, let payload, _): return call(id, payload)
        case .flush: return flush()
        case .start, .reply, .timer: return []
        }
    }

    private mutating func call(_ id: CallID, _ payload: Payload) -> [RoleAction<Never>] {
        switch payload {
        case .appsPut(let request):
            if let failure = Self.check(request) { return [.refuse(id, failure)] }
            let first = batch.comparedApps.count
            pending.append(Pending(id: id, apps: request.compare ? first..<first + request.apps.count : nil))
            if request.compare { batch.comparedApps += request.apps } else { batch.apps += request.apps }
        case .usersPut(let request):
            guard request.users.allSatisfy({ !$0.appID.isEmpty && !$0.profile.userID.isEmpty }) else {
                return [.refuse(id, Failure(.malformedRequest, "a user has an app and an id"))]
            }
            batch.users += request.users
            pending.append(Pending(id: id))
        case .indexSave(let request):
            guard request.changes.allSatisfy({ !$0.userID.isEmpty && !$0.change.conversation.isEmpty }) else {
                return [.refuse(id, Failure(.malformedRequest, "a change names user and conversation"))]
            }
            pending.append(Pending(id: id, changes: batch.changes.count..<batch.changes.count + request.changes.count))
            batch.changes += request.changes
        default: return [read(id, payload)]
        }
        return []
    }

    private static func outcome(_ written: ArraySlice<Bool>) -> Done {
        var done = Done()
        if written.allSatisfy({ $0 }) { return done }
        done.failures = written.map { $0 ? Failure() : Failure(.alreadyExists, "the app has another version") }
        return done
    }

    private static func check(_ request: AppsPut) -> Failure? {
        let keys = request.apps.allSatisfy { app in
            !app.appID.isEmpty && Set(app.keys.map(\.keyID)).count == app.keys.count
                && !app.keys.contains { $0.secret.isEmpty }
        }
        return keys ? nil : Failure(.malformedRequest, "an app has an id, and keys with ids of their own and secrets")
    }

    private func read(_ id: CallID, _ payload: Payload) -> RoleAction<Never> {
        do throws(Failure) {
            switch payload {
            case .appsGet(let request):
                var answer = AppsGot()
                answer.apps = try store.apps(request.appIds)
                return .reply(id, .appsGot(answer))
            case .userLoad(let request):
                var answer = UserLoaded()
                answer.users = try store.users(request.users)
                return .reply(id, .userLoaded(answer))
            case .indexLoad(let request):
                var answer = IndexLoaded()
                answer.pages = try store.index(request.queries)
                return .reply(id, .indexLoaded(answer))
            default:
                return .refuse(id, Failure(.noSuchMethod, "the user store does not answer payload \(payload.kind)"))
            }
        } catch { return .refuse(id, error) }
    }

    private mutating func flush() -> [RoleAction<Never>] {
        guard !pending.isEmpty else { return [] }
        defer {
            pending.removeAll(keepingCapacity: true)
            batch = UserBatch()
        }
        do throws(Failure) {
            let result = try store.apply(batch)
            return pending.map { call in
                if let apps = call.apps { return .reply(call.id, .done(Self.outcome(result.writtenApps[apps]))) }
                guard let changes = call.changes else { return .reply(call.id, .done(Done())) }
                var answer = IndexSaved()
                answer.rows = Array(result.rows[changes])
                return .reply(call.id, .indexSaved(answer))
            }
        } catch {
            return pending.map { .refuse($0.id, error) }
        }
    }
}
