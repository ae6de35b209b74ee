import Foundation
import NIOCore
import NIOPosix
import Synchronization

@testable import NIOTransport

/// A connection that says whatever it is told.
enum Raw {
    /// True when the other side ends the connection after these bytes.
    static func isCut(port: Int, after bytes: [UInt8]) async throws -> Bool {
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: "127.0.0.1", port: port).get()
        if !bytes.isEmpty { try? await channel.writeAndFlush(ByteBuffer(bytes: bytes)) }
        let cut = await eventually(seconds: 5) { !channel.isActive }
        if !cut { try? await channel.close() }
        return cut
    }
}

/// A listener that proves itself, says that it hosts (im, stopped), and from then on neither reads nor writes.
final class StoppedReader: Sendable {
    private let channel: any Channel
    private let holder: Holder

    private init(_ channel: any Channel, _ holder: Holder) {
        self.channel = channel
        self.holder = holder
    }

    var port: Int { channel.localAddress?.port ?? 0 }

    final class Holder: Sendable {
        let channel = Mutex<(any Channel)?>(nil)
    }

    static func start() async throws -> StoppedReader {
        let holder = Holder()
        let channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .childChannelOption(.socketOption(.so_rcvbuf), value: 65_536)
            .childChannelInitializer { child in
                holder.channel.withLock { $0 = child }
                return child.eventLoop.makeCompletedFuture {
                    try child.pipeline.syncOperations.addHandler(ProveAndStop())
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return StoppedReader(channel, holder)
    }

    func stop() async {
        try? await channel.close()
        try? await holder.channel.withLock { $0 }?.close()
    }
}

private final class ProveAndStop: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private var pending = ByteBuffer()
    private var handshake = Handshake(
        side: .listener, node: 77, nonce: [UInt8](repeating: 9, count: 32), secret: Array(testSecret.utf8))

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        pending.writeBuffer(&buffer)
        guard let frame = try? PeerFrame.decode(&pending, limit: 4096), let step = try? handshake.on(frame)
        else { return }
        var out = ByteBuffer()
        switch step {
        case .send(let frames): for frame in frames { frame.encode(into: &out) }
        case .done:
            PeerFrame.hosted([.init(number: 1, role: .im, instance: "stopped")]).encode(into: &out)
            context.channel.setOption(.autoRead, value: false).whenFailure { _ in }
        }
        context.writeAndFlush(wrapOutboundOut(out), promise: nil)
    }
}
