import Ports
import Wire

/// The newest rows of conversations, in memory. Bounded in bytes over all of them; the conversation that was touched
/// longest ago goes first.
///
/// Isolation: the lane of its machine.
public final class MemoryHotStore: HotStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.
    private struct Name: Hashable {
        let app: String
        let conversation: String
    }

    /// Dense rows, oldest first, and the neighbours in the order of use.
    private struct Slot {
        var name: Name
        var rows: [StoredRow] = []
        var bytes = 0
        var newer = -1
        var older = -1
    }

    private var fences = HotFences()
    private var places: [Name: Int] = [:]
    private var slots: [Slot] = []
    private var free: [Int] = []
    private var newest = -1
    private var oldest = -1
    private let limitBytes: Int
    private let limitRows: Int
    /// What all rows cost.
    public private(set) var bytes = 0
    /// What a row and a conversation cost beside their bytes.
    static let rowOverhead = 160
    static let slotOverhead = 256
    /// A conversation may hold this many more before it is cut back, so that the cut is paid once for many rows.
    private static let slackRows = 64

    /// - Parameters:
    ///   - bytes: most bytes of all rows.
    ///   - rows: most rows of a conversation that are answered.
    public init(bytes: Int, rows: Int) {
        limitBytes = bytes
        limitRows = rows
    }

    public func put(_ rows: [StoredRow], fences: [HotFence]) {
        for row in self.fences.admit(rows, fences) where row.seq > 0 {
            let name = Name(app: row.appID, conversation: row.conversation)
            let index = touch(name)
            guard let last = slots[index].rows.last?.seq else {
                add(row, index)
                continue
            }
            if row.seq <= last { continue }
            // A hole: what is older cannot be answered together with what is newer.
            if row.seq > last + 1 { clear(index) }
            add(row, index)
        }
        while bytes > limitBytes, oldest >= 0 { drop(oldest) }
    }

    private func cost(_ row: StoredRow) -> Int { row.message.count + row.conversation.utf8.count + Self.rowOverhead }

    private func add(_ row: StoredRow, _ index: Int) {
        var kept = row
        kept.dedupKey.removeAll()
        slots[index].rows.append(kept)
        count(index, cost(kept))
        if slots[index].rows.count >= limitRows + Self.slackRows {
            let extra = slots[index].rows.count - limitRows
            count(index, -slots[index].rows.prefix(extra).reduce(0) { $0 + cost($1) })
            slots[index].rows.removeFirst(extra)
        }
    }

    private func count(_ index: Int, _ change: Int) {
        slots[index].bytes += change
        bytes += change
    }

    private func clear(_ index: Int) {
        count(index, -slots[index].rows.reduce(0) { $0 + cost($1) })
        slots[index].rows.removeAll(keepingCapacity: true)
    }

    // MARK: order of use

    private func touch(_ name: Name) -> Int {
        if let index = places[name] {
            unlink(index)
            link(index)
            return index
        }
        let index = free.popLast() ?? slots.count
        if index == slots.count { slots.append(Slot(name: name)) } else { slots[index] = Slot(name: name) }
        places[name] = index
        count(index, Self.slotOverhead)
        link(index)
        return index
    }

    private func link(_ index: Int) {
        slots[index].older = newest
        slots[index].newer = -1
        if newest >= 0 { slots[newest].newer = index }
        newest = index
        if oldest < 0 { oldest = index }
    }

    private func unlink(_ index: Int) {
        let (newer, older) = (slots[index].newer, slots[index].older)
        if newer >= 0 { slots[newer].older = older } else { newest = older }
        if older >= 0 { slots[older].newer = newer } else { oldest = newer }
    }

    private func drop(_ index: Int) {
        unlink(index)
        bytes -= slots[index].bytes
        places[slots[index].name] = nil
        slots[index].rows = []
        free.append(index)
    }

    // MARK: reading

    public func rows(_ queries: [RowsQuery]) -> [RowsPage] {
        var bytes = 0
        return queries.map { query in
            guard bytes < RowLimits.answerBytes else { return Self.miss() }
            let page = page(query)
            bytes += page.rows.reduce(0) { $0 + $1.message.count }
            return page
        }
    }

    private func page(_ query: RowsQuery) -> RowsPage {
        guard let index = places[Name(app: query.appID, conversation: query.conversation)] else { return Self.miss() }
        unlink(index)
        link(index)
        let rows = slots[index].rows.suffix(limitRows)
        guard let first = rows.first?.seq, let last = rows.last, query.atLeast <= last.seq else { return Self.miss() }
        let limit = query.limit == 0 ? RowLimits.pageRowsDefault : min(Int(query.limit), RowLimits.pageRows)
        let from: UInt64
        let below: UInt64
        if query.fromSeq > 0 {
            // Whether anything is beyond the last row is not known here.
            guard query.fromSeq >= first, query.fromSeq <= last.seq else { return Self.miss() }
            from = query.fromSeq
            below = min(query.beforeSeq == 0 ? .max : query.beforeSeq, last.seq + 1, from + UInt64(limit))
        } else {
            guard query.beforeSeq <= last.seq + 1 else { return Self.miss() }
            below = query.beforeSeq == 0 ? last.seq + 1 : query.beforeSeq
            from = max(1, below > UInt64(limit) ? below - UInt64(limit) : 1)
            guard from >= first else { return Self.miss() }
        }
        var page = RowsPage()
        if from < below {
            let start = rows.startIndex + Int(from - first)
            page.rows = Self.bounded(rows[start..<rows.startIndex + Int(below - first)], upwards: query.fromSeq > 0)
            page.recalledSeqs = Self.recalled(rows[start...], Set(page.rows.lazy.map(\.seq)))
        }
        page.head.appID = query.appID
        page.head.conversation = query.conversation
        page.head.seq = last.seq
        page.head.n = last.n
        page.head.timeMs = last.timeMs
        return page
    }

    /// The part of a page that its byte limit allows: the rows next to the border that was asked for.
    private static func bounded(_ rows: ArraySlice<StoredRow>, upwards: Bool) -> [StoredRow] {
        var bytes = 0
        var count = 0
        for row in upwards ? Array(rows) : rows.reversed() {
            bytes += row.message.count
            if bytes > RowLimits.pageBytes && count > 0 { break }
            count += 1
        }
        return Array(upwards ? rows.prefix(count) : rows.suffix(count))
    }

    /// Which of the seqs a later row of the same sender recalls. `rows` begins with the page and goes to the newest.
    private static func recalled(_ rows: ArraySlice<StoredRow>, _ page: Set<UInt64>) -> [UInt64] {
        guard let first = rows.first?.seq else { return [] }
        var seqs: Set<UInt64> = []
        for row in rows where row.control && page.contains(row.targetSeq) && Recall.isOne(row) {
            let target = rows[rows.startIndex + Int(row.targetSeq - first)]
            if target.sender == row.sender, !target.control { seqs.insert(row.targetSeq) }
        }
        return seqs.sorted()
    }

    private static func miss() -> RowsPage {
        var page = RowsPage()
        page.failure = Failure(.notFound, "not in the hot store; ask the next tier")
        return page
    }
}
