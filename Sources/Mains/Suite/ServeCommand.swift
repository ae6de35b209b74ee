import ArgumentParser
import Foundation
import Logging
import NIOPosix
import NIOTransport
import RPC
import Runtime
import Wire

/// Which service of which topology a process is.
public struct ServiceOptions: ParsableArguments {
    @Argument(help: "The service's name in the topology, for example im-1.")
    public var name: String
    @Option(help: "The topology file; `martlet up --processes` keeps it in the data folder as topology.json.")
    public var topology: String
    @Flag(help: ArgumentHelp("End when standard input does: whoever started this is gone.", visibility: .hidden))
    public var supervised = false

    public init() {}

    /// Runs the service until SIGINT or SIGTERM; what keeps it from starting becomes one line and exit code 1.
    ///
    /// - Parameter role: the only one that this process may have; nil for any.
    func run(role: String?, as program: String) async throws {
        StopSignal.ignoreFileLimit()
        LogSetup.bootstrap(level: .notice)
        do {
            let found = try Topology.read(topology)
            guard let service = found.service(named: name) else {
                throw StartError("the topology has no service \(name)", cure: "Use one of its names")
            }
            if let role, service.role != role {
                throw StartError(
                    "\(name) is of the role \(service.role)", cure: "Start it with martlet-\(service.role)")
            }
            if supervised { ParentWatch.start() }
            // Under a supervisor the folder is the supervisor's.
            let owns = service.role == Topology.store && !supervised
            let folder = owns ? try DataFolder(path: found.data) : nil
            // And so was the look at the servers; a store that is started again starts with what it finds.
            if owns { try await RedisClients.check(found.redis ?? RedisSettings()) }
            try await ServiceProcess(topology: found, service: service).run()
            withExtendedLifetime(folder) {}
        } catch let error as StartError {
            FileHandle.standardError.write(Data("\(program): \(error)\n".utf8))
            throw ExitCode(1)
        }
    }
}

/// `martlet serve NAME`: any service of a topology; what the supervisor starts when it was given no executables.
public struct ServeCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run one service of a topology (started by `martlet up --processes`).",
        shouldDisplay: false)

    @OptionGroup public var options: ServiceOptions

    public init() {}

    public func run() async throws { try await options.run(role: nil, as: "martlet") }
}

/// This program under a service's name, `martlet-im NAME --topology FILE`: a release is one program of many names.
public struct NamedService: AsyncParsableCommand {
    private static let prefix = "martlet-"
    @OptionGroup public var options: ServiceOptions

    public init() {}

    /// The role that a program's name stands for: "im" for ".../martlet-im"; nil when it is none of the suite's.
    public static func role(of program: String) -> String? {
        guard let name = program.split(separator: "/").last, name.hasPrefix(prefix) else { return nil }
        let role = String(name.dropFirst(prefix.count))
        return Topology.plan.contains { $0.role == role } ? role : nil
    }

    private static var own: String { role(of: CommandLine.arguments.first ?? "") ?? "" }

    public static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: prefix + own, abstract: "The service \(own) of a topology, as a process of its own.",
            discussion: "Started by `martlet up --processes --executables FOLDER`, or by hand for a service of such a "
                + "suite.",
            version: MartletVersion.text)
    }

    public func run() async throws { try await options.run(role: Self.own, as: Self.prefix + Self.own) }
}

/// An executable of one role: `martlet-ROLE NAME --topology FILE`.
public protocol ServiceExecutable: AsyncParsableCommand {
    static var role: String { get }
    /// What the role does, in a line.
    static var abstract: String { get }
    var options: ServiceOptions { get }
}

extension ServiceExecutable {
    public static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "martlet-\(role)", abstract: abstract,
            discussion: "One service of a topology, as a process of its own. Started by `martlet up --processes "
                + "--executables FOLDER`, or by hand for a service of such a suite.",
            version: MartletVersion.text)
    }

    public func run() async throws { try await options.run(role: Self.role, as: "martlet-\(Self.role)") }
}

/// One service as a process of its own: its roles on one lane, its node among the others.
struct ServiceProcess: Sendable {
    let topology: Topology
    let service: Topology.Service
    /// Longest wait for the log when a consumer leaves its group.
    private static let leaveMS: UInt32 = 1000
    /// The log that a role uses, where the logs are not the store's.
    private static let logs = ["msgproxy": "msg", "msgwriter": "msg", "pushproxy": "push", "pushserver": "push"]

