import Wire

/// Something that is not as it has to be.
struct Difference: Encodable, Equatable, Sendable {
    var tier: String
    var app: String
    var conversation: String
    /// 0: the conversation as a whole.
    var seq: UInt64
    var what: String
}

/// Compares what the tiers have of one conversation, fed with rows in the order of their seqs. Pure.
///
/// The first tier has all rows above `base`, and the others some of them. Rows that were stored after the head was read
/// are fine, so that services may run: read the head first, then the other tiers, then the first.
struct ConversationCheck {
    /// What the conversation's own row says.
    struct Head: Equatable {
        var app: String
        var conversation: String
        var seq: UInt64
        var n: UInt64
        /// Rows up to here are gone on purpose, and so many of them counted.
        var baseSeq: UInt64
        var baseN: UInt64
    }

    private let head: Head
    private let first: String
    private var seq: UInt64
    private var n: UInt64
    private var timeMS: UInt64 = 0
    /// Rows of the other tiers that the first has to have, by tier and seq.
    private var others: [(tier: String, rows: [UInt64: StoredRow])] = []
    private(set) var differences: [Difference] = []
    private(set) var rows = 0

    /// - Parameter first: the tier whose rows `see` is told of.
    init(_ head: Head, first: String) {
        self.head = head
        self.first = first
        seq = head.baseSeq
        n = head.baseN
    }

    /// Where the next row of the first tier is to be read.
    var next: UInt64 { seq + 1 }

    /// What another tier has, ascending; before the first row of the first tier. Its rows are dense among themselves.
    ///
    /// - Parameter unreadable: places whose bytes are no row.
    mutating func compare(_ tier: String, _ rows: [StoredRow], unreadable: [Int] = []) {
        for place in unreadable { note(tier, 0, "row \(place) from its beginning cannot be read") }
        var bySeq: [UInt64: StoredRow] = [:]
        var last: UInt64?
        for row in rows {
            if let last, row.seq != last + 1, unreadable.isEmpty {
                note(tier, row.seq, "the row before it is \(last): not dense")
            }
            last = row.seq
            // What the first tier dropped on purpose cannot be compared.
            if row.seq > head.baseSeq { bySeq[row.seq] = row }
        }
        others.append((tier, bySeq))
    }

    /// The next row of the first tier.
    mutating func see(_ row: StoredRow) {
        rows += 1
        if row.seq <= seq {
            note(first, row.seq, "is there twice")
            return
        }
        if row.seq > seq + 1 {
            note(first, seq + 1, row.seq == seq + 2 ? "is missing" : "rows up to \(row.seq - 1) are missing")
        } else if row.n != n + (row.control ? 0 : 1) {
            note(first, row.seq, "n is \(row.n), \(n + (row.control ? 0 : 1)) is right")
        }
        if row.timeMs < timeMS { note(first, row.seq, "is older than the row before it") }
        if row.seq == head.seq, row.n != head.n { note(first, row.seq, "n is \(row.n), its head says \(head.n)") }
        (seq, n, timeMS) = (row.seq, row.n, max(timeMS, row.timeMs))
        for index in others.indices {
            guard let other = others[index].rows.removeValue(forKey: row.seq) else { continue }
            let fields = Self.fields(row, other)
            if !fields.isEmpty {
                note(others[index].tier, row.seq, "differs from \(first) in \(fields.joined(separator: ", "))")
            }
        }
    }

    /// The first tier has no more rows.
    mutating func finish() {
        if seq < head.seq {
            note(first, seq + 1, "is missing: the head says \(head.seq), the rows end at \(seq)")
        }
        for other in others {
            for row in other.rows.keys.sorted() { note(other.tier, row, "\(first) has no such row") }
        }
    }

    private static func fields(_ one: StoredRow, _ other: StoredRow) -> [String] {
        var fields: [String] = []
        if one.n != other.n { fields.append("n") }
        if one.timeMs != other.timeMs { fields.append("time") }
        if one.sender != other.sender { fields.append("sender") }
        if one.control != other.control || one.lost != other.lost { fields.append("kind") }
        if one.targetSeq != other.targetSeq { fields.append("target") }
        if one.message != other.message { fields.append("content") }
        return fields
    }

    private mutating func note(_ tier: String, _ seq: UInt64, _ what: String) {
        differences.append(
            Difference(tier: tier, app: head.app, conversation: head.conversation, seq: seq, what: what))
    }
}
