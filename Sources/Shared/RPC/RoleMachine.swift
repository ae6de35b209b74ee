import Wire

/// A role: decides, never acts. Everything it learns is an event, everything it wants is an action, so the same struct
/// runs behind sockets, in one process, and under the simulator's one clock and seed.
///
/// Isolation: confined to the lane of its host; needs no locks.
public protocol RoleMachine: Sendable {
    /// What comes in from outside the suite (a gateway's connections); `Never` for everybody else.
    associatedtype Input: Sendable & Equatable = Never
    /// What goes out of the suite.
    associatedtype Output: Sendable & Equatable = Never

    static var role: RoleName { get }

    mutating func on(_ event: RoleEvent<Input>, now: Instant) -> [RoleAction<Output>]
}

/// A role's name in addresses, logs and metrics.
public struct RoleName: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public var description: String { rawValue }

    public static let login = RoleName(rawValue: "login")
    public static let online = RoleName(rawValue: "online")
    public static let route = RoleName(rawValue: "route")
    public static let im = RoleName(rawValue: "im")
    public static let user = RoleName(rawValue: "user")
    public static let api = RoleName(rawValue: "api")
    public static let msgProxy = RoleName(rawValue: "msgproxy")
    public static let msgWriter = RoleName(rawValue: "msgwriter")
    public static let msgReader = RoleName(rawValue: "msgreader")
    public static let pushProxy = RoleName(rawValue: "pushproxy")
    public static let pushServer = RoleName(rawValue: "pushserver")
    public static let pushWorker = RoleName(rawValue: "pushworker")
    /// The ports of the embedded stores; served by martlet-store when the services are separate processes.
    public static let messageLog = RoleName(rawValue: "log")
    /// Log "push" is a port of its own, so that it can live elsewhere than log "msg": in memory in one process.
    public static let pushLog = RoleName(rawValue: "pushlog")
    public static let recentStore = RoleName(rawValue: "recent")
    public static let hotStore = RoleName(rawValue: "hot")
    public static let presenceStore = RoleName(rawValue: "presence")
    public static let userStore = RoleName(rawValue: "relational")
}

/// A moment: `micros` never goes back and has no meaning across machines; `wallMS` is Unix time.
public struct Instant: Hashable, Sendable {
    public var micros: UInt64
    public var wallMS: UInt64
    public init(micros: UInt64, wallMS: UInt64) {
        self.micros = micros
        self.wallMS = wallMS
    }
}

/// Names a call that somebody made to this machine; answer it exactly once.
public struct CallID: Hashable, Sendable {
    public let value: UInt64
    public init(_ value: UInt64) { self.value = value }
}

/// What a machine learns.
public enum RoleEvent<Input: Sendable & Equatable>: Sendable, Equatable {
    /// First event of a machine's life.
    case start
    /// A call to answer with `.reply` or `.refuse`. `deadline` is in `Instant.micros`; after it nobody listens.
    case call(CallID, Payload, deadline: UInt64)
    /// The end of a call made with `.call(token, ...)`: exactly one per call, always.
    case reply(UInt64, CallResult)
    /// A timer set with `.timer`.
    case timer(UInt64)
    /// Everything that was waiting in the mailbox has been delivered: send what was gathered. This is how batches form:
    /// a batch is whatever came while the last one was under way.
    case flush
    case input(Input)
}

/// What a machine wants done, in order.
public enum RoleAction<Output: Sendable & Equatable>: Sendable, Equatable {
    /// Ask somebody. `token` is the machine's own and comes back in `.reply`.
    case call(UInt64, Address, Payload, timeoutMS: UInt32)
    /// Tell somebody, without wanting an answer or a guarantee.
    case tell(Address, Payload)
    case reply(CallID, Payload)
    case refuse(CallID, Failure)
    /// Deliver `.timer(id)` after that many milliseconds. A second one with the same id is a second timer.
    case timer(UInt64, afterMS: UInt32)
    /// A traced message passed here. Only for messages that carry a trace id.
    case trace(String, hop: String)
    /// Something a person running the suite should see. Fixed text; values in the dictionary.
    case warn(String, [String: String])
    case output(Output)
}

/// Who is meant.
public enum Address: Hashable, Sendable {
    /// Any live instance of the role, balanced; in one process the one on the same lane.
    case any(RoleName)
    /// Exactly this one.
    case instance(RoleName, String)
    /// The instance that owns the key, as long as the set of instances stays the same.
    case keyed(RoleName, UInt64)
    /// Every live instance; only for `.tell`.
    case all(RoleName)
}

/// How a call ended.
public enum CallResult: Sendable, Equatable {
    case answered(Payload)
    /// The callee refused it, or it never left: certainly not carried out.
    case refused(Failure)
    /// Handed over, and then the deadline passed or the connection broke: carried out or not, nobody knows.
    case unknown(Failure)
}
