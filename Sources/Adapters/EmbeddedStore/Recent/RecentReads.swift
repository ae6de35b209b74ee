import Foundation
import Ports
import Wire

extension SQLiteRecentStore {
    public func rows(_ queries: [RowsQuery]) -> [RowsPage] {
        var bytes = 0
        return queries.map { query in
            var page = RowsPage()
            guard bytes < RowLimits.answerBytes else {
                page.failure = Failure(.overloaded, "too much for one answer; ask for fewer pages at once")
                return page
            }
            do throws(SQLiteError) { page = try self.page(query) } catch { page.failure = error.failure }
            bytes += page.rows.reduce(0) { $0 + $1.message.count }
            return page
        }
    }

    private func page(_ query: RowsQuery) throws(SQLiteError) -> RowsPage {
        let name = Name(app: query.appID, conversation: query.conversation)
        flush(bucketOf: name)
        let head = try head(name)
        var page = RowsPage()
        page.head = Self.head(name, head)
        if query.atLeast > page.head.seq {
            page.failure = Failure(
                .historyUnavailable, "\(query.conversation) ends at \(page.head.seq), before \(query.atLeast)")
            return page
        }
        guard let head else { return page }
        let limit = query.limit == 0 ? RowLimits.pageRowsDefault : min(Int(query.limit), RowLimits.pageRows)
        let below = query.beforeSeq == 0 ? head.seq + 1 : min(query.beforeSeq, head.seq + 1)
        let upwards = query.fromSeq > 0
        let read = upwards ? statements.pageUp : statements.pageDown
        read.bind(1, head.no)
        read.bind(2, query.fromSeq)
        read.bind(3, below)
        read.bind(4, Int64(limit))
        var bytes = 0
        var expected = upwards ? query.fromSeq : below - 1
        while try read.step() {
            let row = Self.row(read, name)
            if row.seq != expected {
                read.reset()
                page.rows = []
                page.failure = Failure(.historyUnavailable, "\(query.conversation) has no row \(expected) here")
                return page
            }
            bytes += row.message.count
            if bytes > RowLimits.pageBytes && !page.rows.isEmpty { break }
            page.rows.append(row)
            expected = upwards ? expected + 1 : expected &- 1
        }
        read.reset()
        if !upwards { page.rows.reverse() }
        try nameRecalled(&page, head)
        return page
    }

    /// Only a recall above the page's first row can mean one of its rows.
    private func nameRecalled(_ page: inout RowsPage, _ head: HeadEntry) throws(SQLiteError) {
        guard let first = page.rows.first?.seq, let last = page.rows.last?.seq, head.recallSeq > first else { return }
        let get = statements.recalledIn
        get.bind(1, head.no)
        get.bind(2, first - 1)
        get.bind(3, last)
        while try get.step() { page.recalledSeqs.append(get.uint(0)) }
    }

    public func heads(_ queries: [HeadQuery], since marks: Data) -> HeadsRead {
        var answer = HeadsRead()
        // A mark from the future belongs to a store that was replaced: then everything has changed.
        let mark = Self.mark(marks).flatMap { $0 <= commits ? $0 : nil } ?? 0
        do throws(SQLiteError) {
            answer.heads.reserveCapacity(queries.count)
            var bytes = 0
            for query in queries {
                let state = try state(query, mark)
                bytes += state.last.message.count
                if bytes > RowLimits.answerBytes, !answer.heads.isEmpty { break }
                answer.heads.append(state)
            }
            // What is not in the file may be unseen on a full disk, here or on a later page that begins from these
            // marks: it has to count as a change afterwards.
            let seen = unflushed.oldestCommit.map { $0 - 1 } ?? commits
            answer.shardMarks = withUnsafeBytes(of: seen.bigEndian) { Data($0) }
            return answer
        } catch {
            var failed = HeadsRead()
            failed.failure = error.failure
            return failed
        }
    }

    private static func mark(_ bytes: Data) -> UInt64? {
        guard bytes.count == 8 else { return nil }
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    private func state(_ query: HeadQuery, _ mark: UInt64) throws(SQLiteError) -> HeadState {
        let name = Name(app: query.appID, conversation: query.conversation)
        var state = HeadState()
        flush(bucketOf: name)
        guard let head = try head(name) else {
            state.changed = mark == 0
            return state
        }
        state.changed = mark == 0 || head.changed > mark
        guard state.changed || query.always else { return state }
        // Members see [joined, left) above what they cleared.
        let top = query.leftSeq > 0 ? min(head.seq, query.leftSeq - 1) : head.seq
        let bottom = max(query.clearedSeq, query.joinedSeq > 0 ? query.joinedSeq - 1 : 0)
        state.seq = top
        state.n = top == head.seq ? head.n : try count(head, top)
        state.timeMs = head.time
        if top > bottom, let last = try row(name, head.no, top) {
            state.last = last
            state.timeMs = last.timeMs
        } else if top != head.seq {
            state.timeMs = try row(name, head.no, top)?.timeMs ?? 0
        }
        state.unread = try unread(head, query.userID, from: max(query.readSeq, bottom), to: top, countable: state.n)
        return state
    }

    /// Countable messages up to and including a seq.
    private func count(_ head: HeadEntry, _ seq: UInt64) throws(SQLiteError) -> UInt64 {
        if seq == 0 { return 0 }
        if seq >= head.seq { return head.n }
        let get = statements.countAt
        get.bind(1, head.no)
        get.bind(2, seq)
        defer { get.reset() }
        return try get.step() ? get.uint(0) : 0
    }

    /// Countable messages in (from, to] that others sent and nobody recalled. Exact; looks at rows only when the user's
    /// own or recalled ones may be among them.
    private func unread(
        _ head: HeadEntry, _ user: String, from: UInt64, to: UInt64, countable: UInt64
    ) throws(SQLiteError) -> UInt64 {
        guard to > from else { return 0 }
        var unread = countable - min(countable, try count(head, from))
        if unread == 0 { return 0 }
        if head.lastSeq(of: user) > from {
            let own = statements.ownCount
            bind(own, head.no, from, to, user)
            defer { own.reset() }
            if try own.step() { unread -= min(unread, own.uint(0)) }
        }
        if head.recallSeq > from {
            let recalled = statements.recalledCount
            bind(recalled, head.no, from, to, user)
            defer { recalled.reset() }
            if try recalled.step() { unread -= min(unread, recalled.uint(0)) }
        }
        return unread
    }

    private func bind(_ statement: Statement, _ conversation: Int64, _ from: UInt64, _ to: UInt64, _ user: String) {
        statement.bind(1, conversation)
        statement.bind(2, from)
        statement.bind(3, to)
        statement.bind(4, user)
    }
}
