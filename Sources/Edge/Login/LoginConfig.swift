import Wire

/// The limits and times of a Login. Times in milliseconds, sizes in bytes.
public struct LoginConfig: Sendable {
    /// Where this Login is; goes into its registrations.
    public var site = ""

    /// A connection that has no session after this long is closed (`handshake_timeout`).
    public var handshakeMS: UInt64 = 10_000
    /// Frames taken before login; a client needs two.
    public var maxFramesBeforeLogin = 16
    /// What WELCOME tells clients to keep to.
    public var heartbeatMS: UInt64 = 30_000
    /// Periods without a frame after which a session is closed (`heartbeat_timeout`).
    public var missedHeartbeats: UInt64 = 2
    /// How long a connection that we have finished may take to read the reason before it is cut.
    public var lingerMS: UInt64 = 1000
    /// How long a client may leave what we sent unread (`slow_consumer`).
    public var slowConsumerMS: UInt64 = 10_000

    /// Requests of one session that are on their way to services.
    public var maxInFlight = 64
    /// Frames of one ordered key that wait for the batch in flight.
    public var maxPendingPerKey = 256
    /// Ordered keys of one session that are in use or were broken lately; more close it (`limit_exceeded`).
    public var maxKeys = 1024
    /// How long a broken key's turn is remembered at least.
    public var brokenKeyMS: UInt64 = 60_000
    /// Bytes of requests held for one session; above it we stop reading from its connection.
    public var maxHeldBytes = 512 * 1024
    /// Calls in one hand-over to Route.
    public var maxCallsPerBatch = 1024
    /// Bytes of bodies in one hand-over to Route.
    public var maxBytesPerBatch = 1024 * 1024
    public var callTimeoutMS: UInt32 = 5000

    /// Pushes and notices of one session that the client has not acknowledged.
    public var pushWindow = 256
    /// Their bytes.
    public var pushWindowBytes = 1024 * 1024
    /// First repeat of unacknowledged frames; doubles up to `pushRepeatMostMS`.
    public var pushRepeatMS: UInt64 = 300
    public var pushRepeatMostMS: UInt64 = 5000
    /// A frame unacknowledged for this long closes the session (`push_ack_timeout`).
    public var pushAckTimeoutMS: UInt64 = 10_000
    /// What WELCOME asks of clients.
    public var pushAckEvery: UInt32 = 32
    public var pushAckMS: UInt32 = 200
    /// How long after its deadline a delivery's call is answered with what is known; nobody listens by then.
    public var deliveryGraceMS: UInt64 = 1000

    public var leaseEveryMS: UInt64 = 2000
    public var leaseMS: UInt64 = 6000
    /// First wait before a failed registration, unregistration or lease is tried again; doubles up to `retryMostMS`.
    public var retryFirstMS: UInt64 = 300
    public var retryMostMS: UInt64 = 5000
    public var maxRegistrationsPerCall = 512
    /// Closed sessions whose unregistration is not confirmed; beyond it the oldest is forgotten, until a comparison
    /// finds its registration.
    public var maxUnregistering = 65_536
    /// Slices of our sessions (`SessionSlices`) that are compared with the registrations at each lease, of those that
    /// differ. With sessions always on their way all differ, and each has its turn.
    public var maxComparedSlices = 4

    /// How long an app's keys are believed.
    public var appCacheMS: UInt64 = 60_000
    /// How long an absent app or key is believed to be absent.
    public var appMissingMS: UInt64 = 5000
    public var maxCachedApps = 1024
    /// Users whose account is known to exist.
    public var maxKnownUsers = 65_536
    /// How often it tells every Route that it is alive: one that cannot reach it then says `retry`, not NOT_HERE.
    public var announceEveryMS: UInt64 = 1000

    /// How long a draining Login waits for requests in flight and for its unregistrations.
    public var drainMS: UInt64 = 5000
    /// Time over which a draining Login says goodbye, so that other Logins get its clients one after the other.
    public var drainSpreadMS: UInt64 = 3000
    /// Goodbyes per tick (100 ms) that are no crowd.
    public var drainPerTick = 100

    /// For tests of the checker only: asked once per push with its number (from 1) and decides what goes wrong with it.
    /// Nil, the default, in every other build: nothing does.
    public var testFault: (@Sendable (_ number: UInt64, _ message: PushedMessage) -> TestFault)?

    public init() {}

    /// What can be made to go wrong with one push, on purpose.
    public enum TestFault: Sendable, Equatable {
        case none
        /// Not written the first time: the repeat after `pushRepeatMS` has to heal it.
        case skipFirstWrite
        /// Answered as delivered, never sent.
        case drop
        /// Sent, and then this one after it, with a push id of its own: a duplicate, or one with another seq.
        case alsoSend(PushedMessage)
        /// This one is sent instead: miscounted, misplaced.
        case sendInstead(PushedMessage)
        /// Sent after the next push of the same session.
        case swapWithNext
    }
}
