import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import RPC
import Runtime
import Synchronization

/// What a process says about itself to whoever runs it.
///
/// Isolation: any thread.
final class ServiceHealth: Sendable {
    private let name: String
    private let needs: [RoleName]
    private let directory: Directory
    private let draining = Mutex(false)

    /// - Parameter needs: roles without which the service can do nothing.
    init(name: String, needs: [RoleName], directory: Directory) {
        self.name = name
        self.needs = needs
        self.directory = directory
    }

    /// From now on nobody should be sent here.
    func drain() { draining.withLock { $0 = true } }

    struct Report: Codable, Equatable, Sendable {
        var name: String
        var ready: Bool
        /// Roles that have not been found yet.
        var missing: [String]
        var draining: Bool
    }

    var report: Report {
        let missing = needs.filter { directory.instances(of: $0).isEmpty }.map(\.rawValue)
        let drains = draining.withLock { $0 }
        return Report(name: name, ready: missing.isEmpty && !drains, missing: missing, draining: drains)
    }
}

/// GET /health: 200 when the service is ready, 503 with the reason when it is not. GET /live: 200 as long as its event
/// loop turns.
final class HealthPort: Sendable {
    private let channel: any Channel
    /// Connections that may wait; a probe closes its own at once.
    private static let backlog: Int32 = 16

    static func start(
        _ health: ServiceHealth, group: any EventLoopGroup, host: String, port: Int
    ) async throws -> HealthPort {
        do {
            let channel = try await ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: backlog)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                        try channel.pipeline.syncOperations.addHandler(HealthHandler(health))
                    }
                }
                .bind(host: host, port: port).get()
            return HealthPort(channel)
        } catch {
            throw StartError(
                "port \(port) on \(host) cannot be listened on (\(error))", cure: "Choose another cluster.health-port")
        }
    }

    private init(_ channel: any Channel) { self.channel = channel }

    func stop() async { try? await channel.close().get() }
}

/// One connection of a probe: an answer, and the end. Isolation: its event loop.
private final class HealthHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    private let health: ServiceHealth
    private var path = ""

    init(_ health: ServiceHealth) { self.health = health }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): path = String(head.uri.prefix { $0 != "?" })
        case .body: break
        case .end: answer(context)
        }
    }

    private func answer(_ context: ChannelHandlerContext) {
        let report = health.report
        let status: HTTPResponseStatus
        switch path {
        case "/health": status = report.ready ? .ok : .serviceUnavailable
        case "/live": status = .ok
        default: status = .notFound
        }
        let body = (try? JSONEncoder().encode(report)) ?? Data()
        let headers = HTTPHeaders([
            ("content-type", "application/json"), ("content-length", "\(body.count)"), ("connection", "close"),
        ])
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers))), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: body)))), promise: nil)
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in channel.close(promise: nil) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
