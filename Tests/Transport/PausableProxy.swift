import NIOCore
import NIOPosix
import Synchronization

/// Stands between a link and a listener, and can stop reading what the link sends, as a peer does that is stopped or
/// swapped out. What the listener sends goes on.
final class PausableProxy: Sendable {
    private struct State {
        var near: (any Channel)?
        var connections = 0
    }

    private final class Holder: Sendable {
        let state = Mutex(State())
    }

    private let server: any Channel
    private let holder: Holder

    private init(_ server: any Channel, _ holder: Holder) {
        self.server = server
        self.holder = holder
    }

    var port: Int { server.localAddress?.port ?? 0 }
    /// Connections that were ever made: 1 as long as none broke.
    var connections: Int { holder.state.withLock { $0.connections } }

    static func start(to port: Int) async throws -> PausableProxy {
        let holder = Holder()
        let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            // Small, so that a stopped reader is felt after little.
            .childChannelOption(.socketOption(.so_rcvbuf), value: 65_536)
            .childChannelInitializer { near in
                holder.state.withLock { state in
                    state.near = near
                    state.connections += 1
                }
                return ClientBootstrap(group: near.eventLoop).connect(host: "127.0.0.1", port: port).flatMap { far in
                    near.eventLoop.makeCompletedFuture {
                        try near.pipeline.syncOperations.addHandler(Glue(to: far))
                        try far.pipeline.syncOperations.addHandler(Glue(to: near))
                    }
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return PausableProxy(server, holder)
    }

    /// Stops or resumes reading from the link.
    func setReading(_ reading: Bool) async throws {
        try await holder.state.withLock { $0.near }?.setOption(.autoRead, value: reading).get()
    }

    func stop() async {
        try? await server.close()
        try? await holder.state.withLock { $0.near }?.close()
    }
}

private final class Glue: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let other: any Channel

    init(to other: any Channel) { self.other = other }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        other.writeAndFlush(unwrapInboundIn(data), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
}
