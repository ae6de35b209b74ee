import Wire

/// The newest rows of busy conversations. A cache: may forget anything at any time, never shows a hole.
///
/// Isolation: confined to the lane of the machine in front of it.
public protocol HotStore: RowReader {
    /// Takes rows in seq order per conversation. Rows already there, or older than what is there, change nothing.
    /// `fences` says under which claims of which buckets the rows were stored. Rows of a claim older than one that has
    /// written are left out: a writer that was paused shall not show an old end of a conversation as its newest.
    func put(_ rows: [StoredRow], fences: [HotFence])
}

extension HotStore {
    /// Rows that nobody else can be writing.
    public func put(_ rows: [StoredRow]) { put(rows, fences: []) }
}

/// Who wrote which bucket last, for stores that keep it in memory.
public struct HotFences: Sendable {
    private var epochs: [UInt32: UInt64] = [:]

    public init() {}

    /// The rows without those of older claims; the claims of the others are remembered. Copies nothing unless rows are
    /// left out, which is once in a change of writers.
    public mutating func admit(_ rows: [StoredRow], _ fences: [HotFence]) -> ArraySlice<StoredRow> {
        var admitted: ArraySlice<StoredRow>?
        var start = 0
        for fence in fences {
            let part = rows[start..<min(rows.count, start + Int(fence.rows))]
            start = part.endIndex
            let held = epochs[fence.bucket, default: 0]
            if fence.epoch < held {
                admitted = admitted ?? rows[..<part.startIndex]
            } else {
                if fence.epoch > held { epochs[fence.bucket] = fence.epoch }
                admitted? += part
            }
        }
        return admitted.map { $0 + rows[start...] } ?? rows[...]
    }
}
