/// Settings of the hot store in Redis.
public struct RedisHotConfig: Sendable, Equatable {
    /// In front of every key, so that several suites can share servers; without braces.
    public var prefix = "m:"
    /// Partitions, which are the grains that shards share out. Part of the stored format: another number is another,
    /// empty store.
    public var partitions = 1024
    /// Rows of one conversation that are answered.
    public var rows = 200
    /// A conversation may hold this many more before it is cut back, so that the cut is paid once for many rows.
    public var slackRows = 64
    /// How long a row is kept, by the times of the rows; and a conversation that nobody writes, by the server's clock.
    public var keepMS: UInt64 = 7 * 24 * 3600 * 1000
    /// Longest waits for a server, in milliseconds: a reader has the next tier to ask, a writer has not.
    public var readTimeoutMS: UInt64 = 900
    public var writeTimeoutMS: UInt64 = 3500
    /// Queries in one script call, which holds the server up for as long as it takes.
    public var queriesPerCall = 32

    public init() {}
}
