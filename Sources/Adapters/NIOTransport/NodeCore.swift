import Logging
import RPC
import Synchronization

/// What all connections of a node share: who we are, what runs here, what the peers brought.
///
/// Isolation: any thread.
final class NodeCore: Sendable {
    private struct Key: Hashable {
        var role: RoleName
        var instance: String
    }

    let node = UInt64.random(in: 1...UInt64.max)
    let secret: [UInt8]
    let config: TransportConfig
    let logger: Logger
    let directory: Directory
    let hosted: HostedRoles
    private let connections = Mutex<[ObjectIdentifier: PeerConnection]>([:])
    /// Remote targets per role and instance, the newest last: when two connections lead to the same process and one
    /// ends, the other takes over. Lock order: this one, then the directory's.
    private let remote = Mutex<[Key: [RemoteTarget]]>([:])

    init(directory: Directory, hosted: HostedRoles, secret: [UInt8], config: TransportConfig, logger: Logger) {
        self.directory = directory
        self.hosted = hosted
        self.secret = secret
        self.config = config
        self.logger = logger
    }

    func opened(_ connection: PeerConnection) {
        connections.withLock { $0[ObjectIdentifier(connection)] = connection }
        logger.info("peer connected", metadata: ["peer": "\(connection.name)"])
    }

    func closed(_ connection: PeerConnection) {
        guard connections.withLock({ $0.removeValue(forKey: ObjectIdentifier(connection)) }) != nil else { return }
        logger.info("peer disconnected", metadata: ["peer": "\(connection.name)"])
    }

    var peers: [PeerConnection] { connections.withLock { Array($0.values) } }

    /// Makes a peer's role reachable. What runs in this process stays ours.
    func learn(_ target: RemoteTarget) {
        let key = Key(role: target.entry.role, instance: target.entry.instance)
        if hosted.contains(key.role, key.instance) {
            logger.warning(
                "peer hosts a role of the same name as ours; ours is used",
                metadata: ["role": "\(key.role)", "instance": "\(key.instance)"])
            return
        }
        remote.withLock { table in
            table[key, default: []].append(target)
            directory.add(key.role, key.instance, target)
        }
    }

    func forget(_ target: RemoteTarget) {
        let key = Key(role: target.entry.role, instance: target.entry.instance)
        remote.withLock { table in
            guard var targets = table[key], let at = targets.firstIndex(where: { $0 === target }) else { return }
            targets.remove(at: at)
            table[key] = targets.isEmpty ? nil : targets
            guard at == targets.count else { return }
            directory.remove(key.role, key.instance, target)
            if let other = targets.last { directory.add(key.role, key.instance, other) }
        }
    }

    /// The host of a role of this process; never one of another, so that calls cannot go round in circles.
    func local(_ entry: PeerFrame.Hosted) -> (any CallTarget)? {
        guard let target = directory.resolve(.instance(entry.role, entry.instance), near: nil) else { return nil }
        return target is RemoteTarget ? nil : target
    }
}

/// The roles of this process, numbered for the wire. A number is never given to another role.
///
/// Isolation: any thread.
final class HostedRoles: Sendable {
    struct Snapshot: Sendable {
        var version: UInt64 = 0
        var list: [PeerFrame.Hosted] = []
        var byNumber: [UInt32: PeerFrame.Hosted] = [:]
    }

    private struct State {
        var now = Snapshot()
        var next: UInt32 = 1
    }

    private let provider: @Sendable () -> [(RoleName, String)]
    private let state = Mutex(State())

    init(_ provider: @escaping @Sendable () -> [(RoleName, String)]) { self.provider = provider }

    /// Asks the provider.
    func snapshot() -> Snapshot {
        let roles = provider()
        return state.withLock { state in
            let known = state.now.list
            let same =
                known.count == roles.count
                && zip(known, roles).allSatisfy { $0.role == $1.0 && $0.instance == $1.1 }
            if same, state.now.version > 0 { return state.now }
            var list: [PeerFrame.Hosted] = []
            for (role, instance) in roles where !role.rawValue.isEmpty && !instance.isEmpty {
                precondition(role.rawValue.utf8.count < 256 && instance.utf8.count < 256, "a role's name is too long")
                if let old = known.first(where: { $0.role == role && $0.instance == instance }) {
                    list.append(old)
                } else {
                    list.append(PeerFrame.Hosted(number: state.next, role: role, instance: instance))
                    state.next += 1
                }
            }
            state.now.version += 1
            state.now.list = list
            for entry in list { state.now.byNumber[entry.number] = entry }
            return state.now
        }
    }

    func contains(_ role: RoleName, _ instance: String) -> Bool {
        provider().contains { $0.0 == role && $0.1 == instance }
    }
}
