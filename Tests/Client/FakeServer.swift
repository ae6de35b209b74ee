import MartletClient
import NIOCore
import NIOPosix
import Wire

/// `FakeService` behind real sockets on 127.0.0.1. Everything of it is confined to one event loop.
final class FakeServer: Sendable {
    let port: Int
    private let loop: any EventLoop
    private let channel: any Channel
    private let state: NIOLoopBoundBox<State>

    final class State {
        var service: FakeService
        var channels: [Int: any Channel] = [:]
        var nextSession = 0

        init(_ service: FakeService) { self.service = service }

        func open(_ channel: any Channel) -> Int {
            nextSession += 1
            channels[nextSession] = channel
            service.open(nextSession)
            return nextSession
        }

        func flush() {
            var bytes: [Int: ByteBuffer] = [:]
            for (session, frame) in service.out {
                FrameCodec.encodeStream(frame, into: &bytes[session, default: .init()])
            }
            service.out = []
            for (session, buffer) in bytes { channels[session]?.writeAndFlush(buffer, promise: nil) }
            for session in service.closing { channels[session]?.close(promise: nil) }
            service.closing = []
        }
    }

    /// - Parameter port: 0 picks a free one.
    init(port: Int = 0, service: FakeService) async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let state = NIOLoopBoundBox.makeBoxSendingValue(State(service), eventLoop: loop)
        channel = try await ServerBootstrap(group: loop)
            .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { child in
                child.eventLoop.makeCompletedFuture {
                    try child.pipeline.syncOperations.addHandler(FakeHandler(state.value, child))
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
        self.port = channel.localAddress?.port ?? 0
        self.loop = loop
        self.state = state
    }

    var address: ServerAddress { ServerAddress(host: "127.0.0.1", port: port) }

    /// Reads or changes the service on its loop; what it then has to say is sent.
    @discardableResult
    func with<Result: Sendable>(_ body: @escaping @Sendable (inout FakeService) -> Result) async throws -> Result {
        let state = state
        return try await loop.submit {
            let result = body(&state.value.service)
            state.value.flush()
            return result
        }.get()
    }

    /// Cuts every connection; those who are there may come back.
    func cutEverybody() async throws {
        let state = state
        try await loop.submit { for channel in state.value.channels.values { channel.close(promise: nil) } }.get()
    }

    /// Stops listening and cuts everybody; the service's state is handed over to a next server.
    func stop() async throws -> FakeService {
        try await channel.close()
        try await cutEverybody()
        return try await with { $0 }
    }
}

private final class FakeHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let state: FakeServer.State
    private let session: Int
    private var incoming = ByteBuffer()

    init(_ state: FakeServer.State, _ channel: any Channel) {
        self.state = state
        session = state.open(channel)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        incoming.writeBuffer(&bytes)
        do {
            while let frame = try FrameCodec.decodeStream(&incoming, limit: FrameLimits.afterLoginBytes) {
                state.service.received(frame, from: session)
            }
        } catch {
            return context.close(promise: nil)
        }
        state.flush()
    }

    func channelInactive(context: ChannelHandlerContext) {
        state.channels[session] = nil
        state.service.close(session)
        state.flush()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
