/// Times and limits of an Online.
public struct OnlineConfig: Sendable, Equatable {
    /// How often svid 5 is announced at the Routes, and how often watched users are looked at.
    public var tickMS: UInt32 = 1000
    /// Longest wait for the presence store. Callers wait 5 s and shall learn the reason.
    public var storeTimeoutMS: UInt32 = 4000
    /// Longest wait for a Login to confirm kicks; a revoked session is closed within 2 s, with room for one repetition.
    public var kickTimeoutMS: UInt32 = 800
    /// Kicks are repeated after this long ...
    public var kickRetryMS: UInt32 = 300
    /// ... until then: a Login that was not reachable for longer has lost its lease (6 s) and with it its sessions.
    public var kickForMS: UInt32 = 10_000
    /// Kicks that wait or are under way; what comes on top is dropped with a warning.
    public var maxKicks = 65_536
    /// Users that are looked up again after a revocation, at once.
    public var maxRevocations = 65_536
    /// Users in calls not answered yet; more are refused with `overloaded`.
    public var maxItems = 65_536
    /// Users in one look-up or subscription.
    public var maxUsersPerCall = 500
    /// Users whom users' calls may ask about between two flushes; more are refused with `overloaded`. Bounds the
    /// answers that are held at once: each names all sessions of a user.
    public var maxLookupsPerFlush = 4096
    /// Users in one call to the store, and those of a user's call that does not end there.
    public var usersPerCall = 1024
    /// Bytes of platforms in one answer to a user, which also names up to `maxUsersPerCall` users.
    public var maxPlatformBytes = 48 * 1024
    /// (session, watched user) pairs of one Online.
    public var maxWatched = 1_000_000
    /// Watched users looked up per tick; all are seen in at most `maxWatched / polledPerTick` ticks.
    public var polledPerTick = 2000

    public init() {}
}
