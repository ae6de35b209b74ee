import Identity
import Synchronization
import Wire

/// A call on its way: who waits for the answer, what is asked, until when.
public struct IncomingCall: Sendable {
    /// The caller's own number for it; 0 for a `tell`.
    public let id: UInt64
    public let origin: (any ReplySink)?
    public let payload: Payload
    /// `Instant.micros` of this process.
    public let deadline: UInt64

    public init(id: UInt64, origin: (any ReplySink)?, payload: Payload, deadline: UInt64) {
        self.id = id
        self.origin = origin
        self.payload = payload
        self.deadline = deadline
    }
}

/// Where answers go: a host in this process, or the connection that a call came over.
public protocol ReplySink: AnyObject, Sendable {
    func reply(_ id: UInt64, _ result: CallResult)
}

/// Something that takes calls: a host in this process, or a connection to one in another.
public protocol CallTarget: AnyObject, Sendable {
    /// Takes the call, or says why certainly not; then nothing was handed over and no reply will come.
    func accept(_ call: IncomingCall) -> Failure?
    /// The lane it lives on, where it lives in this process: calls stay on their lane when they can.
    var lane: Lane? { get }
}

/// Who can be called, by role and instance: the one object that the hosts of a process share.
///
/// Isolation: any thread; a mutex around an immutable table that is replaced whole.
public final class Directory: Sendable {
    public struct Entry: Sendable {
        public let instance: String
        public let target: any CallTarget
    }

    private struct Table {
        var roles: [RoleName: [Entry]] = [:]
        var turn = 0
    }

    private let table = Mutex(Table())

    public init() {}

    /// Makes an instance reachable; replaces an earlier one of the same role and name.
    public func add(_ role: RoleName, _ instance: String, _ target: any CallTarget) {
        table.withLock { table in
            var entries = table.roles[role, default: []].filter { $0.instance != instance }
            entries.append(Entry(instance: instance, target: target))
            entries.sort { $0.instance < $1.instance }
            table.roles[role] = entries
        }
    }

    /// Forgets an instance, but only if it is still this target: a late goodbye must not remove a successor.
    public func remove(_ role: RoleName, _ instance: String, _ target: any CallTarget) {
        table.withLock { table in
            table.roles[role]?.removeAll { $0.instance == instance && $0.target === target }
        }
    }

    public func instances(of role: RoleName) -> [String] {
        table.withLock { $0.roles[role, default: []].map(\.instance) }
    }

    /// Every target of a role.
    public func targets(of role: RoleName) -> [any CallTarget] {
        table.withLock { $0.roles[role, default: []].map(\.target) }
    }

    /// Picks a target; `near` is preferred by `.any`.
    public func resolve(_ address: Address, near lane: Lane?) -> (any CallTarget)? {
        table.withLock { table in
            switch address {
            case .any(let role):
                guard let entries = table.roles[role], !entries.isEmpty else { return nil }
                if entries.count == 1 { return entries[0].target }
                if let lane, let local = entries.first(where: { $0.target.lane === lane }) { return local.target }
                table.turn &+= 1
                return entries[table.turn % entries.count].target
            case .instance(let role, let name):
                return table.roles[role]?.first { $0.instance == name }?.target
            case .all: return nil
            case .keyed(let role, let key):
                // Rendezvous hashing (Thaler and Ravishankar, 1996): one instance more or less moves only its own keys.
                return table.roles[role]?.max { one, other in
                    StableHash.mix(StableHash.of(one.instance) ^ key)
                        < StableHash.mix(StableHash.of(other.instance) ^ key)
                }?.target
            }
        }
    }
}
