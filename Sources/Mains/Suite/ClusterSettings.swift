import Foundation
import NIOTransport
import Runtime

/// Where a service of a cluster is found, and what it shows of itself.
struct ClusterSettings: Equatable, Sendable {
    /// Role -> names or addresses of its instances.
    var services: [String: [PeerAddress]] = [:]
    var listen: String
    var port: Int
    /// 0: none.
    var healthPort: Int
    var name: String?
    var secret: ConfigSecret
    var adminKey: ConfigSecret

    init(_ configuration: Configuration) {
        for (role, _) in Topology.plan {
            let names = configuration.list("cluster.services.\(role)").compactMap { PeerAddress($0) }
            if !names.isEmpty { services[role] = names }
        }
        listen = configuration.text("cluster.listen") ?? ""
        port = configuration.number("cluster.port")
        healthPort = configuration.number("cluster.health-port")
        name = configuration.text("cluster.name")
        secret = configuration.secret("cluster.secret")
        adminKey = configuration.secret("cluster.admin-key")
    }

    /// Role and instance for what a process was called: `login-1` is itself, `login` alone gets the name of the file or
    /// of this host, which replicas have for themselves.
    func identity(_ word: String, host: String) throws -> (role: String, name: String) {
        let role = String(word.prefix { $0 != "-" })
        guard Topology.plan.contains(where: { $0.role == role }) else {
            throw StartError(
                "there is no service \(word)",
                cure: "Use one of \(Topology.plan.map(\.role).joined(separator: ", ")), or ROLE-NAME")
        }
        if word != role { return (role, word) }
        return (role, "\(role)-\(name ?? host)")
    }
}

/// One process of the suite: which service, over which stores, and where the others are.
struct ServiceSetup: Sendable {
    var name: String
    var role: String
    var settings: SuiteSettings
    var access: DemoAccess
    var listenHost: String
    var port: Int
    /// Addresses that do not change.
    var peers: [PeerAddress] = []
    /// Names that are looked up again and again.
    var names: [PeerAddress] = []
    var healthPort = 0
    /// Made by API when it serves: the supervisor waits for it.
    var readyFile: String?

    /// Of a topology: everything on this machine.
    init(_ topology: Topology, _ service: Topology.Service) throws {
        name = service.name
        role = service.role
        settings = topology.settings
        if let fault = topology.fault { settings.fault = try InjectedFaults(named: fault) }
        access = try DemoAccess.load(folder: topology.data)
        listenHost = "127.0.0.1"
        port = service.port
        peers = topology.peers(of: service).map { PeerAddress(host: "127.0.0.1", port: $0) }
        readyFile = topology.apiReadyPath
    }

    /// Of a cluster.
    ///
    /// - Parameter word: the role, or the instance's name.
    init(_ configuration: Configuration, _ word: String) throws {
        let cluster = ClusterSettings(configuration)
        guard !cluster.services.isEmpty else {
            throw StartError(
                "the configuration has no cluster.services, so \(word) would find nobody",
                cure: "Write them as in Deploy/config/martlet.cluster.yaml, or use `martlet up`")
        }
        settings = SuiteSettings(configuration)
        (role, name) = try cluster.identity(word, host: ProcessInfo.processInfo.hostName)
        listenHost = cluster.listen
        port = cluster.port
        healthPort = cluster.healthPort
        names = Topology.needs(of: role, settings).flatMap { cluster.services[$0] ?? [] }
        let secret = try cluster.secret.read(of: "the cluster") ?? ""
        let adminKey = try cluster.adminKey.read(of: "the API's administrators") ?? ""
        if role == "api", settings.demoApp {
            do {
                try FileManager.default.createDirectory(atPath: settings.data, withIntermediateDirectories: true)
            } catch {
                throw StartError("cannot create \(settings.data)", cure: "Correct suite.data, or write demo.app: false")
            }
            access = try DemoAccess.load(folder: settings.data)
        } else {
            access = DemoAccess(app: "", keyID: "", secret: Data(), users: [:], adminKey: "", clusterSecret: "")
        }
        access.clusterSecret = secret
        access.adminKey = adminKey
    }
}

extension ConfigSecret {
    /// - Parameter of: whose it is, for the message.
    func read(of owner: String) throws -> String? {
        if let text { return text }
        return try file.map { try SecretFile.read($0, of: owner) }
    }
}
