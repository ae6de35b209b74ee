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
        // Asked before the guess is judged: between judging and counting nothing may wait, or requests under way at
        // once would look like guesses to each other.
        try refuseGuessers(name, context)
        let appID = String(name.prefix { $0 != "." })
        var proven = try await self.app(appID).flatMap { Self.proof(of: $0, name: name, secret: secret) }
        if proven == nil {
            // A key made a moment ago must work at once, so a mismatch asks again without the cache.
            proven = try await self.app(appID, fresh: true).flatMap { Self.proof(of: $0, name: name, secret: secret) }
        }
        let found = try judged(name, context, proven)
        guard !found.app.suspended else { throw Failure(.appSuspended, "app \(found.app.appID) is suspended") }
        return found
    }

    /// Checks the bearer key of the routes that manage apps.
    func requireAdmin(_ request: Request, _ context: APIContext) async throws {
        guard let adminKey = config.adminKey else {
            throw Failure(.forbidden, "this server was started without an admin key: no apps over HTTP")
        }
        let header = request.headers[.authorization] ?? ""
        let given = header.lowercased().hasPrefix("bearer ") ? Array(header.dropFirst(7).utf8) : []
        _ = try judged("admin", context, ConstantTime.equal(given, Array(adminKey.utf8)) ? true : nil)
    }

    /// What was proved, if this name at this address may still guess; a wrong guess is counted.
    ///
    /// - Throws: rate_limited, also for what is right: the limit must not tell a right guess from a wrong one.
    ///   bad_credentials for nil.
    func judged<T>(_ name: String, _ context: APIContext, _ proven: T?) throws -> T {
        let (now, right) = (clock().micros, proven != nil)
        let wait = attempts.withLock {
            $0.judge(name: name, address: context.remoteAddress, right: right, nowMicros: now)
        }
        try Self.refuse(wait)
        guard let proven else { throw Failure(.badCredentials, "the name or the secret is wrong") }
        return proven
    }

    /// Spares the services the questions of those who have no guess left.
    private func refuseGuessers(_ name: String, _ context: APIContext) throws {
        let now = clock().micros
        try Self.refuse(
            attempts.withLock { $0.judge(name: name, address: context.remoteAddress, right: true, nowMicros: now) })
    }

    private static func refuse(_ wait: UInt32?) throws {
        guard let wait else { return }
        throw Failure(.rateLimited, "too many wrong attempts; wait and try again", retryAfterMS: wait)
    }

    private static func proof(of app: App, name: String, secret: [UInt8]) -> ProvenApp? {
        matchingKey(of: app, name: name, secret: secret).map { ProvenApp(app: app, key: $0) }
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

/// Bounds how often secrets can be guessed: per name at an address, and per address. Pure; time is given.
struct AttemptLimiter: Sendable {
    /// More than any name has that exists: two ids and a dot.
    private static let nameCharacters = 140
    private let limits: APILimits
    private var buckets: BoundedCache<String, TokenBucket>

    init(limits: APILimits) {
        self.limits = limits
        self.buckets = BoundedCache(limit: limits.guessersRemembered)
    }

    /// Counts a guess: a wrong one takes from each bucket, a right one only has to find them not empty. Milliseconds to
    /// wait when one of them is, and then none is touched.
    mutating func judge(name: String, address: String, right: Bool, nowMicros: UInt64) -> UInt32? {
        // Shortened, as it is kept. A control character parts the two, so that no name can pretend to be an address.
        let name = name.prefix(Self.nameCharacters)
        let keys = [("b\u{1}\(address)\u{1}\(name)", false), ("a\u{1}\(address)", true)]
        var taken: [(String, TokenBucket)] = []
        for (key, wide) in keys {
            // Whoever never guessed wrong is not remembered.
            guard var bucket = buckets[key] ?? (right ? nil : fresh(wide, nowMicros)) else { continue }
            guard bucket.take(nowMicros: nowMicros) else { return UInt32(1000 / bucket.perSecond) }
            taken.append((key, bucket))
        }
        if !right { for (key, bucket) in taken { buckets[key] = bucket } }
        return nil
    }

    private func fresh(_ wide: Bool, _ now: UInt64) -> TokenBucket {
        TokenBucket(
            perSecond: wide ? limits.guessesPerSecondWide : limits.guessesPerSecond,
            burst: wide ? limits.guessesAtOnceWide : limits.guessesAtOnce, nowMicros: now)
    }
}
