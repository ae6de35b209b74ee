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
            "Where log \"msg\" lives, for example kafka://host:9092,host:9092. Left out: in the data folder. "
                + "With --processes log \"push\" lives there too.", valueName: "address"))
    public var log: String?
    @Option(help: "Event loops for connections in one process; 0 means half of the cores.")
    public var loops = 0
    @Option(help: "Keep presence in Redis: redis[s]://HOST:PORT[,...], redis+cluster://, redis+sentinel://HOST/MASTER.")
    public var presence: String?
    @Option(help: "Keep the hot store in Redis; addresses as for --presence.")
    public var hot: String?
    @Option(help: "File with the password of Redis: a command line is seen by everybody.")
    public var redisPasswordFile: String?
    @Option(help: "File with the password of the sentinels.")
    public var redisSentinelPasswordFile: String?
    @Option(
        help: "Authorities (PEM) that sign the certificates of rediss:// servers; those of the system when left out.")
    public var redisCa: String?
    @Option(help: "Our certificate (PEM), for rediss:// servers that want one; with --redis-key.")
    public var redisCert: String?
    @Option(help: "Key of --redis-cert (PEM).")
    public var redisKey: String?
    @Option(
        help: ArgumentHelp(
            "Keep messages in MariaDB or MySQL: mysql[s]://USER[:PASSWORD]@HOST[:PORT]/DATABASE. Several "
                + "HOST[:PORT]/DATABASE with commas are shards, in an order that never changes; they need --relational."
        ))
    public var recent: String?
    @Option(help: "Keep apps, users and the user index in MariaDB or MySQL; an address as for --recent.")
    public var relational: String?
    @Option(help: "File with the password of the databases: a command line is seen by everybody.")
    public var mysqlPasswordFile: String?
    @Option(
        help: "Authorities (PEM) that sign the certificates of mysqls:// servers; those of the system when left out.")
    public var mysqlCa: String?
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
                log: log, redis: redis,
                mysql: MySQLSettings(
                    recent: recent, relational: relational, passwordFile: mysqlPasswordFile, authorities: mysqlCa),
                faultName: fault,
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

extension UpCommand {
    private var redis: RedisSettings {
        var redis = RedisSettings()
        redis.presence = presence
        redis.hot = hot
        redis.passwordFile = redisPasswordFile
        redis.sentinelPasswordFile = redisSentinelPasswordFile
        redis.authorities = redisCa
        redis.certificate = redisCert
        redis.key = redisKey
        return redis
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
    public var faultName: String?
    public var fault: InjectedFaults
}
