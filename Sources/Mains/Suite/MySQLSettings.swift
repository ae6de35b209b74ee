import Foundation
import Logging
import MySQLStore
import Ports
import RPC
import Runtime

/// Which of the stores are in MariaDB or MySQL instead of in the data folder.
public struct MySQLSettings: Codable, Equatable, Sendable {
    /// The recent store and its shards; nil: in the data folder.
    public var recent: MySQLPlace?
    /// Apps, users, the user index and the map of the shards; nil: in the data folder.
    public var relational: MySQLPlace?

    /// Buckets of the log, which the map of the shards has to have.
    public static let buckets = 8
}

/// The databases of one store, and how to get there. The password is named by its file, or stands where nobody else
/// reads it.
public struct MySQLPlace: Codable, Equatable, Sendable {
    /// `MySQLConfig.init(url:)` has the form.
    public var url: String
    /// The password, or a file whose first line it is; neither: the one in the URL.
    public var password: String?
    public var passwordFile: String?
    /// PEM file of the authorities that sign the servers' certificates; nil: those of the system.
    public var authorities: String?
    /// PEM files of our own certificate and key, for servers that want one.
    public var certificate: String?
    public var key: String?

    public init(url: String) { self.url = url }

    /// The databases of one store.
    ///
    /// - Throws: `StartError` when the address, or a file that it needs, is none.
    public func config() throws -> MySQLConfig {
        guard var config = MySQLConfig(url: url) else {
            throw StartError(
                "this is no address of a database: \(Self.withoutPassword(url))",
                cure: "Write mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE, or mysqls:// for TLS")
        }
        if let password { config.password = password }
        if let passwordFile { config.password = try SecretFile.read(passwordFile, of: "the database") }
        guard config.tls != nil || [authorities, certificate, key].allSatisfy({ $0 == nil }) else {
            throw StartError("certificates for a database without TLS", cure: "Write mysqls:// instead of mysql://")
        }
        guard (certificate == nil) == (key == nil) else {
            throw StartError("a certificate for a database and its key go together", cure: "Name both files")
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

/// The stores that are in databases, opened.
struct MySQLBackends {
    /// The shards of the recent store; nil: it is not in a database.
    let recent: MySQLShards?
    private let relational: MySQLConfig?
    /// Connections of the relational store, each with a thread.
    private static let userLanes = 2
    private let lanes: [Lane]

    /// - Parameters:
    ///   - recent, relational: whether this process uses them, if they are in databases at all.
    init(_ settings: MySQLSettings, recent: Bool = true, relational: Bool = true, logger: Logger) throws {
        let users = try settings.relational.map { try $0.config() }
        if let users, users.addresses.count > 1 {
            throw StartError("the relational store has one database", cure: "Give --relational one address")
        }
        do {
            self.recent =
                recent
                ? try settings.recent.map { place in
                    try MySQLShards(
                        place.config(), map: users, buckets: MySQLSettings.buckets, logger: logger)
                } : nil
            self.relational = relational ? users : nil
            if let config = self.relational { try Self.check(config, logger) }
        } catch let error as StoreOpenError {
            throw StartError(error.message, cure: "Nothing was changed there")
        }
        lanes =
            self.relational == nil ? [] : (0..<Self.userLanes).map { Lane.thread(name: "relational-\($0)") }
    }

    /// A database that is away is waited for later; one that is not ours to use is told now.
    private static func check(_ config: MySQLConfig, _ logger: Logger) throws {
        do { try MySQLUserStore(config.addresses[0], config).open() } catch {
            guard error.isAway else { throw error }
            logger.warning("the relational database cannot be reached yet", metadata: ["why": "\(error.message)"])
        }
    }

    var hasUsers: Bool { relational != nil }

    /// Port role `relational`: several instances, as each waits for its own connection.
    func hostUsers(on wiring: Wiring, prefix: String) {
        guard let config = relational else { return }
        for (index, lane) in lanes.enumerated() {
            let store = MySQLUserStore(config.addresses[0], config)
            wiring.host(UserStoreMachine(store), "\(prefix)relational-\(index)", on: lane)
        }
    }

    func stop() {
        recent?.stop()
        for lane in lanes { lane.stop() }
    }
}
