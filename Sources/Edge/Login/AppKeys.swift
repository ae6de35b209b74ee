import Identity
import Machinery
import Wire

/// What Login knows of apps, and who waits to know.
struct AppKeys: Sendable {
    struct Known: Sendable {
        let app: App
        let keys: [TokenKey]
        let fetchedMicros: UInt64
    }

    private var cache: BoundedCache<String, Known>
    private var waiting: [String: [ConnectionID]] = [:]
    /// To be asked for at the next flush, in the order wanted.
    private var wanted: [String] = []

    init(config: LoginConfig) { cache = BoundedCache(limit: config.maxCachedApps) }

    /// What is known and still believed.
    mutating func look(_ appID: String, now: UInt64, config: LoginConfig) -> Known? {
        guard let known = cache[appID] else { return nil }
        let lifetimeMS = known.app.exists ? config.appCacheMS : config.appMissingMS
        return now < known.fetchedMicros + lifetimeMS * 1000 ? known : nil
    }

    /// Has the connection told when the app is known.
    mutating func wait(_ connection: ConnectionID, for appID: String) {
        if waiting[appID] == nil { wanted.append(appID) }
        waiting[appID, default: []].append(connection)
    }

    mutating func takeWanted() -> [String] {
        defer { wanted = [] }
        return wanted
    }

    mutating func learn(_ apps: [App], now: UInt64) {
        for app in apps {
            let keys = app.keys.map { TokenKey(id: $0.keyID, secret: Array($0.secret), retired: $0.retired) }
            cache[app.appID] = Known(app: app, keys: keys, fetchedMicros: now)
        }
    }

    /// Those who waited for it, who wait no longer.
    mutating func takeWaiting(_ appID: String) -> [ConnectionID] { waiting.removeValue(forKey: appID) ?? [] }
}
