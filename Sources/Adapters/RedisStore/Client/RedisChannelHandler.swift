import NIOCore

/// Bytes to replies. Tells its owner; decides nothing.
///
/// Isolation: its channel's event loop.
final class RedisChannelHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let parser: ReplyParser?
    private var received: (([RedisReply]) -> Void)?
    private var ended: ((String) -> Void)?
    private var reason = "it hung up"

    init(received: @escaping ([RedisReply]) -> Void, ended: @escaping (String) -> Void) {
        parser = ReplyParser()
        self.received = received
        self.ended = ended
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let parser else { return fail(context, "there is no memory for a parser") }
        let buffer = unwrapInboundIn(data)
        let result = buffer.withUnsafeReadableBytes { raw in
            Result { () throws(RedisProtocolError) in try parser.feed(raw) }
        }
        switch result {
        case .success(let replies): if !replies.isEmpty { received?(replies) }
        case .failure(let error): fail(context, "it speaks no Redis: \(error.message)")
        }
    }

    func channelInactive(context: ChannelHandlerContext) { finish() }

    func handlerRemoved(context: ChannelHandlerContext) { finish() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { fail(context, "\(error)") }

    private func fail(_ context: ChannelHandlerContext, _ why: String) {
        reason = why
        context.close(promise: nil)
    }

    private func finish() {
        let ended = self.ended
        self.ended = nil
        received = nil
        ended?(reason)
    }
}
