import Foundation
import Glibc
import RedisStore

/// A program that this test has started, in a folder of its own, on ports found free. Killed with its owner.
///
/// Isolation: none; these tests run one after the other.
final class RedisServer: @unchecked Sendable {
    // @unchecked: used by one test at a time.
    let port: Int
    let folder: String
    private let program: String
    private let arguments: [String]
    private var process: Process?

    struct Problem: Error, CustomStringConvertible { let description: String }

    /// - Parameters:
    ///   - arguments: of redis-server, after its port; `FOLDER` becomes the server's folder.
    ///   - plain: false: only TLS is spoken on the port.
    init(_ arguments: [String] = [], plain: Bool = true) throws {
        port = try Self.freePort()
        folder = try Self.newFolder()
        program = "redis-server"
        let listen = plain ? ["--port", "\(port)"] : ["--port", "0", "--tls-port", "\(port)"]
        let folder = self.folder
        self.arguments =
            listen + [
                "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no", "--daemonize", "no",
                "--logfile", "\(folder)/log", "--repl-diskless-sync-delay", "0",
            ] + arguments.map { $0.replacingOccurrences(of: "FOLDER", with: folder) }
        try start(isPlain: plain)
    }

    /// A sentinel of a master.
    init(sentinelOf master: RedisServer, name: String) throws {
        port = try Self.freePort()
        folder = try Self.newFolder()
        program = "redis-sentinel"
        let lines = [
            "port \(port)", "bind 127.0.0.1", "dir \(folder)", "logfile \(folder)/log",
            "sentinel monitor \(name) 127.0.0.1 \(master.port) 1", "sentinel down-after-milliseconds \(name) 500",
            "sentinel failover-timeout \(name) 3000", "sentinel parallel-syncs \(name) 1",
        ]
        try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: "\(folder)/sentinel.conf"))
        arguments = ["\(folder)/sentinel.conf"]
        try start()
    }

    deinit {
        kill()
        try? FileManager.default.removeItem(atPath: folder)
    }

    var address: RedisAddress { RedisAddress(host: "127.0.0.1", port: port) }

    /// Starts it and waits until it answers.
    ///
    /// - Parameter isPlain: false: only TLS is spoken, and nothing is waited for.
    func start(isPlain: Bool = true) throws {
        try launch()
        guard isPlain else { return }
        let answers = ["PONG", "NOAUTH"]
        if waits(until: { (try? cli("PING")).map { said in answers.contains { said.contains($0) } } ?? false }) {
            return
        }
        throw Problem(description: "\(program) on port \(port) does not answer: \(log)")
    }

    private func launch() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/\(program)")
        process.arguments = arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        do { try process.run() } catch {
            throw Problem(
                description: "\(program) cannot be started (apt-get install redis-server redis-sentinel): \(error)")
        }
        self.process = process
    }

    private var log: String { (try? String(contentsOfFile: "\(folder)/log", encoding: .utf8)) ?? "no log" }

    /// kill -9; everything that it held is gone.
    func kill() {
        guard let process else { return }
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        self.process = nil
    }

    /// Stops it as it is, connections included, and lets it go on.
    func pause() { if let process { Glibc.kill(process.processIdentifier, SIGSTOP) } }
    func resume() { if let process { Glibc.kill(process.processIdentifier, SIGCONT) } }

    /// What redis-cli prints.
    @discardableResult
    func cli(_ arguments: String...) throws -> String { try cli(arguments) }

    @discardableResult
    func cli(_ arguments: [String]) throws -> String {
        try Self.run("redis-cli", ["-h", "127.0.0.1", "-p", "\(port)"] + arguments)
    }

    /// The same over TLS.
    @discardableResult
    func cli(tls files: Certificates, _ arguments: String...) throws -> String {
        let access = ["--tls", "--cacert", files.authority, "--cert", files.certificate, "--key", files.key]
        return try Self.run("redis-cli", ["-h", "127.0.0.1", "-p", "\(port)"] + access + arguments)
    }

    static func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/\(program)")
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: data, as: UTF8.self)
    }

    static func newFolder() throws -> String {
        let folder = NSTemporaryDirectory() + "martlet-redis-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    /// A port that nobody listens on, below those that the system gives to outgoing connections.
    static func freePort() throws -> Int {
        for _ in 0..<200 {
            let port = Int.random(in: 20_000..<32_000)
            let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(socket) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(port).bigEndian
            address.sin_addr.s_addr = inet_addr("127.0.0.1")
            let bound = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            if bound == 0 { return port }
        }
        throw Problem(description: "no free port was found")
    }
}

/// A certificate that signs itself, for a server and its clients.
struct Certificates {
    let certificate: String
    let key: String
    var authority: String { certificate }

    init(_ folder: String) throws {
        (certificate, key) = ("\(folder)/cert", "\(folder)/key")
        let said = try RedisServer.run(
            "openssl",
            [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            ])
        guard FileManager.default.fileExists(atPath: certificate) else {
            throw RedisServer.Problem(description: "no certificate was made: \(said)")
        }
    }

    /// What redis-server is told.
    var options: [String] { ["--tls-cert-file", certificate, "--tls-key-file", key] }
}

/// Three nodes that share the slots.
final class RedisCluster: Sendable {
    let nodes: [RedisServer]

    init(_ arguments: [String] = []) throws {
        nodes = try (0..<3).map { _ in
            try RedisServer(
                [
                    "--cluster-enabled", "yes", "--cluster-config-file", "FOLDER/nodes.conf", "--cluster-node-timeout",
                    "2000", "--cluster-port", "\(try RedisServer.freePort())",
                ] + arguments)
        }
        let list = nodes.map { "127.0.0.1:\($0.port)" }
        let said = try RedisServer.run("redis-cli", ["--cluster", "create"] + list + ["--cluster-yes"])
        let isUp = try waits(until: {
            try nodes.allSatisfy { try $0.cli("CLUSTER", "INFO").contains("cluster_state:ok") }
        })
        if isUp { return }
        throw RedisServer.Problem(description: "the cluster did not form: \(said)")
    }

    var config: RedisConfig { RedisConfig(.cluster(seeds: [nodes[0].address])) }
}

/// Whether it became true within some time.
func waits(seconds: Double = 15, until isSo: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<Int(seconds * 40) {
        if try isSo() { return true }
        usleep(25_000)
    }
    return false
}
