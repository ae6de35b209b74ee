import Machinery
import NIOCore
import Wire

/// One client's connection: cuts frames out of what comes and gathers what goes. It decides nothing about frames; that
/// is the machine's.
///
/// Isolation: its channel's event loop, which is its gateway loop's.
final class GatewayConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State: UInt8 {
        case open
        /// Our side is over; what comes is ignored.
        case finishing
        case closed
    }

    // There are very many of these: what is seldom there is boxed, and the small fields stand together.
    let id: ConnectionID
    let channel: any Channel
    let loop: GatewayLoop
    private var webSocket: WebSocketDecoder?
    private var frameLimit = UInt32(FrameLimits.beforeLoginBytes)
    private var state = State.open
    /// False until a WebSocket's upgrade is done: then nothing but HTTP may be written.
    private var ready = true
    private var finishAtFlush = false
    /// Whether the loop has it in its list of connections to flush.
    var dirty = false
    private var tail = FrameTail()
    /// Gathered since the last flush.
    private var pending: ByteBuffer?
    /// The last WebSocket ping; only the latest is answered.
    @Seldom private var ping: ByteBuffer?

    init(id: ConnectionID, channel: any Channel, loop: GatewayLoop) {
        self.id = id
        self.channel = channel
        self.loop = loop
    }

    /// It will speak WebSocket, but does not yet.
    func awaitUpgrade() { ready = false }

    /// From now on the connection carries WebSocket frames.
    func upgraded() {
        ready = true
        webSocket = WebSocketDecoder()
    }

    // MARK: - Reading

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let came = unwrapInboundIn(data)
        loop.receiveBuffer.giveBack(came)
        guard state == .open else { return }
        var bytes = tail.join(came)
        let frames = webSocket != nil ? readMessages(&bytes) : readFrames(&bytes)
        defer { loop.readDone(frames: frames) }
        guard state == .open else { return }
        tail.keep(&bytes)
    }

    /// How many frames there were.
    private func readFrames(_ bytes: inout ByteBuffer) -> Int {
        var count = 0
        do {
            while state == .open, let frame = try FrameCodec.decodeStream(&bytes, limit: Int(frameLimit)) {
                loop.input(.frame(id, frame))
                count += 1
            }
        } catch {
            malformed(error)
        }
        return count
    }

    private func readMessages(_ bytes: inout ByteBuffer) -> Int {
        var count = 0
        do {
            while state == .open, let event = try webSocket?.next(&bytes, limit: Int(frameLimit)) {
                switch event {
                case .message(let payload):
                    count += 1
                    do {
                        loop.input(.frame(id, try FrameCodec.decode(payload)))
                    } catch {
                        malformed(error)
                    }
                case .ping(let payload):
                    // A copy, for the same reason as below.
                    ping = ByteBuffer(bytes: payload.readableBytesView)
                    loop.touch(self)
                case .pong: break
                case .close: closeWebSocket(1000)
                }
            }
        } catch {
            closeWebSocket(error.closeCode)
        }
        return count
    }

    private func malformed(_ error: FrameError) {
        let why: MalformedInput
        switch error {
        case .tooLarge(let bytes, let limit): why = .tooLarge("a frame of \(bytes) bytes; the limit is \(limit)")
        case .badLength: why = .tooLarge("a length of more than \(FrameLimits.maxLengthBytes) bytes, or padded")
        case .empty, .unknownType, .truncatedHeader, .badKey, .trailingBytes: why = .notAFrame("\(error)")
        }
        state = .finishing
        loop.input(.malformed(id, why))
    }

    /// The end of a WebSocket, by its own rules; the machine hears `.closed`.
    private func closeWebSocket(_ code: UInt16) {
        guard state == .open else { return }
        state = .finishing
        var out = takePending()
        WebSocketEncoder.close(code, into: &out)
        channel.writeAndFlush(out, promise: nil)
        channel.close(promise: nil)
    }

    // MARK: - Writing

    /// Gathers a frame.
    func write(_ frame: Frame) {
        guard state != .closed, ready else { return }
        var out = takePending(room: FrameCodec.payloadBytes(frame))
        if webSocket != nil {
            WebSocketEncoder.binary(FrameCodec.payloadBytes(frame), into: &out)
            FrameCodec.encodePayload(frame, into: &out)
        } else {
            FrameCodec.encodeStream(frame, into: &out)
        }
        pending = out
        loop.touch(self)
    }

    /// What was gathered, taken out, with room for more.
    private func takePending(room: Int = 0) -> ByteBuffer {
        defer { pending = nil }
        // The longest header is a WebSocket's, 10 bytes.
        return pending ?? channel.allocator.buffer(capacity: room + 16)
    }

    /// One write for all that was gathered.
    ///
    /// - Returns: the bytes that are still unsent, when there are so many that the connection is not writable.
    func flush() -> Int {
        dirty = false
        if let payload = ping {
            ping = nil
            var out = takePending(room: payload.readableBytes)
            WebSocketEncoder.pong(payload, into: &out)
            pending = out
        }
        guard state != .closed else { return 0 }
        if let out = pending {
            pending = nil
            channel.writeAndFlush(out, promise: nil)
        }
        if finishAtFlush { closeOutput() }
        guard !channel.isWritable else { return 0 }
        return (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// Closes our side after the next flush. What the client still sends is read and dropped, so that the reason
    /// reaches it: closing a socket with unread bytes would reset the connection.
    func finish() {
        guard state != .closed else { return }
        state = .finishing
        finishAtFlush = true
        tail = FrameTail()
        loop.touch(self)
    }

    private func closeOutput() {
        finishAtFlush = false
        guard ready else { return channel.close(promise: nil) }
        if webSocket != nil {
            var out = channel.allocator.buffer(capacity: 4)
            WebSocketEncoder.close(1000, into: &out)
            channel.writeAndFlush(out, promise: nil)
        }
        setReading(true)
        channel.close(mode: .output, promise: nil)
    }

    func abort() {
        guard state != .closed else { return }
        channel.close(promise: nil)
    }

    func setReading(_ reading: Bool) {
        _ = try? channel.syncOptions?.setOption(.autoRead, value: reading)
    }

    func setFrameLimit(_ bytes: Int) { frameLimit = UInt32(bytes) }

    // MARK: - The channel's own events

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if state == .open { loop.input(.writable(id, context.channel.isWritable)) }
        context.fireChannelWritabilityChanged()
    }

    /// The socket is gone.
    func closed() {
        guard state != .closed else { return }
        state = .closed
        tail = FrameTail()
        pending = nil
        loop.forget(self)
    }

    /// A broken socket or TLS session: nothing can be said to the peer any more.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
