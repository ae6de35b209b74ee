import Wire

/// A connection of one gateway loop; never used again after it closed.
public struct ConnectionID: Hashable, Sendable, Comparable {
    public let value: UInt64
    public init(_ value: UInt64) { self.value = value }
    public static func < (one: Self, other: Self) -> Bool { one.value < other.value }
}

/// What a gateway tells its machine. Bodies are slices of receive buffers and are not kept.
public enum LoginInput: Sendable, Equatable {
    case opened(ConnectionID)
    case frame(ConnectionID, Frame)
    /// The peer sent bytes that are no frame; the text says why. Nothing more is read from it.
    case malformed(ConnectionID, MalformedInput)
    /// Whether the connection takes more bytes, or has enough unsent ones.
    case writable(ConnectionID, Bool)
    /// More unsent bytes than the connection may hold.
    case overflow(ConnectionID)
    /// It is gone; nothing more comes from it.
    case closed(ConnectionID)
    /// Stop taking sessions, let requests in flight end, say goodbye; `.drained` comes back.
    case drain
}

/// Why bytes are no frame.
public enum MalformedInput: Sendable, Equatable {
    case tooLarge(String)
    case notAFrame(String)
}

/// What a machine wants of its gateway, in order.
public enum LoginOutput: Sendable, Equatable {
    /// Gather it; `.flush` sends.
    case write(ConnectionID, Frame)
    /// Send what was gathered, one write per connection.
    case flush
    /// The largest payload to accept from now on.
    case frameLimit(ConnectionID, Int)
    /// Whether to read from it.
    case reading(ConnectionID, Bool)
    /// Send what was gathered, then close our side and ignore what still comes.
    case finish(ConnectionID)
    /// Close it at once.
    case abort(ConnectionID)
    /// Draining is over: every session is closed and unregistered, or time is up.
    case drained
}
