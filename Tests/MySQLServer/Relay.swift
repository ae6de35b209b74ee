import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// Stands between a client and a server. It knows one thing of the protocol: where a COMMIT is.
final class Relay: Sendable {
    /// What becomes of the next COMMIT.
    enum Commits: Sendable {
        case pass
        /// It waits here until `release`.
        case hold
        /// It reaches the server, and the connection breaks before the answer is back.
        case cutAnswer
        /// The connection breaks before it reaches the server.
        case cutBefore
    }

    private struct State {
        var commits = Commits.pass
        var cutting = false
        var held: [@Sendable () -> Void] = []
        var isDown = false
        var seen = 0
        var open: [any Channel] = []
    }

    private let state = Mutex(State())
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let channel: any Channel
    let port: Int

    init(to target: Int) throws {
        let handle = Handle()
        channel = try ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { client in
                guard let relay = handle.relay.withLock({ $0.value }), relay.admit(client) else {
                    return client.close()
                }
                return ClientBootstrap(group: client.eventLoop)
                    .connect(host: "127.0.0.1", port: target)
                    .flatMap { server in
                        client.eventLoop.makeCompletedFuture {
                            try server.pipeline.syncOperations.addHandler(Down(to: client, relay: relay))
                            try client.pipeline.syncOperations.addHandler(Up(to: server, relay: relay))
                        }
                    }
            }
            .bind(host: "127.0.0.1", port: 0).wait()
        port = channel.localAddress?.port ?? 0
        handle.relay.withLock { $0.value = self }
    }

    private final class Handle: Sendable {
        struct Weak: Sendable { weak var value: Relay? }
        let relay = Mutex(Weak())
    }

    deinit {
        channel.close(promise: nil)
        group.shutdownGracefully { _ in }
    }

    func next(_ commits: Commits) { state.withLock { $0.commits = commits } }

    /// COMMITs that came by since the start.
    var seen: Int { state.withLock { $0.seen } }

    /// COMMITs that wait here.
    var holding: Int { state.withLock { $0.held.count } }

    /// Lets what is held go on.
    func release() {
        let held = state.withLock { state in
            defer { state.held = [] }
            return state.held
        }
        for go in held { go() }
    }

    /// Cuts every connection, and takes no new ones while it lasts.
    func set(down: Bool) {
        let open = state.withLock { state in
            state.isDown = down
            defer { if down { state.open = [] } }
            return down ? state.open : []
        }
        for channel in open { channel.close(promise: nil) }
    }

    fileprivate func admit(_ channel: any Channel) -> Bool {
        state.withLock { state in
            if state.isDown { return false }
            state.open.append(channel)
            return true
        }
    }

    /// What is to be done with the COMMIT that is passing.
    fileprivate func commitPasses() -> Commits {
        state.withLock { state in
            state.seen += 1
            defer { state.commits = .pass }
            if case .cutAnswer = state.commits { state.cutting = true }
            return state.commits
        }
    }

    fileprivate func keep(_ go: @escaping @Sendable () -> Void) { state.withLock { $0.held.append(go) } }

    fileprivate func takesCut() -> Bool {
        state.withLock { state in
            defer { state.cutting = false }
            return state.cutting
        }
    }

    /// From the client to the server.
    private final class Up: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        private let peer: any Channel
        private let relay: Relay
        /// A packet: seven bytes long with its command, COM_QUERY.
        private static let commit: [UInt8] = [7, 0, 0, 0, 3] + Array("COMMIT".utf8)

        init(to peer: any Channel, relay: Relay) {
            self.peer = peer
            self.relay = relay
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let buffer = unwrapInboundIn(data)
            guard buffer.readableBytesView.elementsEqual(Self.commit) else {
                return peer.writeAndFlush(buffer, promise: nil)
            }
            switch relay.commitPasses() {
            case .pass, .cutAnswer: peer.writeAndFlush(buffer, promise: nil)
            case .hold: relay.keep { [peer] in peer.writeAndFlush(buffer, promise: nil) }
            case .cutBefore:
                peer.close(promise: nil)
                context.close(promise: nil)
            }
        }

        func channelInactive(context: ChannelHandlerContext) { peer.close(promise: nil) }
    }

    /// The server has gone: a client whose COMMIT is held hears of it when it is let go, as one that was stopped would.
    fileprivate func serverLeft(_ client: any Channel) {
        let isHeld = state.withLock { state in
            if !state.held.isEmpty { state.held.append { client.close(promise: nil) } }
            return !state.held.isEmpty
        }
        if !isHeld { client.close(promise: nil) }
    }

    /// From the server to the client.
    private final class Down: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        private let peer: any Channel
        private let relay: Relay

        init(to peer: any Channel, relay: Relay) {
            self.peer = peer
            self.relay = relay
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            guard relay.takesCut() else { return peer.writeAndFlush(unwrapInboundIn(data), promise: nil) }
            peer.close(promise: nil)
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) { relay.serverLeft(peer) }
    }
}
