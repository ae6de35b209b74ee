import Logging
import Machinery
import NIOCore
import NIOPosix
import Synchronization

/// Where another process listens.
public struct PeerAddress: Hashable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Parses "host:port" or "[v6]:port"; nil when there is no port from 1 to 65535.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (1...65_535).contains(port)
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { return nil }
        self.init(host: String(host), port: port)
    }

    public var description: String { "\(host):\(port)" }
}

/// The calling side: connects, and again after every end, with jittered backoff.
///
/// Isolation: any thread; a mutex around the backoff and the present channel.
final class PeerLink: Sendable {
    private struct State {
        var backoff: Backoff
        var random = SeededRandom(seed: UInt64.random(in: 0...UInt64.max))
        var channel: (any Channel)?
        var stopped = false
    }

    let address: PeerAddress
    private let core: NodeCore
    private let group: any EventLoopGroup
    private let state: Mutex<State>

    init(core: NodeCore, group: any EventLoopGroup, address: PeerAddress) {
        self.core = core
        self.group = group
        self.address = address
        let config = core.config
        state = Mutex(State(backoff: Backoff(firstMS: config.reconnectFirstMS, mostMS: config.reconnectMostMS)))
    }

    func start() {
        guard !state.withLock({ $0.stopped }) else { return }
        ClientBootstrap(group: group)
            .connectTimeout(.milliseconds(Int64(core.config.connectTimeoutMS)))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.writeBufferWaterMark, value: PeerChannel.watermark)
            .channelOption(.recvAllocator, value: PeerChannel.reads)
            .channelInitializer { [core] channel in
                PeerChannel.prepare(channel, core: core, side: .link) { [weak self] in
                    self?.state.withLock { $0.backoff.reset() }
                }
            }
            .connect(host: address.host, port: address.port)
            .whenComplete { self.connected($0) }
    }

    private func connected(_ result: Result<any Channel, any Error>) {
        switch result {
        case .failure(let error):
            core.logger.debug("peer is not reachable", metadata: ["peer": "\(address)", "error": "\(error)"])
            retry()
        case .success(let channel):
            let stopped = state.withLock { state in
                state.channel = channel
                return state.stopped
            }
            if stopped { channel.close(promise: nil) }
            channel.closeFuture.whenComplete { _ in self.retry() }
        }
    }

    private func retry() {
        let wait = state.withLock { state -> UInt64? in
            state.channel = nil
            return state.stopped ? nil : state.backoff.nextMS(using: &state.random)
        }
        guard let wait else { return }
        group.next().scheduleTask(in: .milliseconds(Int64(wait))) { self.start() }
    }

    /// The present connection, if there is one, is the last.
    func letGo() { state.withLock { $0.stopped = true } }

    func stop() async {
        let channel = state.withLock { state in
            state.stopped = true
            return state.channel
        }
        try? await channel?.close().get()
    }
}

/// How many connections a listener has.
final class OpenCount: Sendable {
    private let count = Mutex(0)

    func enter(limit: Int) -> Bool {
        count.withLock { count in
            guard count < limit else { return false }
            count += 1
            return true
        }
    }

    func leave() { count.withLock { $0 -= 1 } }
}
