import Machinery
import Wire

/// A conversation, across apps.
struct ConversationRef: Hashable {
    let app: String
    let conversation: String
}

/// What this writer knows about a bucket that it is assigned.
struct Bucket {
    enum Phase: Equatable {
        /// To be claimed, once a fetch that was sent as number `afterFetch` or later has shown it still assigned.
        case unclaimed(afterFetch: UInt64)
        case claiming
        case ready
        /// Something is wrong that only a person can decide about.
        case stopped
    }

    let number: UInt32
    let shard: UInt32
    var phase: Phase
    /// Raised whenever everything below is thrown away, so that late answers are recognized.
    var life: UInt64 = 0
    var epoch: UInt64 = 0
    /// First offset that is not stored.
    var stored: UInt64 = 0
    /// First offset that is not delivered: everything before is in all tiers and in log "push".
    var delivered: UInt64
    /// The group offset that the log has confirmed.
    var committed: UInt64
    /// Next offset wanted from the log.
    var next: UInt64 = 0
    /// End of the log's partition, as last heard; nil before.
    var end: UInt64?
    /// Fetched, not yet in a round.
    var inbox: [LogEntry] = []
    var inRound = false
    /// Stored or looked up, on the way to the hot store, the pushes and the index; oldest first.
    var units: [Unit] = []
    /// Pushes that wait for the index entries of a conversation that begins with them, and those behind them, in order.
    /// Whoever syncs after missing a push must find the conversation.
    var held: [HeldPush] = []
    var heads: BoundedCache<ConversationRef, Head>
    var backoff: Backoff
    /// A retry timer is running: no claim and no round.
    var waiting = false
    /// Records and bytes from fetched to delivered.
    var heldRecords = 0
    var heldBytes = 0

    init(number: UInt32, committed: UInt64, afterFetch: UInt64, config: MsgWriterConfig) {
        self.number = number
        self.shard = config.shard(of: number)
        self.phase = .unclaimed(afterFetch: afterFetch)
        self.delivered = committed
        self.committed = committed
        self.heads = BoundedCache(limit: config.headsPerBucket)
        self.backoff = Backoff(firstMS: config.retryFirstMS, mostMS: config.retryMostMS)
    }

    var canStartRound: Bool { phase == .ready && !inRound && !waiting && !inbox.isEmpty }

    /// Entries of this bucket, in order, into the inbox. Those from before what is wanted are left out; one that comes
    /// after what is wanted ends it: the log has lost something.
    mutating func take(_ entries: ArraySlice<LogEntry>) -> (records: Int, bytes: Int, skippedTo: UInt64?) {
        var taken = (records: 0, bytes: 0, skippedTo: UInt64?.none)
        guard phase == .ready else { return taken }
        for entry in entries where entry.offset >= next {
            guard entry.offset == next else {
                taken.skippedTo = entry.offset
                break
            }
            inbox.append(entry)
            next += 1
            taken.records += 1
            taken.bytes += entry.record.count
        }
        end = max(next, end ?? 0)
        heldRecords += taken.records
        heldBytes += taken.bytes
        return taken
    }
}

/// The records of one round of one bucket after they are stored: confirmed when nothing remains.
struct Unit {
    let id: UInt64
    /// `delivered` once this and every earlier unit is confirmed.
    let offset: UInt64
    var remaining: Int
    let records: Int
    let bytes: Int
}

/// A unit's pushes while they wait.
struct HeldPush {
    let unit: UInt64
    let items: [PushItem]
    let bytes: Int
    /// Calls with new index entries of the unit that are not confirmed.
    var waits: Int
}
