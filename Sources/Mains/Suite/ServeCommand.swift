import ArgumentParser
import Foundation
import Logging
import NIOPosix
import NIOTransport
import RPC
import Runtime
import Wire

/// Which service a process is, of a topology on this machine or of a cluster.
public struct ServiceOptions: ParsableArguments {
    @Argument(
        help: ArgumentHelp(
            "The service's name in the topology, for example im-1. In a cluster the role, or an instance's own name; "
                + "left out: the executable's role."))
    public var name: String?
    @Option(help: "The topology file; `martlet up --processes` keeps it in the data folder as topology.json.")
    public var topology: String?
    @Option(help: "Configuration file (YAML) of a cluster; Deploy/config/martlet.cluster.yaml is one.")
    public var config: String?
    @Flag(help: ArgumentHelp("End when standard input does: whoever started this is gone.", visibility: .hidden))
    public var supervised = false

    public init() {}

    public func validate() throws {
        guard (topology == nil) != (config == nil) else {
            throw ValidationError("give --topology FILE or --config FILE")
        }
    }

    /// Runs the service until SIGINT or SIGTERM; what keeps it from starting becomes one line and exit code 1.
    ///
    /// - Parameter role: the only one that this process may have; nil for any.
    func run(role: String?, as program: String) async throws {
        StopSignal.ignoreFileLimit()
        do {
            guard let name = name ?? (config == nil ? nil : role) else {
                throw StartError("which service is not said", cure: "Give its name, for example im-1")
            }
            let setup = try setup(name)
            if let role, setup.role != role {
                throw StartError(
                    "\(name) is of the role \(setup.role)", cure: "Start it with martlet-\(setup.role)")
            }
            LogSetup.bootstrap(level: Logger.Level(rawValue: setup.settings.logLevel) ?? .notice)
            if supervised { ParentWatch.start() }
            // Under a supervisor the folder is the supervisor's.
            let owns = setup.role == Topology.store && !supervised
            let folder = owns ? try DataFolder(path: setup.settings.data) : nil
            // And so was the look at the servers; a store that is started again starts with what it finds.
            if owns { try await RedisClients.check(setup.settings.redis) }
            try await ServiceProcess(setup: setup).run()
            withExtendedLifetime(folder) {}
        } catch {
            try StartFailure.tell(error, by: program)
        }
    }

    private func setup(_ name: String) throws -> ServiceSetup {
        guard let topology else { return try ServiceSetup(try Configuration.load(file: config), name) }
        let found = try Topology.read(topology)
        guard let service = found.service(named: name) else {
            throw StartError("the topology has no service \(name)", cure: "Use one of its names")
        }
        return try ServiceSetup(found, service)
    }
}

/// `martlet serve NAME`: any service of a topology; what the supervisor starts when it was given no executables.
public struct ServeCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run one service of a topology or of a cluster.",
        discussion: "`martlet serve login --config FILE` is what the executable martlet-login does.")

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
