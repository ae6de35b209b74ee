/// Limits of the connections between processes.
public struct TransportConfig: Sendable, Equatable {
    /// Largest frame after the handshake, in bytes without its length; a peer that announces more is cut.
    public var maxFrameBytes = 16 << 20
    /// Largest frame before the peer has proved that it knows the secret.
    public var maxHandshakeFrameBytes = 4096
    /// Bytes that may wait for one peer; further calls to it are refused with `overloaded`. Answers have as much
    /// again, beyond which they are dropped (their callers see `unknown`).
    public var outboundLimitBytes = 32 << 20
    /// Calls to one peer that may be without answer; further ones are refused with `overloaded`.
    public var maxInFlight = 65_536
    /// Connections that a listener takes at a time.
    public var maxConnections = 1024
    /// Roles that one peer may say it hosts.
    public var maxHosted = 4096
    public var handshakeTimeoutMS: UInt32 = 5000
    /// A ping is sent when nothing came for this long.
    public var pingEveryMS: UInt32 = 5000
    /// A peer that sends nothing at all for this long is dead. Longer than the 30 s for which a stopped reader is
    /// borne: until then its callers get `overloaded` or run into their deadlines.
    public var silentLimitMS: UInt32 = 45_000
    /// How often deadlines, pings and changes of the hosted roles are looked at.
    public var tickMS: UInt32 = 50
    /// Waits between attempts to reach a peer: jittered, doubling from the first to the most.
    public var reconnectFirstMS: UInt64 = 100
    public var reconnectMostMS: UInt64 = 5000
    public var connectTimeoutMS: UInt32 = 3000
    /// Bytes gathered before a further buffer is begun: what one write hands over at most.
    public var chunkBytes = 256 << 10

    public init() {}
}

/// Shortest cluster secret, in bytes: a shorter one can be guessed from a recorded handshake.
public let minimumSecretBytes = 16
