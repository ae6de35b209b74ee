import Machinery
import Wire

/// How far MsgWriter is behind in each bucket, and what that leaves to each conversation.
///
/// A bucket's heaviest conversations are told `busy` first: while it lags, each of its conversations has the same rate,
/// which falls as the lag grows, so those that send little notice nothing.
struct WriterLag: Sendable {
    /// The log's end at some moment: whoever has passed it is behind by less than the time since.
    private struct Mark: Sendable {
        let end: UInt64
        let micros: UInt64
    }

    /// Marks of a bucket are this far apart, and these are the most; with more to say they become coarser.
    private static let markEveryMicros: UInt64 = 100_000
    private static let marks = 64
    /// Fine units, so that a message can cost a share of a millisecond or a whole second.
    private static let unitsPerSecond = 10_000

    private let config: MsgProxyConfig
    private var marks: [[Mark]]
    /// As of the last answer, in milliseconds; 0 for a bucket that does not lag.
    private(set) var lagMS: [UInt64]
    private var allowances: RateTable

    init(config: MsgProxyConfig) {
        self.config = config
        marks = Array(repeating: [], count: Int(config.buckets))
        lagMS = Array(repeating: 0, count: Int(config.buckets))
        allowances = RateTable(
            perSecond: Self.unitsPerSecond, burst: Self.unitsPerSecond, keys: config.limitedConversations)
    }

    /// Nothing is waited for.
    var isEmpty: Bool { marks.allSatisfy(\.isEmpty) }

    /// A record is in the log at this offset.
    mutating func appended(bucket: Int, offset: UInt64, _ micros: UInt64) {
        if let last = marks[bucket].last, micros < last.micros + Self.markEveryMicros { return }
        if marks[bucket].count >= Self.marks {
            // The oldest stays: it is what says how far behind the bucket is.
            marks[bucket] = marks[bucket].enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
        }
        marks[bucket].append(Mark(end: offset + 1, micros: micros))
    }

    /// The writers' positions of all buckets. True when some are still waited for.
    mutating func progressed(_ committed: [LogPosition], nowMicros: UInt64) -> Bool {
        for position in committed where position.partition < config.buckets {
            let bucket = Int(position.partition)
            marks[bucket].removeAll { $0.end <= position.offset }
        }
        for bucket in marks.indices {
            lagMS[bucket] = marks[bucket].first.map { (nowMicros - min(nowMicros, $0.micros)) / 1000 } ?? 0
        }
        return !isEmpty
    }

    /// Nobody can say how far the writers are: nothing is held against anybody.
    mutating func forget() {
        for bucket in marks.indices {
            marks[bucket] = []
            lagMS[bucket] = 0
        }
    }

    /// How long the conversation has to wait, in milliseconds, because its bucket lags; nil when it may go on.
    ///
    /// What comes in one request is taken or refused as a whole, and what is taken beyond its share has to come back
    /// first: who is refused in the middle sends everything again, and half of it would be appended for nothing.
    ///
    /// - Parameter taken: conversations of this request that may go on.
    mutating func wait(
        _ conversation: UInt64, bucket: Int, taken: inout Set<UInt64>, nowMicros: UInt64
    ) -> UInt32? {
        guard lagMS[bucket] > config.lagMS else { return nil }
        if !taken.contains(conversation) {
            if let wait = allowances.wait(conversation, nowMicros: nowMicros) { return wait }
            taken.insert(conversation)
        }
        let second = UInt64(Self.unitsPerSecond)
        let units = min(second, second * lagMS[bucket] / (config.laggingPerSecond * config.lagMS))
        allowances.charge(conversation, units: max(1, units), nowMicros: nowMicros)
        return nil
    }
}