    func run() async throws {
        let access = try DemoAccess.load(folder: topology.data)
        let fault = try topology.fault.map(InjectedFaults.init(named:)) ?? InjectedFaults()
        let wiring = Wiring(logger: Logger(label: service.name), faults: fault)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let lane = Lane(name: service.name, loop: group.next())
        let node = try Node(
            directory: wiring.directory, hosted: { wiring.hostedRoles }, secret: access.clusterSecret, group: group,
            logger: wiring.logger)
        let stores = try host(on: wiring, lane: lane)
        let kafka = try topology.log.flatMap { address in
            try Self.logs[service.role].map {
                try KafkaLogs(address, logs: [$0], on: wiring, lane: lane, instance: service.name)
            }
        }
        let databases = try hostDatabases(on: wiring, lane: lane)
        do {
            try await node.listen(host: "127.0.0.1", port: service.port)
        } catch {
            throw StartError("port \(service.port) cannot be listened on (\(error))", cure: "Start the suite again")
        }
        node.connect(to: topology.peers(of: service).map { PeerAddress(host: "127.0.0.1", port: $0) })
        try await serve(wiring: wiring, access: access, group: group, lane: lane)
        await node.stop()
        kafka?.stop()
        await stores?.stop()
        databases?.stop()
        try await group.shutdownGracefully()
    }

    /// Puts the service's role on the lane; the store's roles have lanes of their own.
    private func host(on wiring: Wiring, lane: Lane) throws -> EmbeddedStores? {
        let name = service.name
        switch service.role {
        case Topology.store:
            let stores = try EmbeddedStores(
                folder: topology.data, files: wiring.faults.files, pushLog: .folder,
                redis: try RedisClients(topology.redis ?? RedisSettings(), logger: wiring.logger),
                mysql: topology.mysql ?? MySQLSettings(), hostsDatabases: false, logger: wiring.logger)
            let logs: Set<String> = topology.log == nil ? ["msg", "push"] : []
            stores.host(on: wiring, storage: Lane.thread(name: "storage"), logs: logs)
            return stores
        case "msgproxy": wiring.msgProxy(name, on: lane)
        case "pushproxy": wiring.pushProxy(name, on: lane)
        case "msgreader": wiring.msgReader(name, on: lane)
        case "user": wiring.user(name, on: lane)
        case "online": wiring.online(name, on: lane)
        case "route": wiring.route(name, on: lane)
        case "msgwriter": wiring.msgWriter(name, on: lane, apart: topology.mysql?.recent != nil)
        case "pushworker": wiring.pushWorker(name, on: lane)
        case "pushserver": wiring.pushServer(name, on: lane)
        case "im": wiring.im(name, on: lane)
        case "login", "api": break
        default:
            throw StartError("there is no service \(service.role)", cure: "Correct the topology file")
        }
        return nil
    }

    /// Databases are shared by nature: whoever needs one has its own connections, on the port role's name in its own
    /// process.
    private func hostDatabases(on wiring: Wiring, lane: Lane) throws -> MySQLBackends? {
        guard let settings = topology.mysql else { return nil }
        let usesRecent = ["msgwriter", "msgreader"].contains(service.role)
        let usesUsers = service.role == "user"
        guard usesRecent || usesUsers else { return nil }
        let databases = try MySQLBackends(
            settings, recent: usesRecent, relational: usesUsers, logger: wiring.logger)
        if let shards = databases.recent { wiring.host(shards, "recent@\(service.name)", on: lane) }
        databases.hostUsers(on: wiring, prefix: "\(service.name)-")
        return databases
    }

    /// Login and API listen for clients; the others only wait for the end.
    private func serve(
        wiring: Wiring, access: DemoAccess, group: MultiThreadedEventLoopGroup, lane: Lane
    ) async throws {
        let listeners = Listeners(settings: topology.settings, access: access, logger: wiring.logger)
        switch service.role {
        case "login":
            let gateway = try await listeners.startGateway(
                wiring: wiring, group: group, lanes: [lane], name: service.name)
            wiring.announce(.login, gateway.instances)
            await StopSignal.wait()
            try await gateway.shutdown()
        case "api":
            try await DemoApp(access: access).provide(
                through: RoleCaller(directory: wiring.directory, lane: lane))
            let port = topology.webSocketPort
            try await listeners.serveHTTP(
                expecting: ["route", "user", "online"], webSocketPort: port, wiring: wiring, lane: lane
            ) { _ in
                _ = FileManager.default.createFile(atPath: topology.apiReadyPath, contents: Data())
                await StopSignal.wait()
            }
        case "msgwriter", "pushserver":
            await StopSignal.wait()
            // Its partitions move at once. When the log does not answer they move when it misses us.
            let member = Address.instance(RoleName(rawValue: service.role), service.name)
            let caller = RoleCaller(directory: wiring.directory, lane: lane)
            _ = await caller.call(member, .logLeave(LogLeave()), timeoutMS: Self.leaveMS)
        default: await StopSignal.wait()
        }
    }
}

/// Ends this process when its supervisor is gone, which holds the other end of standard input.
enum ParentWatch {
    static func start() {
        let thread = Thread {
            var byte: UInt8 = 0
            while read(STDIN_FILENO, &byte, 1) > 0 {}
            kill(getpid(), SIGTERM)
            // A service that cannot drain without its neighbours must not stay for ever.
            sleep(8)
            exit(0)
        }
        thread.start()
    }
}
