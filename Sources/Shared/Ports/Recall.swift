import Wire

/// The one look that stores take into a message: whether a control row with a target recalls it. Unread counts and
/// pages leave out what its own sender has recalled.
public enum Recall {
    /// Whether the row recalls its target; that both have one sender is the reader's to check.
    public static func isOne(_ row: StoredRow) -> Bool {
        guard row.targetSeq > 0, row.targetSeq < row.seq, row.control,
            let message = try? ChatMessage(serializedBytes: row.message)
        else { return false }
        return message.kind == .contentRecall
    }
}
