import Foundation
import RPC
import Runtime
import Wire

/// Makes the demo app and its users exist, whatever was there before.
struct DemoApp {
    let access: DemoAccess

    /// Asks User until it answers: the services of a cluster find each other in their own time.
    func provide(through caller: RoleCaller) async throws {
        try await provideApp(through: caller)
        var check = UserCheck()
        check.users = access.users.keys.sorted().map { name in
            var key = UserKey()
            key.appID = access.app
            key.userID = name
            return key
        }
        guard case .userChecked(let checked) = try await answer(caller, .userCheck(check)) else { return }
        var users = UsersPut()
        // Only those who are missing: a demo user may have changed the profile.
        users.users = zip(check.users, checked.users).filter { !$1.exists }.map { key, _ in
            let name = key.userID
            var put = UserPut()
            put.appID = access.app
            put.profile.userID = name
            put.profile.nickname = name.prefix(1).uppercased() + name.dropFirst()
            put.profile.exists = true
            return put
        }
        if !users.users.isEmpty { try await ask(caller, .usersPut(users)) }
    }

    /// Leaves an app alone that has the key: it may have been suspended since, or have other keys too.
    private func provideApp(through caller: RoleCaller) async throws {
        var get = AppsGet()
        get.appIds = [access.app]
        guard case .appsGot(let got) = try await answer(caller, .appsGet(get)), var app = got.apps.first else { return }
        if app.exists, app.keys.contains(where: { $0.keyID == access.keyID }) { return }
        var key = AppKey()
        key.keyID = access.keyID
        key.secret = access.secret
        app.appID = access.app
        if app.name.isEmpty { app.name = "Demo" }
        app.keys.append(key)
        app.exists = true
        var apps = AppsPut()
        apps.apps = [app]
        try await ask(caller, .appsPut(apps))
    }

    private func ask(_ caller: RoleCaller, _ payload: Payload) async throws {
        _ = try await answer(caller, payload)
    }

    private func answer(_ caller: RoleCaller, _ payload: Payload) async throws -> Payload {
        var last = ""
        for _ in 0..<Self.attempts {
            switch await caller.call(.any(.user), payload, timeoutMS: 2000) {
            case .answered(.done(let done)):
                guard let failure = done.failures.first(where: { $0.code != 0 }) else { return .done(done) }
                last = failure.message
            case .answered(let payload): return payload
            case .refused(let failure), .unknown(let failure): last = failure.message
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        throw StartError(
            "the demo app could not be made: \(last)", cure: "Look at the log above for the service that failed")
    }

    /// 20 s in all: a cold start of thirteen processes on a busy laptop.
    private static let attempts = 200
}
