import Machinery
import RPC
import Wire

/// A member of a group, as the machine knows it.
struct LogMember: Sendable {
    struct Name: Hashable, Comparable, Sendable {
        let group: String
        let member: String
        static func < (one: Name, other: Name) -> Bool { (one.group, one.member) < (other.group, other.member) }
    }

    /// A fetch that waits.
    struct Parked: Sendable {
        let id: CallID
        let fetch: LogFetch
        /// Microseconds.
        let deadline: UInt64
        /// Answered when the brokers have said where the partitions end now.
        let wantsFacts: Bool
    }

    let id: MemberID
    var generation: UInt64
    /// Microseconds.
    var lastCall: UInt64
    /// The group has given it its share, which may be none.
    var hasShare = false
    var parts: SlotTable<UInt32, PartReader> = [:]
    /// Given by the group, not yet begun: their positions are being asked for.
    var pending: [UInt32] = []
    /// The group waits for `.assign`.
    var owesAssign = false
    /// The question that is under way.
    var asking: UInt64?
    /// Refused by the broker while a question was under way, whose answer may be older than that.
    var refusedMeanwhile: Set<UInt32> = []
    var parked: Parked?
    var hasNews = false
    /// Set when it leaves: who waits for that.
    var leaving: [CallID]?
    /// Rotates whose records come first when not all fit.
    var turn = 0

    var name: Name { Name(group: id.group, member: id.member) }
    var partitions: [UInt32] { parts.keys.sorted() }
    var wantsFacts: Bool {
        !pending.isEmpty || parked?.wantsFacts == true || !parts.keys(where: { $0.isLost || $0.isForeign }).isEmpty
    }

    /// Whether the partition is read from where it is wanted; one that is wanted from beyond its end is not.
    private func isThere(_ position: LogPosition) -> Bool { parts[position.partition]?.next == position.offset }

    func hasRecords(_ fetch: LogFetch) -> Bool {
        fetch.positions.contains { isThere($0) && parts[$0.partition]?.hasRecords == true }
    }

    func ends() -> [LogPosition] { partitions.map { Self.position($0, parts[$0]?.end ?? 0) } }
    func shares() -> [LogPosition] { partitions.map { Self.position($0, parts[$0]?.committed ?? 0) } }

    /// Records of the wanted partitions, about `maxBytes` and at least one when there is one.
    mutating func take(_ wanted: [LogPosition], maxBytes: Int) -> [LogEntry] {
        var out: [LogEntry] = []
        var budget = maxBytes
        turn &+= 1
        let first = wanted.isEmpty ? 0 : turn % wanted.count
        for position in wanted[first...] + wanted[..<first] where budget > 0 || out.isEmpty {
            guard isThere(position) else { continue }
            parts[position.partition]?.take(budget: &budget, into: &out)
        }
        return out
    }

    static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        var position = LogPosition()
        position.partition = partition
        position.offset = offset
        return position
    }
}
