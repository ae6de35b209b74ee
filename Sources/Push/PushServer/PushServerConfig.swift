/// Limits of a PushServer.
public struct PushServerConfig: Sendable, Equatable {
    public var log = "push"
    public var group = "pushserver"
    /// This member's name in the group; unique among the group's members.
    public var member: String
    /// Records of one partition that may be unsettled; fetching pauses there until the front moves.
    public var windowRecords = 4096
    /// Bytes of unsettled records over all partitions; fetching pauses above it.
    public var windowBytes = 64 << 20
    /// Most bytes asked for in one fetch.
    public var fetchBytes: UInt32 = 1 << 20
    /// How long the log may hold a fetch that finds nothing.
    public var fetchWaitMS: UInt32 = 2000
    /// The same while some partition's window is full, so that it is asked for soon after it has room.
    public var fullWaitMS: UInt32 = 50
    /// Beyond the waiting time, how long a fetch may take.
    public var fetchTimeoutMS: UInt32 = 5000
    public var commitTimeoutMS: UInt32 = 5000
    /// Positions are committed at most this often: a restart pushes at most that much again.
    public var commitEveryMS: UInt32 = 100
    /// Longer than Online waits for the presence store: one that takes two seconds for everything is slow, not down.
    public var lookupTimeoutMS: UInt32 = 4500
    /// Records expanded by one look-up.
    public var lookupRecords = 1024
    public var planTimeoutMS: UInt32 = 5000
    /// Partitions are dealt to so many owners among the workers.
    public var workerSlots: UInt32 = 4
    /// Deliveries in one plan.
    public var planDeliveries = 512
    public var retryFirstMS: UInt64 = 300
    public var retryMostMS: UInt64 = 5000
    /// How often due repeats are looked for while there are any.
    public var tickMS: UInt32 = 100
    /// A fault for tests: the n-th plan (from 1) is lost on its way, once.
    public var dropOnce: Int?

    public init(member: String) { self.member = member }
}
