import Foundation
import Ports
import Wire

/// What the machine wants done on a thread of a shard.
public struct ShardJob: Sendable, Equatable {
    /// Who does it.
    public enum Place: Sendable, Hashable, Comparable {
        /// The one connection of this shard that writes this lane's buckets.
        case writer(shard: Int, lane: Int)
        case reader(shard: Int)
        case map

        private var order: (Int, Int, Int) {
            switch self {
            case .writer(let shard, let lane): (0, shard, lane)
            case .reader(let shard): (1, shard, 0)
            case .map: (2, 0, 0)
            }
        }

        public static func < (one: Place, other: Place) -> Bool { one.order < other.order }
    }

    public enum Work: Sendable, Equatable {
        case claim([BucketClaim])
        case commit([BucketCommit])
        case lookup(WriterLookup)
        case rows([RowsQuery], buckets: [UInt32])
        case heads([HeadQuery], buckets: [UInt32], marks: Data)
        /// One step of the purge of dedup entries.
        case purge(limit: Int, nowMS: UInt64)
        /// Makes the months that are missing.
        case extend(nowMS: UInt64)
        case loadMap
    }

    public let id: UInt64
    public let place: Place
    public let work: Work
    /// `Instant.micros`; when it has passed the job is not begun.
    public let deadline: UInt64
}

/// How it ended.
public struct ShardAnswer: Sendable, Equatable {
    public enum Result: Sendable, Equatable {
        case claimed([BucketClaimResult])
        case committed([BucketCommitResult])
        case found(WriterFound)
        case pages([RowsPage])
        case heads(HeadsRead)
        /// There is more to do soon.
        case stepped(goOn: Bool)
        case map(ShardMap)
        /// Not begun, or certainly without effect.
        case failed(Failure)
    }

    public let id: UInt64
    public let result: Result

    public init(id: UInt64, result: Result) {
        self.id = id
        self.result = result
    }

    /// Some of it is about a bucket that the shard does not hold any more.
    var isMoved: Bool {
        switch result {
        case .claimed(let results): results.contains { $0.failure == MySQLRecentStore.movedFailure($0.bucket) }
        case .pages(let pages): pages.contains { $0.failure.message.hasPrefix(MySQLRecentStore.movedWords) }
        case .heads(let read): read.failure.message.hasPrefix(MySQLRecentStore.movedWords)
        case .committed(let results): results.contains { $0.state == .commitConflict }
        case .found, .stepped, .map, .failed: false
        }
    }
}
