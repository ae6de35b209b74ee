/// Limits of a service.
public struct ServiceConfig: Sendable, Equatable {
    /// Batches under way at a time.
    public var concurrency = 64
    /// Requests held, running ones included; further batches are refused with `overloaded` (Route tries another
    /// instance).
    public var maxRequests = 16_384
    /// How often the service tells every Route that it is there.
    public var announceEveryMS: UInt32 = 1000
    /// After saying that it leaves: how long requests still come in, until every Route has heard it.
    public var leaveGraceMS: UInt32 = 1500
    /// Longest wait for running requests when it leaves.
    public var drainLimitMS: UInt32 = 10_000
    public var callTimeoutMS: UInt32 = 5000
    /// How often `notify` tries a user whose outcome is unknown or refused for the moment.
    public var notifyAttempts = 4
    /// Users in one `push` or `notify`.
    public var maxUsers = 1000
    /// Bytes of one notice or event.
    public var maxContentBytes = 32 << 10

    /// Methods that do no harm when they are done twice (reads, and whatever the service itself recognises as done).
    /// When an instance dies while it answers one, Route asks another instance instead of telling the user that the
    /// outcome is unknown. At most 64.
    public var repeatableMethods: [UInt32] = []

    public init() {}
}

/// Why a service cannot be made or cannot do what was asked.
public enum ServiceError: Error, Equatable, CustomStringConvertible {
    case badServiceID(UInt32)
    case badApp(String)
    case badName(String)
    case badAddress(String)
    case badUser(String)
    case tooManyUsers(Int, limit: Int)
    case contentTooLarge(Int, limit: Int)
    /// PushProxy did not take the push, or its answer did not come.
    case pushFailed(ServiceFailure)
    /// `run` was called twice.
    case alreadyRan

    public var description: String {
        switch self {
        case .badServiceID(let id): "service id \(id): use 1000 to 65535; those below are Martlet's own"
        case .badApp(let app): "app id \"\(app)\": 1 to 64 of a-z, 0-9, - and _"
        case .badName(let name): "instance name \"\(name)\": 1 to 64 bytes without spaces, | and /"
        case .badAddress(let address): "address \"\(address)\": write host:port"
        case .badUser(let user): "user id \"\(user)\": 1 to 64 bytes without spaces and |"
        case .tooManyUsers(let count, let limit): "\(count) users at once; at most \(limit)"
        case .contentTooLarge(let bytes, let limit): "\(bytes) bytes of content; at most \(limit)"
        case .pushFailed(let failure): "push failed: \(failure.message)"
        case .alreadyRan: "a service runs once; make another"
        }
    }
}
