import Foundation
import Logging
import NIOPosix
import RPC
import RedisStore
import Runtime

/// Which of the stores are in Redis instead of in this process, and how to get there. Secrets are named by their files.
public struct RedisSettings: Codable, Equatable, Sendable {
    /// URL of presence (`RedisConfig.init(url:)` has the forms); nil: in process.
    public var presence: String?
    /// URL of the hot store; nil: in process.
    public var hot: String?
    /// A file whose first line is the password.
    public var passwordFile: String?
    /// PEM file of the authorities that sign the servers' certificates; nil: those of the system.
    public var authorities: String?

    /// The servers of one store.
    func config(_ url: String) throws -> RedisConfig {
        guard var config = RedisConfig(url: url) else {
            throw StartError(
                "this is no address of Redis: \(Self.withoutPassword(url))",
                cure:
                    "Write redis://HOST:PORT, rediss:// for TLS, redis+cluster:// or redis+sentinel://HOST:PORT/MASTER")
        }
        if let passwordFile {
            guard let text = try? String(contentsOfFile: passwordFile, encoding: .utf8) else {
                throw StartError("\(passwordFile) cannot be read", cure: "Put the password of Redis into it")
            }
            config.password = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
        }
        if let authorities {
            guard config.tls != nil else {
                throw StartError("an authority without TLS", cure: "Write rediss:// instead of redis://")
            }
            config.tls?.authorities = authorities
        }
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

    init(_ settings: RedisSettings, logger: Logger) throws {
        // One each, so that a burst of messages does not hold presence up.
        presence = try Self.client(settings, settings.presence, RedisPresenceMachine.scripts, group, logger)
        hot = try Self.client(settings, settings.hot, RedisHotMachine.scripts, group, logger)
    }

    private static func client(
        _ settings: RedisSettings, _ url: String?, _ scripts: [RedisScript], _ group: MultiThreadedEventLoopGroup,
        _ logger: Logger
    ) throws -> RedisClient? {
        guard let url else { return nil }
        let config = try settings.config(url)
        do { return try RedisClient(config: config, scripts: scripts, loop: group.next(), logger: logger) } catch {
            throw StartError("the certificates for Redis cannot be used: \(error)", cure: "Look at --redis-ca")
        }
    }

    func stop() async {
        await presence?.stop()
        await hot?.stop()
        try? await group.shutdownGracefully()
    }
}
