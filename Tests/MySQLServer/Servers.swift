import Foundation
import Glibc
import MySQLStore
import Synchronization

/// A mariadbd that this test has started, in a folder of its own, on a port found free. Killed with its owner.
///
/// Isolation: none; these tests run one after the other.
final class MariaDB: @unchecked Sendable {
    // @unchecked: used by one test at a time.
    let port: Int
    let folder: String
    private let more: [String]
    private var process: Process?
    /// mariadbd's own number.
    private var server: Int32 = 0
    private let made = Mutex(0)

    struct Problem: Error, CustomStringConvertible { let description: String }

    /// Data that was installed once, to be copied: an installation takes seconds.
    private static let template = Mutex<String?>(nil)

    /// - Parameter more: arguments of mariadbd; `FOLDER` becomes the server's folder.
    init(_ more: [String] = []) throws {
        port = try Self.freePort()
        folder = NSTemporaryDirectory() + "martlet-mariadb-\(UUID().uuidString.prefix(8))"
        let folder = self.folder
        self.more = more.map { $0.replacingOccurrences(of: "FOLDER", with: folder) }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        _ = try Self.run("cp", ["-a", try Self.installed(), "\(folder)/data"])
        try start()
        try sql(
            "CREATE USER 'martlet'@'127.0.0.1' IDENTIFIED BY '\(password)'; GRANT ALL ON *.* TO 'martlet'@'127.0.0.1'")
    }

    deinit {
        kill()
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// Made anew for each server.
    let password = UUID().uuidString

    private static func installed() throws -> String {
        try template.withLock { known in
            if let known { return known }
            let folder = NSTemporaryDirectory() + "martlet-mariadb-template-\(getpid())"
            try? FileManager.default.removeItem(atPath: folder)
            let said = try run(
                "mariadb-install-db",
                [
                    "--no-defaults", "--datadir=\(folder)", "--auth-root-authentication-method=normal",
                    "--skip-test-db", "--innodb-log-file-size=16M",
                ] + asRoot)
            guard FileManager.default.fileExists(atPath: "\(folder)/mysql") else {
                throw Problem(description: "mariadb-install-db made nothing (apt-get install mariadb-server): \(said)")
            }
            known = folder
            return folder
        }
    }

    /// What runs now. A server that lasts for a whole suite has no owner that would end it: the end of the tests does.
    private static let running = {
        atexit { MariaDB.endAll() }
        return Mutex<[(pid: Int32, folder: String)]>([])
    }()

    private static func endAll() {
        for (pid, folder) in running.withLock({ $0 }) {
            Glibc.kill(pid, SIGKILL)
            try? FileManager.default.removeItem(atPath: folder)
        }
        try? FileManager.default.removeItem(atPath: NSTemporaryDirectory() + "martlet-mariadb-template-\(getpid())")
    }

    /// mariadbd refuses to run as root unless it is told to.
    private static var asRoot: [String] { getuid() == 0 ? ["--user=root"] : [] }

    /// Starts it and waits until it answers.
    func start() throws {
        // A shell beside it ends it when the tests have died without doing so.
        let keeper = """
            "$@" & child=$!; echo $child > \(folder)/child.new; mv \(folder)/child.new \(folder)/child
            while kill -0 \(getpid()) 2>/dev/null && kill -0 $child 2>/dev/null; do sleep 1; done
            kill -9 $child 2>/dev/null; wait
            """
        try? FileManager.default.removeItem(atPath: "\(folder)/child")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments =
            [
                "-c", keeper, "sh", try Self.path(of: "mariadbd"), "--no-defaults", "--datadir=\(folder)/data",
                "--socket=\(folder)/socket", "--port=\(port)", "--bind-address=127.0.0.1", "--pid-file=\(folder)/pid",
                "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=16M",
                "--performance-schema=OFF", "--skip-name-resolve",
            ] + Self.asRoot + more
        _ = FileManager.default.createFile(atPath: "\(folder)/log", contents: nil)
        let log = FileHandle(forWritingAtPath: "\(folder)/log")
        process.standardOutput = log
        process.standardError = log
        do { try process.run() } catch {
            throw Problem(description: "mariadbd cannot be started (apt-get install mariadb-server): \(error)")
        }
        self.process = process
        _ = waits(until: { FileManager.default.fileExists(atPath: "\(folder)/child") })
        let text = try String(contentsOfFile: "\(folder)/child", encoding: .utf8)
        guard let child = Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw Problem(description: "mariadbd was not started")
        }
        server = child
        let started = (child, folder)
        Self.running.withLock { $0.append(started) }
        if waits(until: { (try? sql("SELECT 1")) == "1\n" }) { return }
        let said = (try? String(contentsOfFile: "\(folder)/log", encoding: .utf8)) ?? "no log"
        throw Problem(description: "mariadbd on port \(port) does not answer: \(said.suffix(2000))")
    }

    /// kill -9.
    func kill() {
        guard let process else { return }
        let pid = server
        Glibc.kill(pid, SIGKILL)
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // Its files are free when it has gone, zombies included.
        _ = waits(until: {
            let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
            return stat?.contains(") Z ") ?? true
        })
        Self.running.withLock { $0.removeAll { $0.pid == pid } }
        self.process = nil
    }

    /// Stops it as it is, connections included, and lets it go on.
    func pause() { Glibc.kill(server, SIGSTOP) }
    func resume() { Glibc.kill(server, SIGCONT) }

    /// User and system time that it has used, in seconds.
    func cpuSeconds() -> Double {
        guard let text = try? String(contentsOfFile: "/proc/\(server)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return 0 }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return ((Double(fields[11]) ?? 0) + (Double(fields[12]) ?? 0)) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// What the client program prints, errors included.
    ///
    /// - Throws: what it says when it fails.
    @discardableResult
    func sql(_ text: String, database: String = "") throws -> String {
        let (said, code) = try Self.runs(
            "mariadb",
            ["--no-defaults", "-uroot", "-S", "\(folder)/socket", "-N", "-B", "-e", text]
                + (database.isEmpty ? [] : [database]))
        if code != 0 { throw Problem(description: said) }
        return said
    }

    /// A database of its own, and the way there.
    func fresh() throws -> MySQLConfig {
        let number = made.withLock { made in
            made += 1
            return made
        }
        let name = "t\(number)"
        try sql("CREATE DATABASE \(name)")
        return config(name)
    }

    func config(_ database: String, port: Int? = nil) -> MySQLConfig {
        MySQLConfig(
            [MySQLAddress(host: "127.0.0.1", port: port ?? self.port, database: database)], user: "martlet",
            password: password)
    }

    private static func path(of program: String) throws -> String {
        for folder in ["/usr/sbin", "/usr/bin", "/bin"] where access("\(folder)/\(program)", X_OK) == 0 {
            return "\(folder)/\(program)"
        }
        throw Problem(description: "\(program) is missing: apt-get install mariadb-server mariadb-client")
    }

    static func run(_ program: String, _ arguments: [String]) throws -> String { try runs(program, arguments).said }

    private static func runs(_ program: String, _ arguments: [String]) throws -> (said: String, code: Int32) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try path(of: program))
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (String(decoding: data, as: UTF8.self), process.terminationStatus)
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

/// Whether it became true within some time.
func waits(seconds: Double = 30, until isSo: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<Int(seconds * 40) {
        if try isSo() { return true }
        usleep(25_000)
    }
    return false
}
