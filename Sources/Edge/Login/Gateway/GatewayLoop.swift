import Logging
import Machinery
import NIOCore
import RPC

/// One event loop of a gateway: its connections, its machine, and what they have to say to each other.
///
/// Isolation: its event loop, which is its lane's; `start` and `drain` hop there.
final class GatewayLoop: @unchecked Sendable {
    // @unchecked: everything mutable is touched on the event loop only.
    let eventLoop: any EventLoop
    let config: GatewayConfig
    let receiveBuffer: ReceiveBuffer
    private let lane: Lane
    private let host: RoleHost<LoginMachine>
    private let logger: Logger
    private let drained: EventLoopPromise<Void>
    @exclusivity(unchecked) private var connections: [ConnectionID: GatewayConnection] = [:]
    @exclusivity(unchecked) private var dirty: [GatewayConnection] = []
    @exclusivity(unchecked) private var nextID: UInt64 = 1
    /// Frames that came since the lane had its turn.
    @exclusivity(unchecked) private var framesSinceTurn = 0
    /// Frames after which the lane gets a turn though more sockets have something to read: large enough for a batch to
    /// pay, small enough that what follows starts early.
    private static let framesPerTurn = 128
    /// Outputs are being carried out: what they cause is told to the machine afterwards.
    @exclusivity(unchecked) private var performing = false

    /// The way from the host's outputs to the loop, which does not exist yet when the host is made.
    private final class Wire { weak var loop: GatewayLoop? }

    init(
        eventLoop: any EventLoop, lane: Lane, instance: String, config: GatewayConfig, directory: Directory,
        logger: Logger, seed: UInt64
    ) {
        self.eventLoop = eventLoop
        self.lane = lane
        self.config = config
        receiveBuffer = ReceiveBuffer(bytes: config.maxReceiveBytes)
        self.logger = logger
        drained = eventLoop.makePromise(of: Void.self)
        let machine = LoginMachine(config: config.login, loginID: instance, random: SeededRandom(seed: seed))
        let wire = Wire()
        host = RoleHost(
            machine, instance: instance, lane: lane, directory: directory, logger: logger,
            output: { wire.loop?.perform($0) })
        wire.loop = self
    }

    func start() { host.start() }

    /// Lets the machine say goodbye to everybody; ends when it has.
    func drain() async throws {
        lane.run { self.input(.drain) }
        try await drained.futureResult.get()
        host.withdraw()
        try await eventLoop.submit { for connection in self.connections.values { connection.abort() } }.get()
    }

    /// Open connections. On the loop only.
    var connectionCount: Int { connections.count }

    /// A new connection, accepted on this loop.
    func open(_ channel: any Channel) -> GatewayConnection {
        eventLoop.preconditionInEventLoop()
        let connection = GatewayConnection(id: ConnectionID(nextID), channel: channel, loop: self)
        nextID += 1
        connections[connection.id] = connection
        input(.opened(connection.id))
        return connection
    }

    func forget(_ connection: GatewayConnection) {
        guard connections.removeValue(forKey: connection.id) != nil else { return }
        input(.closed(connection.id))
    }

    /// A socket has been read.
    func readDone(frames: Int) {
        framesSinceTurn += frames
        guard framesSinceTurn >= Self.framesPerTurn, !performing else { return }
        framesSinceTurn = 0
        lane.turn()
    }

    /// Tells the machine; after the outputs under way, when there are some, so that it never hears of a consequence
    /// before the rest of its own actions is done.
    func input(_ value: LoginInput) {
        if performing {
            lane.run { self.host.input(value) }
        } else {
            host.input(value)
        }
    }

    /// Puts it in the list of the next flush.
    func touch(_ connection: GatewayConnection) {
        guard !connection.dirty else { return }
        connection.dirty = true
        dirty.append(connection)
        // The machine's own flush may not come for what it has not written: a WebSocket's pong.
        if !performing { lane.run { self.flush() } }
    }

    private func perform(_ output: LoginOutput) {
        performing = true
        defer { performing = false }
        switch output {
        case .write(let id, let frame): connections[id]?.write(frame)
        case .flush: flush()
        case .frameLimit(let id, let bytes): connections[id]?.setFrameLimit(bytes)
        case .reading(let id, let reading): connections[id]?.setReading(reading)
        case .finish(let id): connections[id]?.finish()
        case .abort(let id): connections[id]?.abort()
        case .drained: drained.succeed(())
        }
    }

    private func flush() {
        let waiting = dirty
        dirty = []
        for connection in waiting where connection.flush() > config.maxOutboundBytes {
            lane.run { [id = connection.id] in self.host.input(.overflow(id)) }
        }
    }
}
