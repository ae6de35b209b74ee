/// Settings of presence in Redis. Times in milliseconds.
public struct RedisPresenceConfig: Sendable, Equatable {
    /// In front of every key, so that several suites can share servers; without braces.
    public var prefix = "m:"
    /// Partitions: every Login's lease is renewed in each of them every two seconds, and no shard holds less than one.
    /// Part of the stored format: another number is another, empty store.
    public var partitions = 64
    /// Longest wait for a server, inside what Online waits (4 s): a server that takes two seconds for everything is
    /// slow, not down.
    public var timeoutMS: UInt64 = 3500
    /// Whether the servers' clocks decide what has ended, which is right wherever there is more than one caller. The
    /// contract's cases move a clock of their own.
    public var usesServerClock = true

    public init() {}
}
