import Foundation
import Testing
import Wire

@testable import MartletOps

/// What is found in one conversation.
@Suite struct VerifyTests {
    private static func row(_ seq: UInt64, n: UInt64? = nil, control: Bool = false, _ text: String = "x") -> StoredRow {
        var row = StoredRow()
        row.seq = seq
        row.n = n ?? seq
        row.timeMs = 1000 + seq
        row.sender = "alice"
        row.control = control
        row.message = Data(text.utf8)
        return row
    }

    /// The differences, as "tier seq what".
    private func check(
        head: UInt64, n: UInt64? = nil, base: (UInt64, UInt64) = (0, 0), hot: [StoredRow] = [], unreadable: [Int] = [],
        _ rows: [StoredRow]
    ) -> [String] {
        var check = ConversationCheck(
            ConversationCheck.Head(
                app: "a", conversation: "c", seq: head, n: n ?? head, baseSeq: base.0, baseN: base.1), first: "recent")
        check.compare("hot", hot, unreadable: unreadable)
        for row in rows { check.see(row) }
        check.finish()
        return check.differences.map { "\($0.tier) \($0.seq) \($0.what)" }
    }

    @Test func whatIsFine() {
        let rows = (1...5).map { Self.row($0) }
        #expect(check(head: 5, rows) == [])
        #expect(check(head: 5, hot: Array(rows[2...]), rows) == [])
        // Rows that came after the head was read, and were put into the cache.
        #expect(check(head: 3, hot: rows, rows) == [])
        // A control row does not count.
        #expect(check(head: 3, n: 2, [Self.row(1), Self.row(2, n: 1, control: true), Self.row(3, n: 2)]) == [])
        // Rows that were dropped with their month, which the cache may have all the same.
        #expect(check(head: 5, base: (3, 3), hot: rows, Array(rows[3...])) == [])
        #expect(check(head: 0, []) == [])
        #expect(check(head: 7, n: 6, base: (7, 6), []) == [])
    }

    @Test func rowsThatAreMissing() {
        let rows = (1...5).map { Self.row($0) }
        #expect(check(head: 5, rows.filter { $0.seq != 3 }) == ["recent 3 is missing"])
        #expect(check(head: 5, [rows[0], rows[4]]) == ["recent 2 rows up to 4 are missing"])
        #expect(
            check(head: 5, Array(rows[..<3])) == ["recent 4 is missing: the head says 5, the rows end at 3"])
        #expect(check(head: 5, Array(rows[1...])) == ["recent 1 is missing"])
        #expect(check(head: 5, [rows[0], rows[1], rows[1], rows[2], rows[3], rows[4]]) == ["recent 2 is there twice"])
    }

    @Test func numbersThatAreWrong() {
        let rows = (1...3).map { Self.row($0) }
        #expect(check(head: 3, [rows[0], Self.row(2, n: 1), Self.row(3, n: 2)]).count == 2, "and the head's n")
        #expect(check(head: 3, n: 4, rows) == ["recent 3 n is 3, its head says 4"])
        #expect(check(head: 3, base: (0, 1), rows) == ["recent 1 n is 1, 2 is right"])
        var late = rows
        late[2].timeMs = 1
        #expect(check(head: 3, late) == ["recent 3 is older than the row before it"])
    }

    @Test func theCacheIsComparedRowByRow() {
        let rows = (1...4).map { Self.row($0) }
        var other = rows
        other[1] = Self.row(2, "y")
        #expect(check(head: 4, hot: other, rows) == ["hot 2 differs from recent in content"])
        other[1].sender = "bob"
        other[1].n = 9
        #expect(check(head: 4, hot: other, rows) == ["hot 2 differs from recent in n, sender, content"])
        #expect(
            check(head: 4, hot: [rows[0], rows[2]], rows) == ["hot 3 the row before it is 1: not dense"])
        #expect(check(head: 4, hot: rows + [Self.row(5)], rows) == ["hot 5 recent has no such row"])
        #expect(
            check(head: 4, hot: [rows[0], rows[2]], unreadable: [1], rows)
                == ["hot 0 row 1 from its beginning cannot be read"])
    }
}
