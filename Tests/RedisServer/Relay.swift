import NIOCore
import NIOPosix
import RedisStore
import Synchronization

/// Stands between a client and a server: lets bytes pass, holds them up, or cuts a connection in the middle of them.
final class Relay: Sendable {
    struct Rules: Sendable {
        /// What comes from the server waits for this long.
        var delayMS: Int64 = 0
        /// So many bytes more from the server, then the connection is cut.
        var cutAfter: Int?
        /// New connections are closed at once.
        var isDown = false
    }

    private let state = Mutex(Rules())
    private let group: MultiThreadedEventLoopGroup
    private let channel: any Channel
    let address: RedisAddress

    init(to target: RedisAddress, group: MultiThreadedEventLoopGroup) throws {
        self.group = group
        let state = Handle()
        channel = try ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { client in
                guard let relay = state.relay.withLock({ $0.value }), !relay.rules.isDown else {
                    return client.close()
                }
                return ClientBootstrap(group: client.eventLoop)
                    .connect(host: target.host, port: target.port)
                    .flatMap { server in
                        client.eventLoop.makeCompletedFuture {
                            try server.pipeline.syncOperations.addHandler(Half(to: client, relay: relay))
                            try client.pipeline.syncOperations.addHandler(Half(to: server, relay: nil))
                        }
                    }
            }
            .bind(host: "127.0.0.1", port: 0).wait()
        address = RedisAddress(host: "127.0.0.1", port: channel.localAddress?.port ?? 0)
        state.relay.withLock { $0.value = self }
    }

    private final class Handle: Sendable {
        struct Weak: Sendable { weak var value: Relay? }
        let relay = Mutex(Weak())
    }

    var rules: Rules { state.withLock { $0 } }

    func set(_ change: (inout Rules) -> Void) { state.withLock { change(&$0) } }

    func stop() { channel.close(promise: nil) }

    /// What may pass of so many bytes; nil: all.
    fileprivate func allowance(_ bytes: Int) -> Int? {
        state.withLock { rules in
            guard let left = rules.cutAfter else { return nil }
            if left > bytes {
                rules.cutAfter = left - bytes
                return nil
            }
            rules.cutAfter = nil
            return left
        }
    }

    private final class Half: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        private let peer: any Channel
        private let relay: Relay?

        init(to peer: any Channel, relay: Relay?) {
            self.peer = peer
            self.relay = relay
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var buffer = unwrapInboundIn(data)
            guard let relay else { return peer.writeAndFlush(buffer, promise: nil) }
            if let allowed = relay.allowance(buffer.readableBytes) {
                let peer = peer
                peer.writeAndFlush(buffer.readSlice(length: allowed) ?? ByteBuffer()).whenComplete { _ in
                    peer.close(promise: nil)
                }
                return context.close(promise: nil)
            }
            let delay = relay.rules.delayMS
            guard delay > 0 else { return peer.writeAndFlush(buffer, promise: nil) }
            let (peer, late) = (peer, buffer)
            context.eventLoop.scheduleTask(in: .milliseconds(delay)) { peer.writeAndFlush(late, promise: nil) }
        }

        func channelInactive(context: ChannelHandlerContext) { peer.close(promise: nil) }
    }
}
