import Foundation
import Machinery
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import NIOSSL
import Wire

/// The shell around the machine: one socket, one timer, one queue of notices. Touched on its event loop only.
final class ClientCore {
    private var machine: ClientMachine
    private let servers: [ServerAddress]
    private let tls: NIOSSLContext?
    private let loop: any EventLoop
    private let source: ClientEvents.Producer.Source
    private var nextServer: Int
    private var channel: (any Channel)?
    /// Which connection attempt is current: what older ones report is ignored.
    private var attempt = 0
    private var wake: (atMS: UInt64, task: Scheduled<Void>)?
    private var flushScheduled = false
    private var answers: [UInt64: (Answer) -> Void] = [:]
    /// Handles of `request`: far above what an app counts for its messages, though the two never meet.
    private var nextHandle: UInt64 = 1 << 63

    init(
        machine: ClientMachine, servers: [ServerAddress], tls: NIOSSLContext?, loop: any EventLoop,
        source: ClientEvents.Producer.Source, firstServer: UInt64
    ) {
        precondition(!servers.isEmpty, "a client needs a server")
        self.machine = machine
        self.servers = servers
        self.tls = tls
        self.loop = loop
        self.source = source
        nextServer = Int(firstServer % UInt64(servers.count))
    }

    private var nowMS: UInt64 { NIODeadline.now().uptimeNanoseconds / 1_000_000 }

    /// One event; what it makes is written once per turn of the loop.
    func tell(_ event: ClientEvent) {
        perform(machine.on(event, nowMS: nowMS))
        guard !flushScheduled else { return }
        flushScheduled = true
        let bound = NIOLoopBound(self, eventLoop: loop)
        loop.execute { bound.value.flush() }
    }

    func request(_ svid: UInt16, _ method: UInt16, _ body: [UInt8], then: @escaping (Answer) -> Void) {
        nextHandle += 1
        answers[nextHandle] = then
        tell(.request(handle: nextHandle, svid: svid, method: method, body: body))
    }

    /// The consumer caught up: read on.
    func resumeReading() {
        channel?.setOption(ChannelOptions.autoRead, value: true).whenFailure { _ in }
    }

    private func flush() {
        flushScheduled = false
        perform(machine.on(.flush, nowMS: nowMS))
        arm()
    }

    private func arm() {
        guard let due = machine.nextWakeMS else {
            wake?.task.cancel()
            return wake = nil
        }
        if let wake, wake.atMS <= due, wake.atMS > nowMS { return }
        wake?.task.cancel()
        let now = nowMS
        // Never less than 5 ms: a deadline that cannot be met yet must not spin.
        let wait = max(5, due > now ? due - now : 0)
        let bound = NIOLoopBound(self, eventLoop: loop)
        let task = loop.scheduleTask(in: .milliseconds(Int64(wait))) {
            bound.value.wake = nil
            bound.value.flush()
        }
        wake = (now + wait, task)
    }

    private func perform(_ actions: [ClientAction]) {
        for action in actions {
            switch action {
            case .connect(let address): connect(address.flatMap { ServerAddress($0) })
            case .write(let frames): write(frames)
            case .close:
                attempt += 1
                channel?.close(promise: nil)
                channel = nil
            case .notify(.answer(let handle, let answer)) where answers[handle] != nil:
                answers.removeValue(forKey: handle)?(answer)
            case .notify(let notice): notify(notice)
            }
        }
    }

    private func notify(_ notice: ClientNotice) {
        if case .stopProducing = source.yield(notice) {
            channel?.setOption(ChannelOptions.autoRead, value: false).whenFailure { _ in }
        }
        if case .ended = notice { source.finish() }
    }

    private func write(_ frames: [Frame]) {
        guard let channel else { return }
        var bytes = channel.allocator.buffer(capacity: frames.reduce(0) { $0 + FrameCodec.payloadBytes($1) + 4 })
        for frame in frames { FrameCodec.encodeStream(frame, into: &bytes) }
        channel.writeAndFlush(bytes, promise: nil)
    }

    private func connect(_ redirected: ServerAddress?) {
        let server = redirected ?? servers[nextServer % servers.count]
        if redirected == nil { nextServer += 1 }
        attempt += 1
        let mine = attempt
        let bound = NIOLoopBound(self, eventLoop: loop)
        let tls = tls
        ClientBootstrap(group: loop)
            .connectTimeout(.seconds(5))
            .channelOption(ChannelOptions.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: server.certificateName))
                    }
                    try channel.pipeline.syncOperations.addHandler(ClientHandler(core: bound.value, attempt: mine))
                }
            }
            .connect(host: server.host, port: server.port)
            .assumeIsolated()
            .whenComplete { result in bound.value.finishedConnecting(mine, server, result) }
    }

    private func finishedConnecting(_ mine: Int, _ server: ServerAddress, _ result: Result<any Channel, any Error>) {
        switch result {
        case .success(let channel):
            guard mine == attempt else { return channel.close(promise: nil) }
            self.channel = channel
            tell(.connected)
        case .failure(let error):
            guard mine == attempt else { return }
            tell(.disconnected("cannot reach \(server): \(Trouble.words(error))"))
        }
    }

    func received(_ frames: [Frame], attempt: Int) {
        guard attempt == self.attempt else { return }
        for frame in frames { perform(machine.on(.received(frame), nowMS: nowMS)) }
        flush()
    }

    func lost(_ why: String, attempt: Int) {
        guard attempt == self.attempt, channel != nil else { return }
        channel = nil
        tell(.disconnected(why))
    }
}

/// Cuts the stream into frames and hands over what one read brought.
private final class ClientHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let core: ClientCore
    private let attempt: Int
    private var pending = ByteBuffer()

    init(core: ClientCore, attempt: Int) {
        self.core = core
        self.attempt = attempt
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var incoming = unwrapInboundIn(data)
        if pending.readableBytes == 0 { pending = incoming } else { pending.writeBuffer(&incoming) }
        var frames: [Frame] = []
        do {
            while let frame = try FrameCodec.decodeStream(&pending, limit: FrameLimits.afterLoginBytes) {
                frames.append(frame)
            }
        } catch {
            core.lost("the server sent no frame: \(error)", attempt: attempt)
            return context.close(promise: nil)
        }
        pending.discardReadBytes()
        if !frames.isEmpty { core.received(frames, attempt: attempt) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        core.lost("the server closed the connection", attempt: attempt)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        core.lost(Trouble.words(error), attempt: attempt)
        context.close(promise: nil)
    }
}

/// Told by the notice queue, on any thread, when the consumer wants more. The lock guards the late-set core only.
final class ResumeReading: NIOAsyncSequenceProducerDelegate, Sendable {
    let core = NIOLockedValueBox<NIOLoopBoundBox<ClientCore>?>(nil)
    private let loop: any EventLoop

    init(loop: any EventLoop) { self.loop = loop }

    func produceMore() {
        guard let core = core.withLockedValue({ $0 }) else { return }
        loop.execute { core.value.resumeReading() }
    }

    func didTerminate() {
        guard let core = core.withLockedValue({ $0 }) else { return }
        loop.execute { core.value.tell(.stop) }
    }
}

/// Errors of the network in words for a status line.
private enum Trouble {
    static func words(_ error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            return error.connectionErrors.first.map { words($0.error) } ?? "no address for that name"
        case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError:
            return "TLS failed: the certificate is not trusted for that name, or nobody speaks TLS there"
        case let error as IOError: return String(cString: strerror(error.errnoCode))
        case ChannelError.connectTimeout: return "no answer"
        default: return "\(error)"
        }
    }
}
