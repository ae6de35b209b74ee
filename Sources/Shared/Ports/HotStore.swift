import Wire

/// The newest rows of busy conversations. A cache: may forget anything at any time, never shows a hole.
///
/// Isolation: confined to the lane of the machine in front of it.
public protocol HotStore: RowReader {
    /// Takes rows in seq order per conversation. Rows already there, or older than what is there, change nothing.
    func put(_ rows: [StoredRow])
}
