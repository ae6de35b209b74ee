import Glibc
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import RPC

/// The gateway: listeners in front of one `LoginMachine` per event loop.
///
/// Isolation: any thread; everything that moves is bound to its loop.
public final class GatewayServer: Sendable {
    private let loops: [GatewayLoop]
    private let listeners: [any Channel]

    /// The bound ports, in the order of `GatewayConfig.listeners`.
    public let ports: [Int]
    /// The instances in the directory, one per loop.
    public let instances: [String]

    private init(loops: [GatewayLoop], listeners: [any Channel], instances: [String]) {
        self.loops = loops
        self.listeners = listeners
        self.instances = instances
        ports = listeners.map { $0.localAddress?.port ?? 0 }
    }

    /// Starts the machines and then listens.
    ///
    /// - Parameters:
    ///   - group: deals connections out to its loops.
    ///   - lanes: one per loop of the group, in the group's order, each made on its loop.
    ///   - namePrefix: instance names are this, "-" and the loop's number.
    /// - Throws: `GatewayError`: a taken port, a certificate that cannot be read.
    public static func start(
        config: GatewayConfig, group: MultiThreadedEventLoopGroup, lanes: [Lane], directory: Directory,
        namePrefix: String, logger: Logger
    ) async throws -> GatewayServer {
        let tls = try config.listeners.contains(where: \.secure) ? context(config.tls) : nil
        let limit = try connectionLimit(config)
        var instances: [String] = []
        var parts: [GatewayLoop] = []
        let loops = Array(group.makeIterator())
        guard loops.count == lanes.count else {
            throw GatewayError("\(loops.count) event loops, but \(lanes.count) lanes; give one lane per loop")
        }
        for (index, (loop, lane)) in zip(loops, lanes).enumerated() {
            instances.append("\(namePrefix)-\(index)")
            parts.append(
                GatewayLoop(
                    eventLoop: loop, lane: lane, instance: instances[index], config: config, directory: directory,
                    logger: logger, seed: UInt64.random(in: .min ... .max)))
        }
        for part in parts { part.start() }
        var listeners: [any Channel] = []
        do {
            for listener in config.listeners {
                let acceptor = GatewayAcceptor(
                    listener, config: config, tls: listener.secure ? tls : nil, limit: limit, loops: parts)
                listeners.append(try await acceptor.listen(group: group))
            }
        } catch {
            try? await GatewayServer(loops: parts, listeners: listeners, instances: instances).shutdown()
            throw error
        }
        return GatewayServer(loops: parts, listeners: listeners, instances: instances)
    }

    /// Stops listening, lets requests in flight end, says goodbye to every session and unregisters it. Takes at most
    /// `LoginConfig.drainMS`.
    public func shutdown() async throws {
        for channel in listeners { try? await channel.close() }
        for loop in loops { try await loop.drain() }
    }

    /// Open connections of all loops.
    public func connectionCount() async throws -> Int {
        var count = 0
        for loop in loops { count += try await loop.eventLoop.submit { loop.connectionCount }.get() }
        return count
    }

    private static func context(_ files: GatewayTLS?) throws -> NIOSSLContext {
        guard let files else { throw GatewayError("a secure listener needs a certificate and a key") }
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(files.certificatePath)
            let key = try NIOSSLPrivateKey(file: files.keyPath, format: .pem)
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
            // 1.0 and 1.1 are deprecated (RFC 8996).
            configuration.minimumTLSVersion = .tlsv12
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw GatewayError(
                "cannot read certificate \(files.certificatePath) with key \(files.keyPath) (\(error)); "
                    + "both are PEM files")
        }
    }

    /// As many connections as configured, or as the process may open files for.
    private static func connectionLimit(_ config: GatewayConfig) throws -> Int {
        var files = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 else { return config.maxConnections }
        let allowed = Int(clamping: files.rlim_cur) - config.reservedFiles
        let each = allowed / max(1, config.listeners.count)
        guard each > 0 else {
            throw GatewayError("the process may open only \(files.rlim_cur) files; raise the limit (ulimit -n)")
        }
        return min(config.maxConnections, each)
    }
}
