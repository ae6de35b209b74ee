import Crypto
import Foundation
import Hummingbird
import Machinery
import RPC
import Synchronization
import Wire

/// An app that proved who it is, and with which key.
struct ProvenApp {
    let app: App
    let key: AppKey
}

extension APIMethods {
    /// Checks HTTP Basic credentials of an app server. The user name is the app id, or a key id (app id, a dot, and a
    /// suffix) when one key in particular is meant; the password is the secret.
    ///
    /// - Throws: bad_credentials without saying which part was wrong, rate_limited, app_suspended.
    func provenApp(_ request: Request, _ context: APIContext) async throws -> ProvenApp {
        guard let (name, secret) = BasicCredentials.parse(request.headers[.authorization]) else {
            throw Failure(.badCredentials, "send HTTP Basic credentials: app id or key id, and secret")
        }
        let found = try await guarded(name, context) {
            let appID = String(name.prefix { $0 != "." })
            // A key made a moment ago must work at once, so a mismatch asks again without the cache.
            for fresh in [false, true] {
                guard let app = try await self.app(appID, fresh: fresh) else { break }
                guard let key = Self.matchingKey(of: app, name: name, secret: secret) else { continue }
                return ProvenApp(app: app, key: key)
            }
            return nil
        }
        guard !found.app.suspended else { throw Failure(.appSuspended, "app \(found.app.appID) is suspended") }
        return found
    }

    /// Checks the bearer key of the routes that manage apps.
    func requireAdmin(_ request: Request, _ context: APIContext) async throws {
        guard let adminKey = config.adminKey else {
            throw Failure(.forbidden, "this server was started without an admin key: no apps over HTTP")
        }
        _ = try await guarded("admin", context) {
            let header = request.headers[.authorization] ?? ""
            guard header.lowercased().hasPrefix("bearer ") else { return nil as Bool? }
            let given = header.dropFirst(7).utf8
            return ConstantTime.equal(Array(given), Array(adminKey.utf8)) ? true : nil
        }
    }

    /// Runs a check of something secret, counted against the guesses that its name and address have left.
    func guarded<T>(_ name: String, _ context: APIContext, _ check: () async throws -> T?) async throws -> T {
        let address = context.remoteAddress
        let wait = attempts.withLock { $0.begin(name: name, address: address, nowMicros: clock().micros) }
        if let wait {
            throw Failure(.rateLimited, "too many wrong attempts; wait and try again", retryAfterMS: wait)
        }
        let result: T?
        do { result = try await check() } catch {
            attempts.withLock { $0.pardon(name: name, address: address, nowMicros: clock().micros) }
            throw error
        }
        guard let result else { throw Failure(.badCredentials, "the name or the secret is wrong") }
        attempts.withLock { $0.pardon(name: name, address: address, nowMicros: clock().micros) }
        return result
    }

    private static func matchingKey(of app: App, name: String, secret: [UInt8]) -> AppKey? {
        var match: AppKey?
        // No early exit: the time taken says nothing about which key came close.
        for key in app.keys where !key.retired && (name == app.appID || name == key.keyID) {
            if ConstantTime.equal(secret, Array(key.secret)), match == nil { match = key }
        }
        return match
    }
}

/// Comparison whose time does not depend on where two secrets first differ, nor on their lengths.
enum ConstantTime {
    static func equal(_ one: [UInt8], _ other: [UInt8]) -> Bool {
        // Digests of equal length; their comparison in swift-crypto is constant-time.
        SHA256.hash(data: one) == SHA256.hash(data: other)
    }
}

/// `Authorization: Basic base64(name:secret)` (RFC 7617).
enum BasicCredentials {
    static func parse(_ header: String?) -> (name: String, secret: [UInt8])? {
        guard let header, header.lowercased().hasPrefix("basic "),
            let bytes = Data(base64Encoded: String(header.dropFirst(6)).trimmingCharacters(in: .whitespaces)),
            let colon = bytes.firstIndex(of: 0x3a),
            let name = String(validating: bytes[..<colon], as: UTF8.self)
        else { return nil }
        return (name, Array(bytes[bytes.index(after: colon)...]))
    }
}

/// Bounds how often secrets can be guessed: per name at an address, per address, and per name. Pure; time is given.
struct AttemptLimiter: Sendable {
    private let limits: APILimits
    private var buckets: BoundedCache<String, TokenBucket>

    init(limits: APILimits) {
        self.limits = limits
        self.buckets = BoundedCache(limit: limits.guessersRemembered)
    }

    /// Takes one guess from each bucket; milliseconds to wait when one of them is empty, and then none is touched.
    mutating func begin(name: String, address: String, nowMicros: UInt64) -> UInt32? {
        var taken: [(String, TokenBucket)] = []
        for (key, wide) in Self.keys(name, address) {
            var bucket = bucket(key, wide, nowMicros)
            guard bucket.take(nowMicros: nowMicros) else { return UInt32(1000 / bucket.perSecond) }
            taken.append((key, bucket))
        }
        for (key, bucket) in taken { buckets[key] = bucket }
        return nil
    }

    /// Gives the guess back: it was right, or nobody could say.
    mutating func pardon(name: String, address: String, nowMicros: UInt64) {
        for (key, wide) in Self.keys(name, address) {
            var bucket = bucket(key, wide, nowMicros)
            _ = bucket.take(-1, nowMicros: nowMicros)
            buckets[key] = bucket
        }
    }

    private mutating func bucket(_ key: String, _ wide: Bool, _ now: UInt64) -> TokenBucket {
        buckets[key]
            ?? TokenBucket(
                perSecond: wide ? limits.guessesPerSecondWide : limits.guessesPerSecond,
                burst: wide ? limits.guessesAtOnceWide : limits.guessesAtOnce, nowMicros: now)
    }

    private static func keys(_ name: String, _ address: String) -> [(String, wide: Bool)] {
        // A control character parts the two, so that no name can pretend to be an address.
        [("b\u{1}\(address)\u{1}\(name)", false), ("a\u{1}\(address)", true), ("n\u{1}\(name)", true)]
    }
}
