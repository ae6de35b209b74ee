import NIOCore
import NIOPosix

/// The listening side. Isolation: any thread.
final class PeerServer: Sendable {
    private let channel: any Channel

    private init(channel: any Channel) { self.channel = channel }

    /// Listens; port 0 takes a free one.
    static func start(core: NodeCore, group: any EventLoopGroup, host: String, port: Int) async throws -> PeerServer {
        let open = OpenCount()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                guard open.enter(limit: core.config.maxConnections) else {
                    return channel.eventLoop.makeFailedFuture(PeerServerFull())
                }
                channel.closeFuture.whenComplete { _ in open.leave() }
                return PeerChannel.prepare(channel, core: core, side: .listener) {}
            }
        return PeerServer(channel: try await PeerChannel.options(bootstrap).bind(host: host, port: port).get())
    }

    var port: Int { channel.localAddress?.port ?? 0 }

    func stop() async { try? await channel.close().get() }
}

private struct PeerServerFull: Error {}

/// What both sides of a connection are made of.
enum PeerChannel {
    static let watermark = ChannelOptions.Types.WriteBufferWaterMark(low: 256 << 10, high: 1 << 20)
    static let reads = AdaptiveRecvByteBufferAllocator(minimum: 4096, initial: 65_536, maximum: 1 << 20)

    static func options(_ bootstrap: ServerBootstrap) -> ServerBootstrap {
        bootstrap
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: watermark)
            .childChannelOption(.recvAllocator, value: reads)
    }

    static func prepare(
        _ channel: any Channel, core: NodeCore, side: Handshake.Side,
        onAuthenticated: @escaping @Sendable () -> Void
    ) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            let handler = PeerHandler(core: core, side: side, onAuthenticated: onAuthenticated)
            try channel.pipeline.syncOperations.addHandler(handler)
        }
    }
}
