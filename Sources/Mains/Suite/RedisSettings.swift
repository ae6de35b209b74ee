import Foundation
import Logging
import NIOPosix
import RPC
import RedisStore
import Runtime

/// Which of the stores are in Redis instead of in this process.
public struct RedisSettings: Codable, Equatable, Sendable {
    /// Nil: in process.
    public var presence: RedisPlace?
    public var hot: RedisPlace?

    public init() {}
}

/// The servers of one store, and how to get there.
public struct RedisPlace: Codable, Equatable, Sendable {
    /// `RedisConfig.init(url:)` has the forms.
    public var url: String
    /// The password, or a file whose first line it is; neither: the one in the URL.
    public var password: String?
    public var passwordFile: String?
    /// The same of the sentinels; neither: they have none.
    public var sentinelPassword: String?
    public var sentinelPasswordFile: String?
    /// PEM file of the authorities that sign the servers' certificates; nil: those of the system.
    public var authorities: String?
    /// PEM files of our own certificate and key, for servers that want one.
    public var certificate: String?
    public var key: String?

    public init(url: String) { self.url = url }

    /// The servers of one store.
    ///
    /// - Throws: `StartError` when the address, or a file that it needs, is none.
    public func config(mayEvict: Bool) throws -> RedisConfig {
        guard var config = RedisConfig(url: url) else {
            throw StartError(
                "this is no address of Redis: \(Self.withoutPassword(url))",
                cure:
                    "Write redis://HOST:PORT, rediss:// for TLS, redis+cluster:// or redis+sentinel://HOST:PORT/MASTER")
        }
        config.mayEvict = mayEvict
        if let password { config.password = password }
        if let passwordFile { config.password = try SecretFile.read(passwordFile, of: "Redis") }
        config.sentinelPassword = sentinelPassword
        if let sentinelPasswordFile {
            config.sentinelPassword = try SecretFile.read(sentinelPasswordFile, of: "the sentinels")
        }
        if config.username != nil, config.password == nil {
            throw StartError("there is no password for a user of Redis", cure: "Name its file: --redis-password-file")
        }
        let files = [authorities, certificate, key].compactMap { $0 }
        guard files.isEmpty || config.tls != nil else {
            throw StartError("certificates for Redis without TLS", cure: "Write rediss:// instead of redis://")
        }
        guard (certificate == nil) == (key == nil) else {
            throw StartError("a certificate for Redis and its key go together", cure: "Name both files")
        }
        config.tls?.authorities = authorities
        config.tls?.certificate = certificate
        config.tls?.key = key
        return config
    }

    private static func withoutPassword(_ url: String) -> String {
        guard let at = url.lastIndex(of: "@") else { return url }
        return "...\(url[at...])"
    }
}

/// Clients of Redis, on a thread of their own.
struct RedisClients {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let presence: RedisClient?
    let hot: RedisClient?
    /// Longest wait for the servers at start; those that are away are met later.
    private static let contactMS: UInt64 = 5000

    init(_ settings: RedisSettings, logger: Logger) throws {
        // One each, so that a burst of messages does not hold presence up.
        presence = try Self.client(
            settings.presence.map { try $0.config(mayEvict: false) }, RedisPresenceMachine.scripts, group,
            logger)
        hot = try Self.client(
            settings.hot.map { try $0.config(mayEvict: true) }, RedisHotMachine.scripts, group, logger)
    }

    private static func client(
        _ config: RedisConfig?, _ scripts: [RedisScript], _ group: MultiThreadedEventLoopGroup, _ logger: Logger
    ) throws -> RedisClient? {
        guard let config else { return nil }
        do { return try RedisClient(config: config, scripts: scripts, loop: group.next(), logger: logger) } catch {
            throw StartError("the certificates for Redis cannot be used: \(error)", cure: "Look at the files named")
        }
    }

    /// Looks whether the servers will do, with clients of its own that leave the complaining to the error. A server
    /// that is away is met later: only a mistake keeps the suite from starting.
    static func check(_ settings: RedisSettings) async throws {
        let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
        let clients = try RedisClients(settings, logger: silent)
        var found: [(option: String, RedisContact?)] = []
        found.append(("--presence", await clients.presence?.contact(withinMS: contactMS)))
        found.append(("--hot", await clients.hot?.contact(withinMS: contactMS)))
        await clients.stop()
        for case (let option, .unfit(let server, let why)?) in found {
            throw StartError("Redis at \(server) cannot be used: \(why)", cure: "Change its settings or \(option)")
        }
    }

    func stop() async {
        await presence?.stop()
        await hot?.stop()
        try? await group.shutdownGracefully()
    }
}
