import Foundation
import Logging
import NIOPosix
import NIOTransport
import RPC
import Runtime
import Wire

/// One service as a process of its own: its roles on one lane, its node among the others.
struct ServiceProcess: Sendable {
    let setup: ServiceSetup
    /// Longest wait for the log when a consumer leaves its group.
    private static let leaveMS: UInt32 = 1000

    func run() async throws {
        let wiring = Wiring(logger: Logger(label: setup.name), faults: setup.settings.fault)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let lane = Lane(name: setup.name, loop: group.next())
        let node: Node
        do {
            node = try Node(
                directory: wiring.directory, hosted: { wiring.hostedRoles }, secret: setup.access.clusterSecret,
                group: group, logger: wiring.logger)
        } catch let error as NodeError {
            throw StartError("\(error)", cure: "Put a longer one into the file of cluster.secret-file")
        }
        let stores = try host(on: wiring, lane: lane)
        let own = try await OwnStores(setup, on: wiring, lane: lane)
        let health = ServiceHealth(
            name: setup.name,
            needs: Topology.needs(of: setup.role, setup.settings).filter { $0 != Topology.store }
                .map(RoleName.init(rawValue:)), directory: wiring.directory)
        let healthPort =
            setup.healthPort == 0
            ? nil
            : try await HealthPort.start(health, group: group, host: setup.listenHost, port: setup.healthPort)
        do {
            try await node.listen(host: setup.listenHost, port: setup.port)
        } catch {
            throw StartError(
                "port \(setup.port) on \(setup.listenHost) cannot be listened on (\(error))", cure: "Start again")
        }
        node.connect(to: setup.peers)
        node.discover(setup.names)
        try await serve(wiring: wiring, health: health, group: group, lane: lane)
        await healthPort?.stop()
        await node.stop()
        await own.stop()
        await stores?.stop()
        try await group.shutdownGracefully()
    }

    /// Puts the service's role on the lane; the store's roles have lanes of their own.
    private func host(on wiring: Wiring, lane: Lane) throws -> EmbeddedStores? {
        let name = setup.name
        let settings = setup.settings
        switch setup.role {
        case Topology.store:
            let stores = try EmbeddedStores(
                folder: settings.data, files: wiring.faults.files, pushLog: .folder,
                redis: try RedisClients(settings.redis, logger: wiring.logger),
                mysql: settings.mysql, hostsDatabases: false, logger: wiring.logger)
            let logs: Set<String> = settings.log == nil ? ["msg", "push"] : []
            stores.host(on: wiring, storage: Lane.thread(name: "storage"), logs: logs)
            return stores
        case "msgproxy": wiring.msgProxy(name, on: lane)
        case "pushproxy": wiring.pushProxy(name, on: lane)
        case "msgreader": wiring.msgReader(name, on: lane)
        case "user": wiring.user(name, on: lane)
        case "online": wiring.online(name, on: lane)
        case "route": wiring.route(name, on: lane)
        case "msgwriter": wiring.msgWriter(name, on: lane, apart: settings.mysql.recent != nil)
        case "pushworker": wiring.pushWorker(name, on: lane)
        case "pushserver": wiring.pushServer(name, on: lane)
        case "im": wiring.im(name, on: lane)
        case "login", "api": break
        default:
            throw StartError("there is no service \(setup.role)", cure: "Correct the topology file")
        }
        return nil
    }

    /// Login and API listen for clients; the others only wait for the end.
    private func serve(
        wiring: Wiring, health: ServiceHealth, group: MultiThreadedEventLoopGroup, lane: Lane
    ) async throws {
        let settings = setup.settings
        let listeners = Listeners(settings: settings, access: setup.access, logger: wiring.logger)
        switch setup.role {
        case "login":
            let gateway = try await listeners.startGateway(
                wiring: wiring, group: group, lanes: [lane], name: setup.name)
            wiring.announce(.login, gateway.instances)
            await StopSignal.wait()
            health.drain()
            try await gateway.shutdown()
        case "api":
            if settings.demoApp {
                try await DemoApp(access: setup.access).provide(
                    through: RoleCaller(directory: wiring.directory, lane: lane))
            }
            let readyFile = setup.readyFile
            try await listeners.serveHTTP(
                expecting: ["route", "user", "online"], webSocketPort: settings.webSocketPort, wiring: wiring,
                lane: lane
            ) { _ in
                if let readyFile { _ = FileManager.default.createFile(atPath: readyFile, contents: Data()) }
                await StopSignal.wait()
                health.drain()
            }
        case "msgwriter", "pushserver":
            await StopSignal.wait()
            health.drain()
            // Its partitions move at once. When the log does not answer they move when it misses us.
            let member = Address.instance(RoleName(rawValue: setup.role), setup.name)
            let caller = RoleCaller(directory: wiring.directory, lane: lane)
            _ = await caller.call(member, .logLeave(LogLeave()), timeoutMS: Self.leaveMS)
        default:
            await StopSignal.wait()
            health.drain()
        }
    }
}
