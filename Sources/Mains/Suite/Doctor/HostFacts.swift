import Foundation
import Ports

/// What this machine gives to the suite. Pure but for `gather`.
struct HostFacts: Equatable, Sendable {
    /// A port that will be listened on, and what is wrong with that.
    struct Port: Equatable, Sendable {
        var key: String
        var host: String
        var port: Int
        var problem: String?
    }

    var openFiles: UInt64
    var ports: [Port] = []
    /// The data folder, or the nearest folder above it that is there; nil: there is none to be.
    var folder: String?
    var freeBytes: UInt64 = 0
    var isWritable = true

    /// A Login has a descriptor for each client.
    static let goodFiles: UInt64 = 16_384
    static let leastFiles: UInt64 = 1024
    static let goodBytes: UInt64 = 1 << 30
    /// What a start wants to be free.
    static let leastBytes: UInt64 = 16 << 20

    var findings: [Finding] {
        [files] + ports.filter { $0.port != 0 }.map(Self.finding) + disk
    }

    private var files: Finding {
        let subject = "host: open files"
        if openFiles >= Self.goodFiles { return Finding(.ok, subject, "\(openFiles)") }
        return Finding(
            openFiles < Self.leastFiles ? .error : .warning, subject,
            "\(openFiles), and every client of a Login takes one",
            cure: "Raise it: ulimit -n, or LimitNOFILE of the unit")
    }

    private static func finding(_ port: Port) -> Finding {
        let subject = "host: \(port.key) \(port.host):\(port.port)"
        guard let problem = port.problem else { return Finding(.ok, subject, "it is free") }
        // The suite itself may be running.
        let isTaken = problem == "is in use"
        return Finding(
            isTaken ? .warning : .error, subject, "it \(problem)",
            cure: isTaken ? "Nothing, if that is Martlet; else stop it, or choose another port" : "Choose another one")
    }

    private var disk: [Finding] {
        guard let folder else { return [] }
        let subject = "host: \(folder)"
        guard isWritable else {
            return [Finding(.error, subject, "it cannot be written", cure: "Make it writable, or correct suite.data")]
        }
        let found = "\(freeBytes >> 20) MiB are free"
        if freeBytes >= Self.goodBytes { return [Finding(.ok, subject, found)] }
        return [Finding(freeBytes < Self.leastBytes ? .error : .warning, subject, found, cure: "Free some space")]
    }

    /// Looks at this machine.
    static func gather(_ settings: SuiteSettings, _ cluster: ClusterSettings) -> HostFacts {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        var facts = HostFacts(openFiles: UInt64(limit.rlim_cur))
        var ports = [
            ("listeners.http-port", settings.host, settings.httpPort),
            ("listeners.ws-port", settings.host, settings.webSocketPort),
            ("listeners.tcp-port", settings.host, settings.tcpPort),
        ]
        if cluster.services.isEmpty {
            ports.append(("listeners.rpc-port", settings.host, settings.rpcPort))
        } else {
            ports.append(("cluster.port", cluster.listen, cluster.port))
            ports.append(("cluster.health-port", cluster.listen, cluster.healthPort))
        }
        facts.ports = ports.map { key, host, port in
            Port(key: key, host: host, port: port, problem: port == 0 ? nil : PortProbe.problem(host: host, port: port))
        }
        if !settings.isAllReal || settings.demoApp { facts.look(at: settings.data) }
        return facts
    }

    private mutating func look(at path: String) {
        var path = URL(fileURLWithPath: path).standardized.path
        while !FileManager.default.fileExists(atPath: path), path != "/" {
            path = URL(fileURLWithPath: path).deletingLastPathComponent().path
        }
        var space = statvfs()
        folder = path
        isWritable = access(path, W_OK) == 0
        if statvfs(path, &space) == 0 { freeBytes = UInt64(space.f_bavail) * UInt64(space.f_frsize) }
    }
}
