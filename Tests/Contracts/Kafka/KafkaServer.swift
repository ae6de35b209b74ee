import Foundation
import Glibc
import KafkaLog
import Ports

/// A real server of Kafka's protocol, a process of its own on loopback, over a folder that survives its restarts.
/// `MARTLET_KAFKA_SERVER` names the program (noida-db); Tests/EndToEnd/kafka installs it.
final class KafkaServer: @unchecked Sendable {
    // @unchecked: one test uses it at a time.
    static let program = ProcessInfo.processInfo.environment["MARTLET_KAFKA_SERVER"]

    let port: Int
    private let program: String
    private let folder: URL
    private var pid: pid_t?

    init() throws {
        guard let program = Self.program else { throw StoreOpenError(.other, "MARTLET_KAFKA_SERVER is not set") }
        self.program = program
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-kafka-\(UUID().uuidString)")
        port = try Self.freePort()
        try start()
    }

    deinit {
        stop()
        try? FileManager.default.removeItem(at: folder)
    }

    /// Not with Foundation's Process: that passes on the mask of the thread it is called on, and a server whose SIGTERM
    /// is blocked never stops cleanly.
    func start() throws {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] {
            posix_spawn_file_actions_addopen(&files, descriptor, "/dev/null", O_RDWR, 0)
        }
        let words = [program, "start", "--only", "kafka", "--kafka-port", "\(port)", "--data-dir", folder.path]
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        guard posix_spawn(&pid, program, &files, &attributes, &arguments, environ) == 0 else {
            throw StoreOpenError(.other, "\(program) cannot be started")
        }
        self.pid = pid
    }

    /// A clean stop: what it acknowledged is kept, but for what comes in while it saves itself. False when it had to be
    /// killed.
    @discardableResult
    func stop() -> Bool {
        guard let pid else { return true }
        self.pid = nil
        kill(pid, SIGTERM)
        for _ in 0..<1000 {
            if waitpid(pid, nil, WNOHANG) == pid { return true }
            usleep(10_000)
        }
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        return false
    }

    func settings(topics: String) -> KafkaSettings {
        var settings = KafkaSettings(brokers: "127.0.0.1:\(port)", log: "msg", topic: topics + "-msg")
        settings.partitions = 4
        settings.development = true
        settings.lastingMembers = false
        // This server loses its answer to a newcomer when the group changes again within a millisecond.
        settings.limits.letGoMS = 50
        settings.limits.sessionMS = 6000
        settings.limits.heartbeatMS = 300
        return settings
    }

    private static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
            }
        }
        guard bound else { throw StoreOpenError(.other, "no free port on 127.0.0.1") }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
