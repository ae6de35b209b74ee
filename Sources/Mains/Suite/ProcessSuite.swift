import Foundation
import Runtime

/// The suite as separate processes under a supervisor: the same services, over TCP, on the stores of martlet-store.
public struct ProcessSuite: Sendable {
    let settings: SuiteSettings
    let access: DemoAccess

    public init(settings: SuiteSettings, access: DemoAccess) {
        self.settings = settings
        self.access = access
    }

    /// Runs until SIGINT or SIGTERM.
    public func run(readyFile: String?) async throws {
        var settings = settings
        let ports = FreePorts()
        if settings.tcpPort == 0 { settings.tcpPort = try ports.next() }
        if settings.webSocketPort == 0 { settings.webSocketPort = try ports.next() }
        if settings.httpPort == 0 { settings.httpPort = try ports.next() }
        try Listeners(settings: settings, access: access, logger: .init(label: "martlet")).checkPorts(rpc: false)
        try await RedisClients.check(settings.redis)
        // What is wrong with a database is told once, by this process, and the tables are made before fourteen want to.
        try MySQLBackends(settings.mysql, logger: .init(label: "martlet")).stop()
        let topology = Topology(
            // No martlet-store where nothing is its.
            services: try Topology.plan(counts: settings.counts).filter {
                !settings.isAllReal || $0.role != Topology.store
            }.flatMap {
                role, count in
                try (1...count).map { .init(name: "\(role)-\($0)", role: role, port: try ports.next()) }
            },
            settings: settings)
        ports.release()
        let programs = try settings.executables.map(ServicePrograms.folder) ?? .serving(ownPath())
        try programs.check(topology.services)
        try? FileManager.default.removeItem(atPath: topology.apiReadyPath)
        let path = settings.data + "/topology.json"
        try topology.write(path)
        let supervisor = Supervisor(
            programs: programs, topologyPath: path, pidsPath: settings.data + "/pids.json")
        try supervisor.start(topology)
        guard await ready(topology) else {
            supervisor.stop()
            throw StartError(
                "the services did not come up within 60 s", cure: "Look at the log above for the one that failed")
        }
        do {
            try Addresses(
                host: settings.host, httpPort: settings.httpPort, wsPort: settings.webSocketPort,
                tcpPort: settings.tcpPort, rpcPort: topology.services.first { $0.role == "route" }?.port ?? 0,
                pid: getpid()
            ).announce(settings: settings, access: access, readyFile: readyFile)
            await StopSignal.wait()
        } catch {
            supervisor.stop()
            throw error
        }
        supervisor.stop()
    }

    /// True once the API answers for the services behind it and clients can connect.
    private func ready(_ topology: Topology) async -> Bool {
        for _ in 0..<600 {
            if FileManager.default.fileExists(atPath: topology.apiReadyPath),
                PortProbe.isListening(host: topology.host, port: topology.tcpPort)
            {
                return true
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        return false
    }

    private func ownPath() throws -> String {
        guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
            throw StartError("this program does not find its own file", cure: "Is /proc mounted?")
        }
        return path
    }
}

/// Ports that were free a moment ago; held until all are chosen so that none is given twice.
final class FreePorts {
    private var held: [Int32] = []

    func next() throws -> Int {
        guard let (port, socket) = PortProbe.free() else {
            throw StartError("no free port on 127.0.0.1", cure: "Close some programs")
        }
        held.append(socket)
        return port
    }

    func release() {
        for socket in held { close(socket) }
        held = []
    }
}
