import Logging
import Machinery
import NIOCore
import RPC
import Wire

/// Bytes of one peer's connection in and out: handshake, then frames.
///
/// Isolation: confined to its channel's event loop.
final class PeerHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let core: NodeCore
    private let onAuthenticated: @Sendable () -> Void
    private var handshake: Handshake
    private var connection: PeerConnection?
    private var pending = ByteBuffer()
    private var authenticated = false
    private var opened: UInt64 = 0
    private var lastRead: UInt64 = 0
    private var lastPing: UInt64 = 0
    private var ticks: RepeatedTask?
    /// The peer's roles that are in our directory.
    private var remote: [PeerFrame.Hosted: RemoteTarget] = [:]
    /// The roles of ours that the peer has been told, by number.
    private var told: HostedRoles.Snapshot?

    init(core: NodeCore, side: Handshake.Side, onAuthenticated: @escaping @Sendable () -> Void) {
        self.core = core
        self.onAuthenticated = onAuthenticated
        var random = SystemRandomNumberGenerator()
        let nonce = (0..<PeerFrame.nonceBytes).map { _ in UInt8.random(in: 0...255, using: &random) }
        handshake = Handshake(side: side, node: core.node, nonce: nonce, secret: core.secret)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { begin(context) }
    }

    func channelActive(context: ChannelHandlerContext) { begin(context) }

    private func begin(_ context: ChannelHandlerContext) {
        guard connection == nil else { return }
        opened = SystemClock.now().micros
        lastRead = opened
        lastPing = opened
        let connection = PeerConnection(channel: context.channel, config: core.config)
        self.connection = connection
        for frame in handshake.begin() { connection.send(frame) }
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        let step = TimeAmount.milliseconds(Int64(core.config.tickMS))
        ticks = context.eventLoop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in this.value.tick() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { finish() }

    private func finish() {
        ticks?.cancel()
        ticks = nil
        for (_, target) in remote { core.forget(target) }
        remote = [:]
        guard let connection else { return }
        core.closed(connection)
        connection.end()
        self.connection = nil
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { connection?.drain() }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        core.logger.debug("peer connection failed", metadata: ["peer": peerName, "error": "\(error)"])
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        lastRead = SystemClock.now().micros
        var buffer = unwrapInboundIn(data)
        if pending.readableBytes > 0 {
            pending.writeBuffer(&buffer)
            buffer = pending
            pending = ByteBuffer()
        }
        do {
            while let frame = try PeerFrame.decode(&buffer, limit: frameLimit) { try receive(frame) }
        } catch {
            core.logger.warning("peer was cut", metadata: ["peer": peerName, "reason": "\(error)"])
            context.close(promise: nil)
            return
        }
        // A slice would keep the whole old buffer alive and grow it: what is left is usually little.
        if buffer.readableBytes > 0 {
            buffer.discardReadBytes()
            pending = buffer
        }
    }

    private var frameLimit: Int {
        authenticated ? core.config.maxFrameBytes : core.config.maxHandshakeFrameBytes
    }

    private var peerName: Logger.MetadataValue { "\(connection?.name ?? "unknown")" }

    private func receive(_ frame: PeerFrame) throws {
        guard let connection else { return }
        guard authenticated else { return try shake(frame, connection) }
        switch frame {
        case .hello, .challenge, .proof: throw Handshake.Refusal.unexpected
        case .hosted(let list): try host(list, connection)
        case .ping(let value): connection.send(.pong(value))
        case .pong: break
        case .cancel(let id): connection.cancel(id)
        case .call(let id, let number, let remaining, let kind, let body):
            try take(id, number, remaining, kind, body, connection)
        case .answer(let id, let kind, var body):
            let bytes = body.readBytes(length: body.readableBytes) ?? []
            guard let payload = try Payload(kind: kind, body: bytes) else {
                let failure = Failure(.malformedRequest, "an answer of payload \(kind), which this build does not know")
                return connection.answered(id, .unknown(failure))
            }
            connection.answered(id, .answered(payload))
        case .refused(let id, let body):
            connection.answered(id, .refused(Failure(body: body) ?? Failure(.internalError, "refused")))
        case .unknown(let id, let body):
            connection.answered(id, .unknown(Failure(body: body) ?? Failure(.internalError, "unknown")))
        }
    }

    private func shake(_ frame: PeerFrame, _ connection: PeerConnection) throws {
        switch try handshake.on(frame) {
        case .send(let frames): for frame in frames { connection.send(frame) }
        case .done(let frames, _):
            for frame in frames { connection.send(frame) }
            authenticated = true
            core.opened(connection)
            onAuthenticated()
            tell(connection)
        }
    }

    /// Tells the peer what runs here, if that has changed.
    private func tell(_ connection: PeerConnection) {
        let now = core.hosted.snapshot()
        guard now.version != told?.version else { return }
        told = now
        connection.send(.hosted(now.list))
    }

    /// The peer's whole list: what is not in it any more is gone.
    private func host(_ list: [PeerFrame.Hosted], _ connection: PeerConnection) throws {
        guard list.count <= core.config.maxHosted else { throw PeerFrame.Malformed.tooLarge(list.count) }
        let wanted = Set(list)
        for (entry, target) in remote where !wanted.contains(entry) {
            core.forget(target)
            remote[entry] = nil
        }
        for entry in list where remote[entry] == nil {
            let target = RemoteTarget(entry: entry, connection: connection)
            remote[entry] = target
            core.learn(target)
        }
    }

    private func take(
        _ id: UInt64, _ number: UInt32, _ remaining: UInt32, _ kind: UInt16, _ body: ByteBuffer,
        _ connection: PeerConnection
    ) throws {
        guard let entry = told?.byNumber[number], let target = core.local(entry) else {
            return connection.reply(id, .refused(Failure(.serviceUnavailable, "no role here has number \(number)")))
        }
        var body = body
        let bytes = body.readBytes(length: body.readableBytes) ?? []
        guard let payload = try Payload(kind: kind, body: bytes) else {
            return connection.reply(id, .refused(Failure(.noSuchMethod, "payload \(kind) is not known here")))
        }
        let deadline = lastRead + UInt64(remaining) * 1000
        let call = IncomingCall(id: id, origin: id == 0 ? nil : connection, payload: payload, deadline: deadline)
        if let failure = target.accept(call) { connection.reply(id, .refused(failure)) }
    }

    private func tick() {
        guard let connection else { return }
        let now = SystemClock.now().micros
        let silent = now - min(now, lastRead)
        if !authenticated {
            guard now.since(opened) > UInt64(core.config.handshakeTimeoutMS) * 1000 else { return }
            core.logger.warning("peer did not prove itself in time", metadata: ["peer": peerName])
            return connection.close()
        }
        connection.expire(now)
        if silent > UInt64(core.config.silentLimitMS) * 1000 {
            core.logger.warning("peer is dead", metadata: ["peer": peerName, "silent_ms": "\(silent / 1000)"])
            return connection.close()
        }
        let pause = UInt64(core.config.pingEveryMS) * 1000
        if silent > pause, now.since(lastPing) > pause {
            lastPing = now
            connection.send(.ping(now))
        }
        tell(connection)
    }
}
