import Wire

/// A conversation's newest place as a recent store keeps it, and enough about senders to know without a scan that
/// somebody sent nothing lately: exact for the last two senders, an upper bound for everybody else.
public struct ConversationPlace: Sendable, Equatable {
    /// The store's own number for the conversation; 0 before it has one.
    public var no: Int64 = 0
    public var seq: UInt64 = 0
    /// Countable messages up to `seq`.
    public var n: UInt64 = 0
    /// Unix milliseconds of the newest row.
    public var time: UInt64 = 0
    /// The number of the commit that moved it last.
    public var changed: UInt64 = 0
    public var firstSender = ""
    public var firstSeq: UInt64 = 0
    public var secondSender = ""
    public var secondSeq: UInt64 = 0
    public var othersSeq: UInt64 = 0
    /// The newest recall.
    public var recallSeq: UInt64 = 0

    public init() {}

    /// The user has sent nothing above this seq.
    public func lastSeq(of sender: String) -> UInt64 {
        if sender == firstSender { return firstSeq }
        return sender == secondSender ? secondSeq : othersSeq
    }

    /// Moves on by a row, or says why the row does not continue it: its writer has lost the bucket, or its cached heads
    /// are wrong.
    public mutating func take(_ row: StoredRow, commit: UInt64) -> Failure? {
        let next = n + (row.control ? 0 : 1)
        guard row.seq == seq + 1, row.n == next, row.timeMs >= time else {
            return Failure(
                .forbidden,
                "row \(row.seq) (n \(row.n), time \(row.timeMs)) of \(row.conversation) does not continue "
                    + "\(seq) (n \(n), time \(time))")
        }
        seq = row.seq
        n = next
        time = row.timeMs
        changed = commit
        if !row.control { note(row.sender, row.seq) }
        if Recall.isOne(row) { recallSeq = row.seq }
        return nil
    }

    private mutating func note(_ sender: String, _ seq: UInt64) {
        if sender == firstSender {
            firstSeq = seq
        } else if sender == secondSender {
            secondSeq = seq
        } else {
            othersSeq = max(othersSeq, secondSeq)
            secondSender = firstSender
            secondSeq = firstSeq
            firstSender = sender
            firstSeq = seq
        }
    }
}
