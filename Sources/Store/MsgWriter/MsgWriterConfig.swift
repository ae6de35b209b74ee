import Machinery

/// Limits of MsgWriter. None of them changes a row or a seq: they only shape batches and waits.
public struct MsgWriterConfig: Sendable {
    /// The member's name in the group and the owner of its claims; unique among MsgWriters.
    public var instance: String
    public var log = "msg"
    public var group = "msgwriter"
    /// The shard of the recent store that each bucket lives in; a bucket beyond the map lives in shard 0. Shards are
    /// written independently, so a slow one never holds up the others' buckets.
    public var shardOfBucket: [UInt32] = []
    /// Bytes of one fetch, and how long the log may wait for data. When some buckets are not being fetched the wait
    /// is short, so that they are not held up for longer.
    public var fetchBytes: UInt32 = 1 << 20
    public var fetchWaitMS: UInt32 = 1000
    public var shortFetchWaitMS: UInt32 = 50
    /// A member that does not fetch for 10 s is taken for dead; one with nothing to fetch asks this often.
    public var keepaliveMS: UInt32 = 1000
    /// Records and bytes of one bucket in one round, and bytes of a round: bounds a transaction.
    public var recordsPerRound = 512
    public var bytesPerPart = 1 << 20
    public var bytesPerRound = 4 << 20
    /// Records and bytes held, from fetched to delivered, per bucket and in all; beyond them fetching stops. User
    /// answers for its index up to 1.1 s later, one call after the other: what is held is at least 2.2 s of traffic, so
    /// a limit of 16,384 records was a limit of 8,000 messages a second.
    public var heldPerBucket = 65_536
    public var heldRecords = 262_144
    public var heldBytes = 64 << 20
    /// Heads remembered per bucket.
    public var headsPerBucket = 8192
    /// Items and bytes of one HotPut, PushMessages or IndexTouch; what belongs to one part stays together.
    public var itemsPerCall = 1024
    public var bytesPerCall = 4 << 20
    /// Calls to User are grouped by this many slots of hash(app, user): a user's entries always go the same way.
    public var userSlots: UInt64 = 4
    public var timeoutMS: UInt32 = 5000
    public var retryFirstMS: UInt64 = 300
    public var retryMostMS: UInt64 = 5000
    /// For the jitter of retries.
    public var seed: UInt64
    /// For tests of the checker only.
    public var fault = FaultHook()

    public init(instance: String, seed: UInt64) {
        self.instance = instance
        self.seed = seed
    }

    func shard(of bucket: UInt32) -> UInt32 {
        Int(bucket) < shardOfBucket.count ? shardOfBucket[Int(bucket)] : 0
    }
}
