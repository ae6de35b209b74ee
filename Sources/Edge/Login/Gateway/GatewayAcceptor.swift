import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization
import Wire

/// One listener for all of a gateway's loops: connections are dealt out in turn, each to the loop where its machine is.
///
/// Isolation: any thread; the count is atomic.
final class GatewayAcceptor: Sendable {
    private let listener: GatewayListener
    private let config: GatewayConfig
    private let tls: NIOSSLContext?
    private let limit: Int
    private let loops: [GatewayLoop]
    private let count = Atomic<Int>(0)

    init(_ listener: GatewayListener, config: GatewayConfig, tls: NIOSSLContext?, limit: Int, loops: [GatewayLoop]) {
        self.listener = listener
        self.config = config
        self.tls = tls
        self.limit = limit
        self.loops = loops
    }

    /// - Parameter group: the loops' group; one loop is its own.
    /// - Throws: `GatewayError` when the address cannot be had.
    func listen(group: any EventLoopGroup) async throws -> any Channel {
        do {
            return try await bootstrap(group).bind(host: listener.host, port: listener.port).get()
        } catch {
            throw GatewayError(
                "cannot listen on \(listener.host):\(listener.port) (\(error)); "
                    + "is the port taken, or the address another's?")
        }
    }

    private func bootstrap(_ group: any EventLoopGroup) -> ServerBootstrap {
        return ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: config.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let loop = self.loops.first(where: { $0.eventLoop === channel.eventLoop }) else {
                        preconditionFailure("a connection on an event loop without a machine")
                    }
                    try self.accept(channel, on: loop)
                }
            }
    }

    private func accept(_ channel: any Channel, on loop: GatewayLoop) throws {
        if count.wrappingAdd(1, ordering: .relaxed).newValue > limit {
            channel.closeFuture.whenComplete { _ in self.count.wrappingSubtract(1, ordering: .relaxed) }
            return try refuse(channel)
        }
        // The machine hears of it first: its 10 seconds begin before anything is read.
        let connection = loop.open(channel)
        // One callback for both: a second one costs every connection a list.
        channel.closeFuture.assumeIsolated().whenComplete { _ in
            self.count.wrappingSubtract(1, ordering: .relaxed)
            connection.closed()
        }
        try setOptions(channel, loop)
        let pipeline = channel.pipeline.syncOperations
        if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
        switch listener.transport {
        case .tcp: try pipeline.addHandler(connection)
        case .webSocket: try WebSocketUpgrade.configure(channel, connection, maxBytes: config.maxUpgradeBytes)
        }
    }

    /// Here rather than as the bootstrap's child options: those go through futures, 31 allocations a connection.
    private func setOptions(_ channel: any Channel, _ loop: GatewayLoop) throws {
        guard let options = channel.syncOptions else { preconditionFailure("a socket without options") }
        try options.setOption(.tcpOption(.tcp_nodelay), value: 1)
        try options.setOption(
            .writeBufferWaterMark, value: .init(low: config.lowWaterBytes, high: config.highWaterBytes))
        guard tls == nil else {
            let receive = AdaptiveRecvByteBufferAllocator(
                minimum: config.minReceiveBytes, initial: config.minReceiveBytes, maximum: config.maxReceiveBytes)
            return try options.setOption(.recvAllocator, value: receive)
        }
        try options.setOption(.maxMessagesPerRead, value: 1)
        try options.setOption(.recvAllocator, value: SharedReceiveAllocator(loop.receiveBuffer))
    }

    /// Says why, where that takes no handshake, and closes.
    private func refuse(_ channel: any Channel) throws {
        guard tls == nil else { return channel.close(promise: nil) }
        try channel.pipeline.syncOperations.addHandler(
            RefusalHandler(webSocket: listener.transport == .webSocket, limit: limit))
    }
}

/// Tells one connection too many to come back later.
private final class RefusalHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let webSocket: Bool
    private let limit: Int

    init(webSocket: Bool, limit: Int) {
        self.webSocket = webSocket
        self.limit = limit
    }

    func channelActive(context: ChannelHandlerContext) {
        var out = context.channel.allocator.buffer(capacity: 128)
        if webSocket {
            out.writeString("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n")
            out.writeString("Connection: close\r\n\r\n")
        } else {
            let failure = Failure(
                .tooManyConnections, "this listener has \(limit) connections", retryAfterMS: 1000)
            FrameCodec.encodeStream(.error(failure.buffer), into: &out)
        }
        context.writeAndFlush(wrapOutboundOut(out), promise: nil)
        context.close(promise: nil)
    }
}
