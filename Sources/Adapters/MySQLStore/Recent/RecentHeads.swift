import Foundation
import Ports
import Wire

/// Heads and unread counts: few queries for many conversations, and rows only where a count cannot do without.
extension MySQLRecentStore {
    public func heads(_ queries: [HeadQuery], since marks: Data) -> HeadsRead {
        heads(queries, buckets: [], since: HeadMarks(marks))
    }

    /// - Parameter buckets: of the queries' conversations, where the caller knows them.
    func heads(_ queries: [HeadQuery], buckets: [UInt32], since marks: HeadMarks) -> HeadsRead {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                let answer = try Self.heads(queries, marks, connection)
                let absent = try Self.absent(connection)
                guard let lost = buckets.first(where: { absent.contains($0) }) else { return answer }
                var moved = HeadsRead()
                moved.failure = Self.movedFailure(lost)
                return moved
            }
        } catch {
            var failed = HeadsRead()
            failed.failure = error.failure
            return failed
        }
    }

    /// A row that somebody wants to know of.
    private struct Point: Hashable {
        let conversation: UInt64
        let seq: UInt64
    }

    /// What a query looks at, once its conversation is known.
    private struct Asked {
        let name: Name
        let head: StoredHead
        let top: UInt64
        let bottom: UInt64
        let from: UInt64
    }

    private static func heads(
        _ queries: [HeadQuery], _ marks: HeadMarks, _ connection: MySQLConnection
    ) throws(MySQLError) -> HeadsRead {
        // Before the heads: what is committed in between is seen again next time.
        let seen = try numbers(connection)
        var since = HeadMarks()
        // A mark from the future belongs to a store that was replaced: then everything has changed.
        for (bucket, number) in marks.numbers where number <= seen[bucket] { since[bucket] = number }
        var names: Set<Name> = []
        var order: [Name] = []
        for query in queries {
            let name = Name(app: query.appID, conversation: query.conversation)
            if names.insert(name).inserted { order.append(name) }
        }
        let heads = try heads(order, connection)
        var answer = HeadsRead()
        var asked: [Asked?] = []
        for query in queries {
            let name = Name(app: query.appID, conversation: query.conversation)
            var state = HeadState()
            let head = heads[name]
            let mark = head.map { since[$0.bucket] } ?? 0
            state.changed = head.map { mark == 0 || $0.place.changed > mark } ?? since.isEmpty
            answer.heads.append(state)
            asked.append(state.changed || query.always ? head.map { look(query, name, $0) } : nil)
        }
        try fill(&answer, queries, asked, connection)
        answer.shardMarks = seen.data
        return answer
    }

    /// The commit numbers of the buckets that are here.
    private static func numbers(_ connection: MySQLConnection) throws(MySQLError) -> HeadMarks {
        var seen = HeadMarks()
        try connection.query("SELECT bucket, changed FROM buckets WHERE state < 2") { row in
            seen[UInt32(clamping: row.uint(0))] = row.uint(1)
        }
        return seen
    }

    /// Members see [joined, left) above what they cleared.
    private static func look(_ query: HeadQuery, _ name: Name, _ head: StoredHead) -> Asked {
        let top = query.leftSeq > 0 ? min(head.place.seq, query.leftSeq - 1) : head.place.seq
        let bottom = max(query.clearedSeq, query.joinedSeq > 0 ? query.joinedSeq - 1 : 0)
        return Asked(name: name, head: head, top: top, bottom: bottom, from: max(query.readSeq, bottom))
    }

    private static func fill(
        _ answer: inout HeadsRead, _ queries: [HeadQuery], _ asked: [Asked?], _ connection: MySQLConnection
    ) throws(MySQLError) {
        let counts = try counts(asked, connection)
        let tops = try tops(asked, connection)
        var bytes = 0
        for (index, item) in asked.enumerated() {
            guard let item else { continue }
            let (place, no) = (item.head.place, UInt64(item.head.place.no))
            var state = answer.heads[index]
            let last = tops[Point(conversation: no, seq: item.top)]
            state.seq = item.top
            state.n = count(item.head, item.top, counts)
            state.timeMs = item.top == place.seq ? place.time : last?.timeMs ?? 0
            if item.top > item.bottom, let last {
                state.last = last
                state.timeMs = last.timeMs
                bytes += last.message.count
                if bytes > RowLimits.answerBytes, index > 0 {
                    answer.heads.removeLast(answer.heads.count - index)
                    return
                }
            }
            if item.top > item.from {
                state.unread = state.n - min(state.n, count(item.head, item.from, counts))
                try leaveOut(&state.unread, queries[index].userID, item, connection)
            }
            answer.heads[index] = state
        }
    }

    /// Countable messages up to and including a seq. Below what has expired nothing counts that can still be read.
    private static func count(_ head: StoredHead, _ seq: UInt64, _ counts: [Point: UInt64]) -> UInt64 {
        if seq >= head.place.seq { return head.place.n }
        if seq <= head.baseSeq { return head.baseN }
        return counts[Point(conversation: UInt64(head.place.no), seq: seq)] ?? 0
    }

    private static func counts(
        _ asked: [Asked?], _ connection: MySQLConnection
    ) throws(MySQLError) -> [Point: UInt64] {
        var wanted: Set<Point> = []
        for case let item? in asked {
            for seq in [item.top, item.from] where seq > item.head.baseSeq && seq < item.head.place.seq {
                wanted.insert(Point(conversation: UInt64(item.head.place.no), seq: seq))
            }
        }
        var found: [Point: UInt64] = [:]
        try listed(ordered(wanted), "(conv, seq)", 2, connection, fillPoint, "SELECT conv, seq, n FROM messages WHERE")
        {
            row in found[Point(conversation: row.uint(0), seq: row.uint(1))] = row.uint(2)
        }
        return found
    }

    /// The newest row that each of them sees.
    private static func tops(
        _ asked: [Asked?], _ connection: MySQLConnection
    ) throws(MySQLError) -> [Point: StoredRow] {
        var names: [UInt64: Name] = [:]
        var wanted: Set<Point> = []
        for case let item? in asked where item.top > item.bottom || item.top != item.head.place.seq {
            names[UInt64(item.head.place.no)] = item.name
            wanted.insert(Point(conversation: UInt64(item.head.place.no), seq: item.top))
        }
        var found: [Point: StoredRow] = [:]
        try listed(
            ordered(wanted), "(conv, seq)", 2, connection, fillPoint, "SELECT conv, \(rowColumns) FROM messages WHERE"
        ) { row in
            guard let name = names[row.uint(0)] else { return }
            found[Point(conversation: row.uint(0), seq: row.uint(1))] = Self.row(row, name, from: 1)
        }
        return found
    }

    private static func ordered(_ points: Set<Point>) -> [Point] {
        points.sorted { ($0.conversation, $0.seq) < ($1.conversation, $1.seq) }
    }

    private static func fillPoint(_ point: Point, _ values: inout MySQLValues) {
        values.add(point.conversation)
        values.add(point.seq)
    }

    /// Own and recalled messages are not unread. Rows are looked at only when there may be some.
    private static func leaveOut(
        _ unread: inout UInt64, _ user: String, _ item: Asked, _ connection: MySQLConnection
    ) throws(MySQLError) {
        let from = max(item.from, item.head.baseSeq)
        var values = MySQLValues(UInt64(item.head.place.no), from, item.top)
        if unread > 0, item.head.place.lastSeq(of: user) > from {
            values.add(user)
            let own = try connection.number(
                """
                SELECT count(*) FROM messages WHERE conv = ? AND seq > ? AND seq <= ? AND (flags & 1) = 0 AND sender = ?
                """, values)
            unread -= min(unread, own ?? 0)
        }
        guard unread > 0, item.head.place.recallSeq > from else { return }
        // What the user may see ends at the top, recalls included.
        var limits = MySQLValues(UInt64(item.head.place.no), from, item.top, item.top)
        limits.add(user)
        let recalled = try connection.number(
            "SELECT count(DISTINCT t.target) \(recalledRows) AND t.seq <= ? AND m.sender <> ?", limits)
        unread -= min(unread, recalled ?? 0)
    }
}
