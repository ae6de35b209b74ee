import Wire

/// The storage of one named log: partitions of records with dense offsets. Who consumes what is the machine's affair
/// (groups, generations, parking); the store only keeps records and the groups' positions.
///
/// Isolation: confined to the lane of the machine in front of it.
public protocol MessageLogStore: AnyObject, Sendable {
    /// Fixed when the log is made.
    var partitions: UInt32 { get }
    /// Random, given when the log is made: another number means another log.
    var incarnation: UInt64 { get }

    /// Appends all entries in order and makes them durable together. One result per entry: an offset; a failure
    /// (certainly not in the log); or unknown (the disk failed half-way). Entry offsets are ignored.
    func append(_ entries: [LogEntry]) -> [LogAppendResult]

    /// First offset that is kept, and the next one to be written.
    func range(of partition: UInt32) -> (start: UInt64, end: UInt64)

    /// Records from the positions on, dense per partition, about `maxBytes` in all and at least one when there is one.
    ///
    /// - Throws: `notFound` when a position is no longer kept, `limitExceeded` when it is beyond the end (the log has
    ///   lost something), `internalError` when the bytes on the disk are damaged, `storeUnavailable` when they cannot
    ///   be read now.
    func read(_ positions: [LogPosition], maxBytes: Int) throws(Failure) -> [LogEntry]

    /// Positions of a group that were committed; partitions without one are absent.
    func committed(_ group: String) -> [UInt32: UInt64]

    /// Moves positions of a group, never back. Becomes durable with the next `saveCommitted`.
    func commit(_ group: String, _ positions: [LogPosition])

    /// Makes the committed positions durable; free when nothing moved.
    func saveCommitted() throws(Failure)

    /// Drops what is older than the retention and below every group's position. Returns how many segments went.
    func dropExpired(nowMS: UInt64) throws(Failure) -> Int
}

/// Bounds of logs.
public enum LogLimits {
    /// A record may be this large: content of 32 KiB with its envelope fits many times.
    public static let recordBytes = 1 << 20
}
