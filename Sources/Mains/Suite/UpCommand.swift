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

    @Option(help: "Folder for all data; made when missing (default: ./martlet-data).")
    public var data: String?
    @Option(help: "Address to listen on (default: 127.0.0.1).")
    public var host: String?
    @Option(help: "Port of the page and the HTTP API; 0 picks a free one (default: 7780).")
    public var httpPort: Int?
    @Option(help: "Port for WebSocket clients; 0 picks a free one (default: 7781).")
    public var wsPort: Int?
    @Option(help: "Port for TCP clients; 0 picks a free one (default: 7782).")
    public var tcpPort: Int?
    @Option(help: "Port where your own services connect (one process); 0 picks a free one (default: 7783).")
    public var rpcPort: Int?
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
    @Option(help: "Event loops for connections in one process; 0 means half of the cores (default: 0).")
    public var loops: Int?
    @OptionGroup public var backends: BackendOptions
    @Option(help: "Write the addresses as JSON to this file once clients can connect.")
    public var readyFile: String?
    @Option(help: ArgumentHelp("Break one thing on purpose, for tests of the checker.", visibility: .hidden))
    public var fault: String?

    public init() {}

    public func validate() throws {
        let ports = [("http", httpPort), ("ws", wsPort), ("tcp", tcpPort), ("rpc", rpcPort)]
        for (name, port) in ports where !(0...65535).contains(port ?? 0) {
            throw ValidationError("--\(name)-port must be between 0 and 65535")
        }
        guard (tlsCert == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-cert and --tls-key go together")
        }
        guard executables == nil || processes else { throw ValidationError("--executables needs --processes") }
        guard count.isEmpty || processes else { throw ValidationError("--count needs --processes") }
        guard (0...64).contains(loops ?? 0) else { throw ValidationError("--loops must be between 0 and 64") }
    }

    public func run() async throws {
        StopSignal.ignoreFileLimit()
        do {
            var settings = SuiteSettings(try Configuration.load(file: backends.config, options: try given()))
            LogSetup.bootstrap(level: Logger.Level(rawValue: settings.logLevel) ?? .notice)
            settings.executables = executables
            settings.counts = Dictionary(count.map { ($0.role, $0.number) }) { $1 }
            settings.faultName = fault
            settings.fault = try fault.map(InjectedFaults.init(named:)) ?? InjectedFaults()
            let folder = try DataFolder(path: settings.data)
            let access = try DemoAccess.load(folder: settings.data)
            if processes {
                try await ProcessSuite(settings: settings, access: access).run(readyFile: readyFile)
            } else {
                try await OneProcessSuite(settings: settings, access: access).run(readyFile: readyFile)
            }
            withExtendedLifetime(folder) {}
        } catch {
            try StartFailure.tell(error, by: "martlet")
        }
    }
}

extension UpCommand {
    /// The options as values of the configuration's keys.
    func given() throws -> ConfigOptions {
        var options = ConfigOptions()
        options.set("suite.data", data, "--data")
        options.set("suite.loops", loops, "--loops")
        options.set("listeners.host", host, "--host")
        options.set("listeners.http-port", httpPort, "--http-port")
        options.set("listeners.ws-port", wsPort, "--ws-port")
        options.set("listeners.tcp-port", tcpPort, "--tcp-port")
        options.set("listeners.rpc-port", rpcPort, "--rpc-port")
        options.set("listeners.tls.certificate", tlsCert, "--tls-cert")
        options.set("listeners.tls.key", tlsKey, "--tls-key")
        if let demoLogin {
            options.set("demo.login", demoLogin ? "always" : "never", demoLogin ? "--demo-login" : "--no-demo-login")
        }
        try backends.put(into: &options)
        return options
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
    /// Whether the demo app is made at start.
    public var demoApp = true
    /// A level of swift-log; MARTLET_LOG wins.
    public var logLevel = "notice"
    /// The proxy's header with the clients' addresses; nil: there is no proxy.
    public var forwardedHeader: String?
    /// Folder of the services' own executables; nil: this program serves them.
    public var executables: String?
    /// Where the logs live when they are not in the data folder.
    public var log: LogSettings?
    public var redis = RedisSettings()
    public var mysql = MySQLSettings()
    /// Processes of a service, where they are not as many as `Topology.plan` has.
    public var counts: [String: Int] = [:]
    public var faultName: String?
    public var fault = InjectedFaults()

    /// Nothing is in a data folder or in one process's memory, so that every process goes to the stores by itself.
    var isAllReal: Bool {
        log != nil && redis.presence != nil && redis.hot != nil && mysql.recent != nil && mysql.relational != nil
    }
}
