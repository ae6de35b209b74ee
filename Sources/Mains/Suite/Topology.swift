import Foundation
import RPC
import Runtime

/// Which service runs where, when the services are separate processes: a file that every process reads, written by the
/// supervisor, or by an operator where systemd is the supervisor.
public struct Topology: Codable, Equatable, Sendable {
    public struct Service: Codable, Equatable, Sendable {
        /// Unique name, for example `msgwriter-2`.
        public var name: String
        public var role: String
        /// Port of the internal RPC on 127.0.0.1.
        public var port: Int
    }

    public var services: [Service]
    public var data: String
    public var host: String
    public var tcpPort: Int
    public var webSocketPort: Int
    public var httpPort: Int
    public var tlsCertificate: String?
    public var tlsKey: String?
    /// Whether the demo users may log in with their passwords.
    public var demoLogin: Bool
    /// Which stores martlet-store has in Redis.
    public var redis: RedisSettings?
    /// Where the logs live; nil: in the data folder, served by martlet-store.
    public var log: LogSettings?
    /// Which stores are in databases; whoever needs one talks to it itself.
    public var mysql: MySQLSettings?
    /// For tests of the checker only.
    public var fault: String?
    /// Left out: true.
    public var demoApp: Bool?
    /// Left out: notice.
    public var logLevel: String?
    /// The proxy's header with the clients' addresses.
    public var forwardedHeader: String?

    init(services: [Service], settings: SuiteSettings) {
        self.services = services
        data = settings.data
        host = settings.host
        tcpPort = settings.tcpPort
        webSocketPort = settings.webSocketPort
        httpPort = settings.httpPort
        tlsCertificate = settings.tls?.certificate
        tlsKey = settings.tls?.key
        demoLogin = settings.demoLogin
        redis = settings.redis
        log = settings.log
        mysql = settings.mysql
        fault = settings.faultName
        demoApp = settings.demoApp
        logLevel = settings.logLevel
        forwardedHeader = settings.forwardedHeader
    }

    /// What the listening services need to know.
    var settings: SuiteSettings {
        var settings = SuiteSettings(
            data: data, host: host, httpPort: httpPort, webSocketPort: webSocketPort, tcpPort: tcpPort,
            rpcPort: 0, tls: tlsCertificate.flatMap { certificate in tlsKey.map { (certificate, $0) } },
            demoLogin: demoLogin, loops: 1)
        settings.log = log
        settings.redis = redis ?? RedisSettings()
        settings.mysql = mysql ?? MySQLSettings()
        settings.faultName = fault
        settings.fault = (try? fault.map(InjectedFaults.init(named:))) ?? InjectedFaults()
        settings.demoApp = demoApp ?? true
        settings.logLevel = logLevel ?? settings.logLevel
        settings.forwardedHeader = forwardedHeader
        return settings
    }

    /// Made by API when it serves: the supervisor waits for it.
    var apiReadyPath: String { data + "/api-ready" }

    /// The role name of the process that owns the data folder.
    public static let store = "store"

    /// Every service of the suite and how many processes of it `martlet up --processes` starts, dependencies first.
    public static let plan: [(role: String, count: Int)] = [
        (store, 1), ("msgproxy", 1), ("pushproxy", 1), ("msgreader", 1), ("user", 1), ("online", 1), ("route", 1),
        ("msgwriter", 2), ("pushworker", 1), ("pushserver", 1), ("im", 1), ("api", 1), ("login", 1),
    ]

    /// Services of which there is one: whoever owns the data folder or listens for clients on a given port.
    static let single: Set = [store, "api", "login"]

    /// The plan with other numbers of some services; those that nobody knows are left out.
    static func plan(counts: [String: Int]) -> [(role: String, count: Int)] {
        plan.map { ($0.role, counts[$0.role] ?? $0.count) }
    }

    /// Whom a role calls. Answers and down-calls use the same connections, so an arrow is needed in one direction only.
    public static let needs: [String: [String]] = [
        store: [],
        "msgproxy": [store],
        "pushproxy": [store, "online", "route"],
        "msgreader": [store, "user", "route"],
        "user": [store, "msgreader", "pushproxy", "route"],
        "online": [store, "pushproxy", "route"],
        "route": [],
        "msgwriter": [store, "pushproxy", "user"],
        "pushworker": ["route", "online"],
        "pushserver": [store, "online", "pushworker"],
        "im": ["route", "user", "msgproxy", "msgreader", "pushproxy"],
        "api": ["route", "user", "online"],
        "login": ["route", "online", "user"],
    ]

    /// The same over these stores: martlet-store is there only where something is in a data folder.
    static func needs(of role: String, _ settings: SuiteSettings) -> [String] {
        (needs[role] ?? []).filter { $0 != store || !settings.isAllReal }
    }

    public func service(named name: String) -> Service? { services.first { $0.name == name } }

    /// The ports that a service connects to.
    public func peers(of service: Service) -> [Int] {
        let wanted = Self.needs(of: service.role, settings)
        return services.filter { wanted.contains($0.role) && $0.name != service.name }.map(\.port)
    }

    public static func read(_ path: String) throws -> Topology {
        guard let data = FileManager.default.contents(atPath: path),
            let topology = try? JSONDecoder().decode(Topology.self, from: data)
        else {
            throw StartError(
                "\(path) is not a topology file",
                cure: "Start the services with `martlet up --processes`, or see Deploy/config/topology.json")
        }
        return topology
    }

    public func write(_ path: String) throws {
        // Its owner's alone: a URL of Redis may have a password in it.
        let name = try PrivateFile.write(try JSONEncoder().encode(self), beside: path)
        guard rename(name, path) == 0 else { throw PrivateFile.trouble(path, removing: name) }
    }
}
