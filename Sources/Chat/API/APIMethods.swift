import Foundation
import Hummingbird
import Identity
import Machinery
import RPC
import Synchronization
import Wire

/// What all routes share. Each route's method is in a file of its own.
///
/// Isolation: any thread; three mutexes, never held together or over an await.
final class APIMethods: Sendable {
    let config: APIConfig
    let roles: RoleClient
    let web: StaticFiles
    let clock: @Sendable () -> Instant
    let attempts: Mutex<AttemptLimiter>
    private let apps: Mutex<BoundedCache<String, CachedApp>>
    /// Users who exist: they never cease to.
    private let users: Mutex<BoundedCache<UserKey, Bool>>
    let healthCache = Mutex<(micros: UInt64, answer: Health)?>(nil)

    struct CachedApp: Sendable {
        let app: App
        let micros: UInt64
    }

    init(config: APIConfig, roles: RoleClient, web: StaticFiles, clock: @Sendable @escaping () -> Instant) {
        self.config = config
        self.roles = roles
        self.web = web
        self.clock = clock
        self.attempts = Mutex(AttemptLimiter(limits: config.limits))
        self.apps = Mutex(BoundedCache(limit: config.limits.cachedApps))
        self.users = Mutex(BoundedCache(limit: config.limits.cachedUsers))
    }

    /// The app with its keys; nil when there is none. At most `limits.cacheMS` old.
    func app(_ id: String, fresh: Bool = false) async throws -> App? {
        let now = clock().micros
        let cached = apps.withLock { $0[id] }
        if !fresh, let cached, now.since(cached.micros) < config.limits.cacheMS * 1000 { return cached.app }
        guard let app = try await roles.app(id) else { return nil }
        apps.withLock { $0[id] = CachedApp(app: app, micros: now) }
        return app
    }

    /// Whether the app has that user.
    func knows(_ user: String, of app: String) async throws -> Bool {
        let key = UserKey.with {
            $0.appID = app
            $0.userID = user
        }
        if users.withLock({ $0[key] }) != nil { return true }
        guard try await roles.user(app, user).exists else { return false }
        users.withLock { $0[key] = true }
        return true
    }

    func forgetApp(_ id: String) { apps.withLock { $0[id] = nil } }

    /// - Throws: malformed_request when the text is no user id.
    func checkedUser(_ id: String, field: String = "user_id") throws -> String {
        guard NameRule.isUser(id) else {
            throw Failure(.malformedRequest, "\(field) must be \(NameRule.userForm)")
        }
        return id
    }
}
