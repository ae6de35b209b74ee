import NIOCore
import NIOSSL
import Wire

/// Cuts a TCP stream into frames and hands them on. One per connection.
final class FrameHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let run: CheckRun
    private let slot: Int
    private let generation: Int
    private var pending: ByteBuffer?

    init(run: CheckRun, slot: Int, generation: Int) {
        self.run = run
        self.slot = slot
        self.generation = generation
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if var rest = pending {
            rest.writeBuffer(&bytes)
            bytes = rest
            pending = nil
        }
        do {
            while let frame = try FrameCodec.decodeStream(&bytes, limit: FrameLimits.afterLoginBytes) {
                run.arrived(frame, slot, generation)
            }
            if bytes.readableBytes > 0 { pending = bytes.slice() }
        } catch {
            run.broken("the server sent no frame: \(error)", slot, generation)
            context.close(promise: nil)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) { run.flush(slot) }

    func channelInactive(context: ChannelHandlerContext) { run.broken("the connection closed", slot, generation) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isTLS = error is NIOSSLError || error is NIOSSLExtraError || error is BoringSSLError
        let why = isTLS ? "the certificate is not trusted for that name, or nobody speaks TLS there" : "\(error)"
        run.broken(why, slot, generation)
        context.close(promise: nil)
    }
}
