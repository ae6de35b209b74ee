import APIRole
import Foundation
import Logging
import LoginRole
import NIOPosix
import RPC
import Runtime

/// What clients and app servers connect to: the gateway's two ports and the HTTP port.
struct Listeners: Sendable {
    let settings: SuiteSettings
    let access: DemoAccess
    let logger: Logger

    /// Every service that `/health` expects to find.
    static let expectedRoles = [
        "login", "online", "route", "im", "user", "msgproxy", "msgwriter", "msgreader", "pushproxy", "pushserver",
        "pushworker",
    ]

    /// A taken port is told before anything is opened, with the option that chooses another.
    ///
    /// - Parameter rpc: whether `--rpc-port` is listened on; separate processes have ports of their own for that.
    func checkPorts(rpc: Bool) throws {
        var ports = [("http", settings.httpPort), ("ws", settings.webSocketPort), ("tcp", settings.tcpPort)]
        if rpc { ports.append(("rpc", settings.rpcPort)) }
        for (name, port) in ports where port != 0 {
            if let problem = PortProbe.problem(host: settings.host, port: port) {
                throw StartError(
                    "port \(port) on \(settings.host) \(problem)",
                    cure: "Stop what uses it, or choose another with --\(name)-port")
            }
        }
    }

    /// Opens the client ports.
    func startGateway(
        wiring: Wiring, group: MultiThreadedEventLoopGroup, lanes: [Lane], name: String
    ) async throws -> GatewayServer {
        let tls = settings.tls.map { GatewayTLS(certificatePath: $0.certificate, keyPath: $0.key) }
        var login = LoginConfig()
        login.testFault = settings.fault.login
        let config = GatewayConfig(
            listeners: [
                GatewayListener(.tcp, host: settings.host, port: settings.tcpPort, secure: tls != nil),
                GatewayListener(.webSocket, host: settings.host, port: settings.webSocketPort, secure: tls != nil),
            ],
            tls: tls, login: login)
        do {
            return try await GatewayServer.start(
                config: config, group: group, lanes: lanes, directory: wiring.directory, namePrefix: name,
                logger: logger)
        } catch let error as GatewayError {
            throw StartError(error.description, cure: "See `martlet up --help` for the ports and files")
        }
    }

    /// Serves HTTP while `body` runs, which learns the port.
    func serveHTTP(
        expecting roles: [String] = Self.expectedRoles, webSocketPort: Int, wiring: Wiring, lane: Lane,
        while body: @escaping @Sendable (_ httpPort: Int) async throws -> Void
    ) async throws {
        let config = APIConfig(
            host: settings.host, port: settings.httpPort, adminKey: access.adminKey,
            demo: settings.demoLogin ? DemoLogin(appID: access.app, passwords: access.users) : nil,
            webFolder: WebFolder.path(), webSocket: .port(webSocketPort, tls: settings.tls != nil),
            tls: settings.tls.map { APITLS(certificatePath: $0.certificate, keyPath: $0.key) }, expectedRoles: roles,
            version: MartletVersion.number,
            forwardedHeader: settings.forwardedHeader
                ?? ProcessInfo.processInfo.environment["MARTLET_FORWARDED_HEADER"])
        do {
            try await APIServer.start(
                config: config, directory: wiring.directory, lane: lane, logger: logger
            ) { try await body($0.port) }
        } catch let error as APIStartError {
            throw StartError(error.description, cure: "See `martlet up --help` for the ports")
        }
    }
}

/// The addresses of a running suite: printed for people, written to `--ready-file` for programs.
struct Addresses: Codable, Sendable {
    var host: String
    var httpPort: Int
    var wsPort: Int
    var tcpPort: Int
    var rpcPort: Int
    var pid: Int32

    enum CodingKeys: String, CodingKey {
        case host, pid
        case httpPort = "http_port"
        case wsPort = "ws_port"
        case tcpPort = "tcp_port"
        case rpcPort = "rpc_port"
    }

    func announce(settings: SuiteSettings, access: DemoAccess, readyFile: String?) throws {
        let users = access.users.sorted { $0.key < $1.key }.map { "\($0.key) / \($0.value)" }
        let secure = settings.tls != nil
        let http = "\(secure ? "https" : "http")://\(host):\(httpPort)"
        var lines = [
            "", "  Martlet is running.", "", "    chat page   \(http)/",
            settings.demoLogin
                ? "    log in as   " + users.joined(separator: "    ")
                : "    demo login  "
                    + (settings.demoApp ? DemoRule.whyOff(host: host) : "off, as there is no demo app"),
            "    terminal    martlet chat --user alice --to bob\(secure ? " --tls" : "")    "
                + "(in this folder, another window)",
            "    HTTP API    \(http)/v1    TCP \(host):\(tcpPort)    WebSocket \(host):\(wsPort)/ws"
                + (secure ? "    all with TLS" : ""),
            "    data        \(settings.data)    stop with Ctrl-C", "",
        ]
        if WebFolder.path() == nil {
            lines.insert("    (no chat page: its files were not found; name their folder in MARTLET_WEB)", at: 4)
        }
        FileHandle.standardOutput.write(Data((lines.joined(separator: "\n") + "\n").utf8))
        guard let readyFile else { return }
        do {
            try JSONEncoder().encode(self).write(to: URL(fileURLWithPath: readyFile), options: .atomic)
        } catch {
            throw StartError("cannot write \(readyFile)", cure: "Choose another --ready-file")
        }
    }
}

/// Where the page's files are: beside the executable in an installation, in the sources during development.
enum WebFolder {
    static func path() -> String? {
        var candidates: [String] = []
        if let named = ProcessInfo.processInfo.environment["MARTLET_WEB"] { candidates.append(named) }
        if let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
            var folder = URL(fileURLWithPath: own).deletingLastPathComponent()
            candidates.append(folder.appendingPathComponent("web").path)
            candidates.append(folder.appendingPathComponent("../share/martlet/web").standardized.path)
            for _ in 0..<4 {
                folder.deleteLastPathComponent()
                candidates.append(folder.appendingPathComponent("Sources/Clients/Web").path)
            }
        }
        return candidates.first { FileManager.default.fileExists(atPath: $0 + "/index.html") }
    }
}
