import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization
import Wire

/// One listener on all of a gateway's loops: each loop accepts from the same socket, so that a connection lives where its
/// machine is, and a busy loop takes fewer.
///
/// Isolation: any thread; the count is atomic.
final class GatewayAcceptor: Sendable {
    private let listener: GatewayListener
    private let config: GatewayConfig
    private let tls: NIOSSLContext?
    private let limit: Int
    private let count = Atomic<Int>(0)

    init(_ listener: GatewayListener, config: GatewayConfig, tls: NIOSSLContext?, limit: Int) {
        self.listener = listener
        self.config = config
        self.tls = tls
        self.limit = limit
    }

    /// Binds on the first loop and shares the socket with the others.
    ///
    /// - Throws: `GatewayError` when the address cannot be had.
    func listen(on loops: [GatewayLoop]) async throws -> [any Channel] {
        guard let first = loops.first else { throw GatewayError("a gateway needs at least one event loop") }
        let main: any Channel
        do {
            main = try await bootstrap(first).bind(host: listener.host, port: listener.port).get()
        } catch {
            throw GatewayError(
                "cannot listen on \(listener.host):\(listener.port) (\(error)); is the port taken, or the address another's?")
        }
        var channels = [main]
        for loop in loops.dropFirst() {
            let copy = try await main.eventLoop.submit {
                try main.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { dup($0) }
            }.get()
            guard let copy, copy >= 0 else { throw GatewayError("cannot share the listening socket: errno \(errno)") }
            channels.append(try await bootstrap(loop).withBoundSocket(copy).get())
        }
        return channels
    }

    private func bootstrap(_ loop: GatewayLoop) -> ServerBootstrap {
        let receive = AdaptiveRecvByteBufferAllocator(
            minimum: config.minReceiveBytes, initial: config.minReceiveBytes, maximum: config.maxReceiveBytes)
        return ServerBootstrap(group: loop.eventLoop)
            .serverChannelOption(.backlog, value: config.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.recvAllocator, value: receive)
            .childChannelOption(
                .writeBufferWaterMark, value: .init(low: config.lowWaterBytes, high: config.highWaterBytes))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try self.accept(channel, on: loop) }
            }
    }

    private func accept(_ channel: any Channel, on loop: GatewayLoop) throws {
        channel.closeFuture.whenComplete { _ in self.count.wrappingSubtract(1, ordering: .relaxed) }
        if count.wrappingAdd(1, ordering: .relaxed).newValue > limit {
            return try refuse(channel)
        }
        let pipeline = channel.pipeline.syncOperations
        if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
        switch listener.transport {
        case .tcp:
            // The machine hears of it first: its 10 seconds begin before anything is read.
            let connection = loop.open(channel)
            channel.closeFuture.assumeIsolated().whenComplete { _ in connection.closed() }
            try pipeline.addHandler(connection)
        case .webSocket:
            let connection = loop.open(channel)
            channel.closeFuture.assumeIsolated().whenComplete { _ in connection.closed() }
            try WebSocketUpgrade.configure(channel, connection, maxBytes: config.maxUpgradeBytes)
        }
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
