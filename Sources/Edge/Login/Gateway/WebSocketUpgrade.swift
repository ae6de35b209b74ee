import NIOCore
import NIOHTTP1
import NIOWebSocket

/// The HTTP part of a WebSocket's life: the upgrade at `/ws`, or an answer that says what this port is for. Afterwards
/// the connection is alone in the pipeline: frames are cut by `WebSocketDecoder`, whose limits follow the session.
enum WebSocketUpgrade {
    static let path = "/ws"

    /// - Parameter maxBytes: of HTTP before the upgrade.
    static func configure(_ channel: any Channel, _ connection: GatewayConnection, maxBytes: Int) throws {
        connection.awaitUpgrade()
        let pipeline = channel.pipeline.syncOperations
        let guardHandler = UpgradeGuard(maxBytes: maxBytes, receiveBuffer: connection.loop.receiveBuffer)
        try pipeline.addHandler(guardHandler)
        let answer = NoUpgradeHandler()
        let box = NIOLoopBound(
            (connection: connection, guardHandler: guardHandler, answer: answer), eventLoop: channel.eventLoop)
        let upgrader = FrameUpgrader(path: path) { channel in
            let parts = box.value
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(parts.connection)
            parts.connection.upgraded()
            pipeline.removeHandler(parts.answer, promise: nil)
            pipeline.removeHandler(parts.guardHandler, promise: nil)
        }
        try pipeline.configureHTTPServerPipeline(
            withPipeliningAssistance: false,
            withServerUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
        try pipeline.addHandler(answer)
    }
}

/// swift-nio's handshake without swift-nio's frame handlers.
private final class FrameUpgrader: HTTPServerProtocolUpgrader, Sendable {
    let supportedProtocol = "websocket"
    let requiredUpgradeHeaders: [String] = []
    private let handshake: NIOWebSocketServerUpgrader
    private let install: @Sendable (any Channel) throws -> Void

    init(path: String, install: @escaping @Sendable (any Channel) throws -> Void) {
        self.install = install
        handshake = NIOWebSocketServerUpgrader(
            shouldUpgrade: { channel, head in
                let asked = head.uri.split(separator: "?", maxSplits: 1).first.map(String.init)
                return channel.eventLoop.makeSucceededFuture(asked == path && head.method == .GET ? HTTPHeaders() : nil)
            },
            upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
    }

    func buildUpgradeResponse(
        channel: any Channel, upgradeRequest: HTTPRequestHead, initialResponseHeaders: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
        handshake.buildUpgradeResponse(
            channel: channel, upgradeRequest: upgradeRequest, initialResponseHeaders: initialResponseHeaders)
    }

    func upgrade(context: ChannelHandlerContext, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Void> {
        let channel = context.channel
        return channel.eventLoop.makeCompletedFuture { try install(channel) }
    }
}

/// Bounds what comes before the upgrade.
private final class UpgradeGuard: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private var left: Int
    private let receiveBuffer: ReceiveBuffer

    init(maxBytes: Int, receiveBuffer: ReceiveBuffer) {
        left = maxBytes
        self.receiveBuffer = receiveBuffer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        receiveBuffer.giveBack(bytes)
        left -= bytes.readableBytes
        guard left >= 0 else { return context.close(promise: nil) }
        // The HTTP decoder keeps what is not a whole request yet: a copy, not the loop's buffer.
        var copy = context.channel.allocator.buffer(capacity: bytes.readableBytes)
        copy.writeImmutableBuffer(bytes)
        context.fireChannelRead(NIOAny(copy))
    }
}

/// Answers what is no upgrade, and closes.
private final class NoUpgradeHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let request) = unwrapInboundIn(data) else { return }
        let known = request.uri == WebSocketUpgrade.path || request.uri.hasPrefix(WebSocketUpgrade.path + "?")
        var head = HTTPResponseHead(version: request.version, status: known ? .upgradeRequired : .notFound)
        head.headers.add(name: "Connection", value: "close")
        if known { head.headers.add(name: "Upgrade", value: "websocket") }
        let text = "This port speaks WebSocket at \(WebSocketUpgrade.path).\n"
        head.headers.add(name: "Content-Length", value: "\(text.utf8.count)")
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
