import Foundation
import Ports
import Wire

extension SimulatedRecentStore {
    public func rows(_ queries: [RowsQuery]) -> [RowsPage] { queries.map(page) }

    private func page(_ query: RowsQuery) -> RowsPage {
        let name = Name(query.appID, query.conversation)
        flush(bucketOf: name)
        var page = RowsPage()
        page.head = head(name)
        guard !trouble.strikes(), query.atLeast <= page.head.seq else {
            page.failure = Failure(.historyUnavailable, "not here, or not yet")
            return page
        }
        let all = conversations[name]?.rows ?? []
        let limit = query.limit == 0 ? RowLimits.pageRowsDefault : min(Int(query.limit), RowLimits.pageRows)
        let below = query.beforeSeq == 0 ? .max : query.beforeSeq
        let wanted = all.filter { $0.seq >= query.fromSeq && $0.seq < below }
        let cut = query.fromSeq > 0 ? Array(wanted.prefix(limit)) : Array(wanted.suffix(limit))
        page.rows = Self.bounded(cut, upwards: query.fromSeq > 0).map { row in
            var plain = row
            plain.dedupKey = Data()
            return plain
        }
        let recalled = RowRules.recalled(all)
        page.recalledSeqs = page.rows.map(\.seq).filter { recalled.contains($0) }
        return page
    }

    private static func bounded(_ rows: [StoredRow], upwards: Bool) -> [StoredRow] {
        var bytes = 0
        let kept = (upwards ? rows : rows.reversed()).prefix { row in
            defer { bytes += row.message.count }
            return bytes == 0 || bytes + row.message.count <= RowLimits.pageBytes
        }
        return upwards ? Array(kept) : kept.reversed()
    }

    public func heads(_ queries: [HeadQuery], since marks: Data) -> HeadsRead {
        var answer = HeadsRead()
        if trouble.strikes() {
            answer.failure = Failure(.storeUnavailable, "the simulated store is away")
            return answer
        }
        answer.shardMarks = withUnsafeBytes(of: commits.bigEndian) { Data($0) }
        let said = marks.count == 8 ? marks.reduce(0) { $0 << 8 | UInt64($1) } : 0
        // A mark that was never given out belongs to another store: then everything has changed.
        let mark = said <= commits ? said : 0
        answer.heads = queries.map { state($0, since: mark) }
        return answer
    }

    private func state(_ query: HeadQuery, since mark: UInt64) -> HeadState {
        var state = HeadState()
        let name = Name(query.appID, query.conversation)
        flush(bucketOf: name)
        let conversation = conversations[name] ?? Conversation()
        state.changed = mark == 0 || conversation.changed > mark
        guard state.changed || query.always, let last = conversation.rows.last else { return state }
        let end = query.leftSeq > 0 ? min(query.leftSeq, last.seq + 1) : last.seq + 1
        let visible = conversation.rows.prefix { $0.seq < end }
        let first = max(query.clearedSeq + 1, query.joinedSeq)
        state.seq = visible.last?.seq ?? 0
        state.n = visible.last?.n ?? 0
        state.timeMs = visible.last?.timeMs ?? 0
        if let newest = visible.last, newest.seq >= first {
            state.last = newest
            state.last.dedupKey = Data()
        }
        let seen = Array(visible.filter { $0.seq >= query.joinedSeq })
        state.unread = RowRules.unread(seen, of: query.userID, above: max(query.readSeq, query.clearedSeq))
        return state
    }
}

/// What rows say about each other, by the plain definition.
public enum RowRules {
    /// Seqs of messages that their own sender takes back in a later one of the rows.
    public static func recalled(_ rows: [StoredRow]) -> Set<UInt64> {
        var senders: [UInt64: String] = [:]
        var found: Set<UInt64> = []
        for row in rows {
            if !row.control { senders[row.seq] = row.sender }
            guard row.control, row.targetSeq > 0, senders[row.targetSeq] == row.sender,
                let message = try? ChatMessage(serializedBytes: row.message), message.kind == .contentRecall
            else { continue }
            found.insert(row.targetSeq)
        }
        return found
    }

    /// Countable rows above a seq that others sent and nobody took back.
    public static func unread(_ rows: [StoredRow], of user: String, above read: UInt64) -> UInt64 {
        let counted = rows.filter { $0.seq > read && !$0.control && $0.sender != user }
        guard !counted.isEmpty else { return 0 }
        let gone = recalled(rows)
        return UInt64(counted.filter { !gone.contains($0.seq) }.count)
    }
}
