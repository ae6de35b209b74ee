/// Limits of the embedded stores. Sizes in bytes.
public struct EmbeddedConfig: Sendable, Equatable {
    /// Partitions of a new log; fixed for its life.
    public var partitions: UInt32 = 8
    /// A segment is sealed when it has grown to this.
    public var segmentBytes = 64 << 20
    /// A place in the sparse index for every so many bytes of a segment.
    public var indexBlockBytes = 256 << 10
    /// Newest records of a log that are kept in memory, so that consumers that keep up never read the disk.
    public var tailBytes = 32 << 20
    /// Sealed segments whose index and file stay open for reading.
    public var openSegments = 16
    /// How long records are kept at least.
    public var retentionMS: UInt64 = 7 * 24 * 3600 * 1000
    /// Records of an in-memory log that no group has consumed; more are refused as busy.
    public var memoryLogBytes = 64 << 20
    /// All rows of the hot store.
    public var hotBytes = 64 << 20
    /// Rows of one conversation in the hot store.
    public var hotRows = 200
    /// Conversations whose heads the recent store keeps in memory.
    public var cachedHeads = 65_536
    /// Newest dedup keys that the recent store keeps hashes of in memory: a minute of full load and more.
    public var knownKeys = 1 << 18
    /// Page cache of the recent store.
    public var recentCacheBytes = 64 << 20

    /// Pages of 4 KiB that gather in the write-ahead log of a SQLite file before they are copied into the file.
    public var checkpointPages = SQLiteDatabase.checkpointPages

    public init() {}
}
