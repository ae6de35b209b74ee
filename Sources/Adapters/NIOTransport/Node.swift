import Logging
import NIOCore
import NIOPosix
import RPC
import Synchronization

/// This process among the others: listens for peers, keeps connections to peers, and makes their roles callable
/// through the process's `Directory` as if they were here. Both directions call over one connection.
///
/// Isolation: any thread.
public final class Node: Sendable {
    private struct State {
        var servers: [PeerServer] = []
        var links: [PeerLink] = []
        var discoveries: [PeerDiscovery] = []
        var stopped = false
    }

    private let core: NodeCore
    private let group: any EventLoopGroup
    private let ownsGroup: Bool
    private let state = Mutex(State())

    /// - Parameters:
    ///   - directory: where remote roles are added, and where calls from peers find the local ones.
    ///   - hosted: role and instance of everything in this process that peers may call. Asked about twenty times a
    ///     second, so that roles added or withdrawn later are told to the peers; it must be quick.
    ///   - secret: the cluster's; at least `minimumSecretBytes` long, the same in every process.
    ///   - group: the event loops to use; nil makes one of its own, which `stop` ends.
    public init(
        directory: Directory, hosted: @escaping @Sendable () -> [(RoleName, String)], secret: String,
        group: (any EventLoopGroup)? = nil, config: TransportConfig = TransportConfig(), logger: Logger
    ) throws {
        guard secret.utf8.count >= minimumSecretBytes else { throw NodeError.shortSecret }
        core = NodeCore(
            directory: directory, hosted: HostedRoles(hosted), secret: Array(secret.utf8), config: config,
            logger: logger)
        ownsGroup = group == nil
        self.group = group ?? MultiThreadedEventLoopGroup(numberOfThreads: 1)
    }

    /// Listens for peers; port 0 takes a free one. Returns the port.
    ///
    /// - Throws: the system's error, for example when the port is taken.
    @discardableResult
    public func listen(host: String, port: Int) async throws -> Int {
        let server = try await PeerServer.start(core: core, group: group, host: host, port: port)
        state.withLock { $0.servers.append(server) }
        return server.port
    }

    /// Keeps a connection to each address from now on. An address that is given twice counts once.
    public func connect(to addresses: [PeerAddress]) {
        let fresh = state.withLock { state -> [PeerLink] in
            guard !state.stopped else { return [] }
            var links: [PeerLink] = []
            for address in addresses where !(state.links + links).contains(where: { $0.address == address }) {
                links.append(PeerLink(core: core, group: group, address: address))
            }
            state.links += links
            return links
        }
        for link in fresh { link.start() }
    }

    /// Keeps a connection to every address behind each of these names from now on. They are looked up again every few
    /// seconds: new addresses are connected to, those that are gone are not tried again.
    public func discover(
        _ names: [PeerAddress], config: DiscoveryConfig = DiscoveryConfig(),
        resolver: any PeerResolver = SystemResolver()
    ) {
        guard !names.isEmpty else { return }
        state.withLock { state in
            guard !state.stopped else { return }
            state.discoveries.append(
                PeerDiscovery(names, config: config, resolver: resolver, logger: core.logger) { [weak self] action in
                    switch action {
                    case .connect(let address): self?.connect(to: [address])
                    case .letGo(let address): self?.letGo(address)
                    }
                })
        }
    }

    /// Does not connect to the address again. A connection that is there stays until it ends.
    func letGo(_ address: PeerAddress) {
        let link = state.withLock { state -> PeerLink? in
            guard let place = state.links.firstIndex(where: { $0.address == address }) else { return nil }
            return state.links.remove(at: place)
        }
        link?.letGo()
    }

    /// Gauges of the peers that are connected and authenticated.
    public var peers: [PeerCounters] { core.peers.map(\.counters) }

    /// Where connections are kept to.
    var links: [PeerAddress] { state.withLock { $0.links.map(\.address) } }

    /// Cuts every connection now: the peers' calls here and ours there end as *unknown*; links connect again.
    public func dropConnections() { for peer in core.peers { peer.close() } }

    /// Ends listening, links and connections for good.
    public func stop() async {
        let (servers, links, discoveries) = state.withLock { state in
            state.stopped = true
            defer {
                state.servers = []
                state.links = []
                state.discoveries = []
            }
            return (state.servers, state.links, state.discoveries)
        }
        for discovery in discoveries { discovery.stop() }
        for server in servers { await server.stop() }
        for link in links { await link.stop() }
        dropConnections()
        if ownsGroup { try? await group.shutdownGracefully() }
    }
}

/// Why a node cannot be made.
public enum NodeError: Error, Equatable, CustomStringConvertible {
    case shortSecret

    public var description: String {
        switch self {
        case .shortSecret: "the cluster secret needs at least \(minimumSecretBytes) bytes"
        }
    }
}
