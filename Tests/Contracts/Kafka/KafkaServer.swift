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
    private var process: Process?
    private var ended = DispatchSemaphore(value: 0)

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

    func start() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["start", "--only", "kafka", "--kafka-port", "\(port)", "--data-dir", folder.path]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        self.process = process
        self.ended = ended
    }

    /// A clean stop: what it acknowledged is kept.
    func stop() {
        guard let process, process.isRunning else { return }
        process.terminate()
        if ended.wait(timeout: .now() + 20) == .timedOut { kill(process.processIdentifier, SIGKILL) }
    }

    func settings(topics: String) -> KafkaSettings {
        var settings = KafkaSettings(brokers: "127.0.0.1:\(port)", log: "msg", topic: topics + "-msg")
        settings.partitions = 4
        settings.development = true
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
