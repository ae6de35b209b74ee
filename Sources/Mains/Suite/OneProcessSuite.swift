import APIRole
import Foundation
import Logging
import LoginRole
import NIOPosix
import NIOTransport
import RPC
import Runtime

/// The whole suite in one process over the embedded stores. Every event loop has its own Login, Route, IM and
/// MsgProxy, so
/// that a message stays on its thread up to the log; the stores and what follows the log have threads of their own.
public struct OneProcessSuite: Sendable {
    let settings: SuiteSettings
    let access: DemoAccess

    public init(settings: SuiteSettings, access: DemoAccess) {
        self.settings = settings
        self.access = access
    }

    /// Runs until SIGINT or SIGTERM, or until something that listens fails.
    public func run(readyFile: String?) async throws {
        let logger = Logger(label: "martlet")
        let listeners = Listeners(settings: settings, access: access, logger: logger)
        try listeners.checkPorts(rpc: true)
        let wiring = Wiring(logger: logger, faults: settings.fault)
        try await RedisClients.check(settings.redis)
        let stores = try EmbeddedStores(
            folder: settings.data, files: settings.fault.files, pushLog: .memory,
            redis: try RedisClients(settings.redis, logger: logger), mysql: settings.mysql, hostsDatabases: true,
            logger: logger)
        let storage = Lane.thread(name: "storage")
        stores.host(on: wiring, storage: storage, logs: settings.log == nil ? ["msg", "push"] : ["push"])
        let kafka = try settings.log.map {
            try KafkaLogs($0, logs: ["msg"], on: wiring, lane: stores.logLane, instance: "suite")
        }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: Self.loopCount(settings.loops))
        let lanes = group.makeIterator().enumerated().map { Lane(name: "loop-\($0)", loop: $1) }
        wiring.pushProxy("pushproxy", on: storage)
        wiring.pushServer("pushserver", on: storage)
        wiring.online("online", on: storage)
        wiring.msgReader("msgreader", on: storage)
        wiring.msgWriter("msgwriter", on: storage, apart: settings.mysql.recent != nil)
        for (index, lane) in lanes.enumerated() {
            wiring.route("route-\(index)", on: lane)
            wiring.msgProxy("msgproxy-\(index)", on: lane)
            wiring.im("im-\(index)", on: lane)
            wiring.pushWorker("pushworker-\(index)", on: lane)
        }
        wiring.user("user", on: lanes[0])
        if settings.demoApp {
            let caller = RoleCaller(directory: wiring.directory, lane: storage)
            try await DemoApp(access: access).provide(through: caller)
        }
        let gateway = try await listeners.startGateway(wiring: wiring, group: group, lanes: lanes, name: "login")
        let (tcpPort, wsPort) = (gateway.ports[0], gateway.ports[1])
        wiring.announce(.login, gateway.instances)
        let node = try Node(
            directory: wiring.directory, hosted: { wiring.hostedRoles }, secret: access.clusterSecret, group: group,
            logger: logger)
        let rpcPort = try await node.listen(host: settings.host, port: settings.rpcPort)
        try await listeners.serveHTTP(webSocketPort: wsPort, wiring: wiring, lane: storage) { httpPort in
            try Addresses(
                host: settings.host, httpPort: httpPort, wsPort: wsPort, tcpPort: tcpPort, rpcPort: rpcPort,
                pid: getpid()
            ).announce(settings: settings, access: access, readyFile: readyFile)
            await StopSignal.wait()
            try await gateway.shutdown()
        }
        await node.stop()
        try await group.shutdownGracefully()
        kafka?.stop()
        await stores.stop()
        storage.stop()
    }

    /// Half of the cores, at least one: the other half is for the stores' threads.
    static func loopCount(_ wanted: Int) -> Int {
        wanted > 0 ? wanted : max(1, ProcessInfo.processInfo.activeProcessorCount / 2)
    }
}
