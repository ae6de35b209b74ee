import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import Synchronization

/// HTTP/1.1 whose connections cannot be held by clients that are slow on purpose: a `ConnectionGuard` sits right behind
/// the decoder, where it sees requests and responses but no more than their edges.
struct GuardedHTTP: ServerChildChannel {
    typealias Value = HTTP1Channel.Value

    let inner: HTTP1Channel
    let limits: APILimits
    let crowd: Crowd

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        let ready = inner.setup(channel: channel, logger: logger)
        // The channel is set up on its own loop, so this runs before the first byte.
        do {
            let operations = channel.pipeline.syncOperations
            let decoder = try operations.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
            try operations.addHandler(ConnectionGuard(limits: limits, crowd: crowd), position: .after(decoder))
            return ready
        } catch {
            return channel.eventLoop.makeFailedFuture(error)
        }
    }

    func handle(value: Value, logger: Logger) async { await inner.handle(value: value, logger: logger) }
}

/// When a connection has to be somewhere. Pure: time is given.
struct ConnectionDeadlines {
    private let limits: APILimits
    /// Heads that came and whose response has not been handed to the socket as a whole.
    private(set) var unanswered = 0
    /// Ends of responses that the socket has not taken yet.
    private var untaken = 0
    private var isReading = false
    private var request: NIODeadline?
    private var response: NIODeadline?
    private var idle: NIODeadline?

    init(limits: APILimits) { self.limits = limits }

    /// The next moment at which something has to have happened.
    var earliest: NIODeadline? { [request, response, idle].compactMap { $0 }.min() }

    /// Between requests; the first time when the connection opens.
    mutating func rest(_ now: NIODeadline, crowded: Bool) {
        guard unanswered == 0, untaken == 0, request == nil else { return }
        idle = now + .seconds(crowded ? limits.idleSecondsCrowded : limits.idleSeconds)
    }

    /// Bytes came that do not make a whole head yet.
    mutating func heardSome(_ now: NIODeadline) {
        guard unanswered == 0, untaken == 0, !isReading, request == nil else { return }
        begin(now)
    }

    mutating func heardHead(_ now: NIODeadline) {
        unanswered += 1
        isReading = true
        if request == nil { begin(now) }
    }

    mutating func heardEnd() {
        isReading = false
        request = nil
    }

    /// Part of a response is on its way to the socket.
    mutating func said(bytes: Int, _ now: NIODeadline) {
        let extra = TimeAmount.milliseconds(Int64(bytes) * 1000 / limits.responseBytesPerSecond)
        response = (response ?? now + .milliseconds(limits.responseMS)) + extra
    }

    mutating func saidEnd() {
        unanswered = max(0, unanswered - 1)
        untaken += 1
    }

    /// The socket took a whole response; those behind it have the time of one again.
    mutating func taken(_ now: NIODeadline, crowded: Bool) {
        untaken -= 1
        response = untaken > 0 ? now + .milliseconds(limits.responseMS) : nil
        rest(now, crowded: crowded)
    }

    private mutating func begin(_ now: NIODeadline) {
        request = now + .milliseconds(limits.requestMS)
        idle = nil
    }
}

/// Ends a connection whose request does not come, or whose response is not taken, within the time for it as a whole:
/// one byte now and then buys nobody a minute. Also one that sends request behind request without waiting for answers.
///
/// Isolation: its channel's loop.
final class ConnectionGuard: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let crowd: Crowd
    private let pipelined: Int
    private var deadlines: ConnectionDeadlines
    /// Too many requests behind one another: what was read with them is not looked at.
    private var isFlooded = false
    /// The address under which this connection is counted; nil when it is not.
    private var counted: String?
    private var heardPart = false
    private var wake: (at: NIODeadline, task: Scheduled<Void>)?

    init(limits: APILimits, crowd: Crowd) {
        self.crowd = crowd
        self.pipelined = limits.pipelined
        self.deadlines = ConnectionDeadlines(limits: limits)
    }

    func channelActive(context: ChannelHandlerContext) {
        let address = AddressGroup.of(context.remoteAddress?.ipAddress ?? "")
        guard crowd.enter(address) else {
            context.fireChannelActive()
            return context.close(promise: nil)
        }
        counted = address
        deadlines.rest(.now(), crowded: crowd.isCrowded)
        watch(context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        wake?.task.cancel()
        wake = nil
        if let counted { crowd.leave(counted) }
        counted = nil
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        heardPart = true
        guard !isFlooded else { return }
        switch unwrapInboundIn(data) {
        case .head:
            if deadlines.unanswered >= pipelined {
                isFlooded = true
                return context.close(promise: nil)
            }
            deadlines.heardHead(.now())
        case .body: break
        case .end: deadlines.heardEnd()
        }
        watch(context)
        context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if !heardPart {
            deadlines.heardSome(.now())
            watch(context)
        }
        heardPart = false
        context.fireChannelReadComplete()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head: deadlines.said(bytes: 0, .now())
        case .body(let data): deadlines.said(bytes: data.readableBytes, .now())
        case .end:
            deadlines.saidEnd()
            watch(context)
            let taken = promise ?? context.eventLoop.makePromise(of: Void.self)
            taken.futureResult.assumeIsolated().whenComplete { [self] _ in
                deadlines.taken(.now(), crowded: crowd.isCrowded)
                if context.channel.isActive { watch(context) }
            }
            return context.write(data, promise: taken)
        }
        watch(context)
        context.write(data, promise: promise)
    }

    /// Looks again at the earliest deadline; a wake-up that was set for sooner finds out then.
    private func watch(_ context: ChannelHandlerContext) {
        guard let earliest = deadlines.earliest else { return }
        if let wake, wake.at <= earliest { return }
        wake?.task.cancel()
        let task = context.eventLoop.assumeIsolated().scheduleTask(deadline: earliest) { [self] in
            wake = nil
            guard let due = deadlines.earliest else { return }
            if due <= .now() { context.close(promise: nil) } else { watch(context) }
        }
        wake = (earliest, task)
    }
}

/// Who holds the connections, so that no address can hold most of them.
///
/// Isolation: any thread; one mutex.
final class Crowd: Sendable {
    private struct State {
        var total = 0
        var byAddress: [String: Int] = [:]
    }

    private let state = Mutex(State())
    private let limits: APILimits
    /// Behind a proxy all connections have the proxy's address.
    private let knowsAddresses: Bool

    init(limits: APILimits, knowsAddresses: Bool) {
        self.limits = limits
        self.knowsAddresses = knowsAddresses
    }

    /// More than half of the connections are taken.
    var isCrowded: Bool { state.withLock { $0.total > limits.connections / 2 } }

    /// False when the address has its quarter of all connections already and there is a crowd.
    func enter(_ address: String) -> Bool {
        state.withLock { state in
            let own = state.byAddress[address] ?? 0
            let crowded = state.total >= limits.connections / 2
            if knowsAddresses, crowded, own >= max(1, limits.connections / 4) { return false }
            state.total += 1
            state.byAddress[address] = own + 1
            return true
        }
    }

    func leave(_ address: String) {
        state.withLock { state in
            state.total -= 1
            let own = (state.byAddress[address] ?? 1) - 1
            state.byAddress[address] = own > 0 ? own : nil
        }
    }
}
