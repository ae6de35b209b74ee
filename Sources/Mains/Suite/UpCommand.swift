import ArgumentParser
import Foundation
import Logging
import Runtime

/// `martlet up`: the whole suite on this machine.
public struct UpCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Start the whole suite on this machine, with nothing to install.",
        discussion: """
            One process with embedded stores by default; with --processes every service is a process of its own, over
            TCP, supervised and restarted. Messages live in the data folder and are there again after a restart.
            """)

    @Option(help: "Folder for all data; made when missing.")
    public var data = "./martlet-data"
    @Option(help: "Address to listen on.")
    public var host = "127.0.0.1"
    @Option(help: "Port of the page and the HTTP API; 0 picks a free one.")
    public var httpPort = 7780
    @Option(help: "Port for WebSocket clients; 0 picks a free one.")
    public var wsPort = 7781
    @Option(help: "Port for TCP clients; 0 picks a free one.")
    public var tcpPort = 7782
    @Option(help: "Port where your own services connect (one process); 0 picks a free one.")
    public var rpcPort = 7783
    @Option(help: "TLS certificate chain (PEM) for the page, the HTTP API and the client ports; needs --tls-key.")
    public var tlsCert: String?
    @Option(help: "TLS private key (PEM).")
    public var tlsKey: String?
    @Flag(
        inversion: .prefixedNo,
        help: ArgumentHelp(
            "Let the demo users log in with the passwords that are printed, by the page and by /demo/login. "
                + "Left out: only when --host is a loopback address."))
    public var demoLogin: Bool?
    @Flag(help: "Run every service as a process of its own.")
    public var processes = false
    @Option(help: "With --processes: start martlet-login, martlet-online ... of this folder instead of this program.")
    public var executables: String?
    @Option(
        help: ArgumentHelp(
            "With --processes: so many processes of a service, for example msgwriter=4; may be repeated.",
            valueName: "service=number"))
    public var count: [ServiceCount] = []
    @Option(help: "Event loops for connections in one process; 0 means half of the cores.")
    public var loops = 0
    @OptionGroup public var backends: BackendOptions
    @Option(help: "Write the addresses as JSON to this file once clients can connect.")
    public var readyFile: String?
    @Option(help: ArgumentHelp("Break one thing on purpose, for tests of the checker.", visibility: .hidden))
    public var fault: String?

    public init() {}

    public func validate() throws {
        let ports = [("http", httpPort), ("ws", wsPort), ("tcp", tcpPort), ("rpc", rpcPort)]
        for (name, port) in ports where !(0...65535).contains(port) {
            throw ValidationError("--\(name)-port must be between 0 and 65535")
        }
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key go together")
        }
        guard executables == nil || processes else { throw ValidationError("--executables needs --processes") }
        guard count.isEmpty || processes else { throw ValidationError("--count needs --processes") }
        guard (0...64).contains(loops) else { throw ValidationError("--loops must be between 0 and 64") }
    }

    public func run() async throws {
        StopSignal.ignoreFileLimit()
        LogSetup.bootstrap(level: .notice)
        do {
            let folder = try DataFolder(path: data)
            let access = try DemoAccess.load(folder: data)
            let settings = SuiteSettings(
                data: data, host: host, httpPort: httpPort, webSocketPort: wsPort, tcpPort: tcpPort, rpcPort: rpcPort,
                tls: tlsCert.flatMap { certificate in tlsKey.map { (certificate, $0) } },
                demoLogin: DemoRule.isOn(host: host, wanted: demoLogin), loops: loops, executables: executables,
                log: backends.log, redis: backends.redis, mysql: backends.mysql,
                counts: Dictionary(count.map { ($0.role, $0.number) }) { $1 }, faultName: fault,
                fault: try fault.map(InjectedFaults.init(named:)) ?? InjectedFaults())
            if processes {
                try await ProcessSuite(settings: settings, access: access).run(readyFile: readyFile)
            } else {
                try await OneProcessSuite(settings: settings, access: access).run(readyFile: readyFile)
            }
            withExtendedLifetime(folder) {}
        } catch let error as StartError {
            FileHandle.standardError.write(Data("martlet: \(error)\n".utf8))
            throw ExitCode(1)
        }
    }
}

/// What `martlet up` was asked for.
public struct SuiteSettings: Sendable {
    public var data: String
    public var host: String
    public var httpPort: Int
    public var webSocketPort: Int
    public var tcpPort: Int
    public var rpcPort: Int
    public var tls: (certificate: String, key: String)?
    /// Whether the demo users may log in with their passwords.
    public var demoLogin: Bool
    public var loops: Int
    /// Folder of the services' own executables; nil: this program serves them.
    public var executables: String?
    /// Where the logs live when they are not in the data folder: an address for `KafkaSettings.parse`.
    public var log: String?
    public var redis = RedisSettings()
    public var mysql = MySQLSettings()
    /// Processes of a service, where they are not as many as `Topology.plan` has.
    public var counts: [String: Int] = [:]
    public var faultName: String?
    public var fault: InjectedFaults
}
