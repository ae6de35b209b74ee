import Foundation
import Machinery
import Wire

/// Histories and questions from a seed, and their answers by the plain definition.
struct SeededRows {
    private var random: SeededRandom
    private static let users = ["a", "b", "c", "d"]

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    private mutating func pick(_ count: UInt64) -> UInt64 { random.next() % count }

    /// Rows from 1 on: messages, notices, and recalls by the sender or by somebody else.
    mutating func history(_ name: String, count: UInt64) -> [StoredRow] {
        var rows: [StoredRow] = []
        var n: UInt64 = 0
        for seq in 1...count {
            let sender = Self.users[Int(pick(3))]
            let kind = pick(10)
            if kind == 0, seq > 1 {
                let target = 1 + pick(seq - 1)
                rows.append(
                    RecentStoreContract.row(
                        name, seq, from: sender, n: n, control: true, target: target, kind: .contentRecall))
            } else if kind == 1 {
                rows.append(RecentStoreContract.row(name, seq, from: sender, n: n, control: true, kind: .contentNotice))
            } else {
                n += 1
                rows.append(RecentStoreContract.row(name, seq, from: sender, n: n))
            }
        }
        return rows
    }

    mutating func query(_ name: String, count: UInt64) -> HeadQuery {
        RecentStoreContract.head(
            name, Self.users[Int(pick(4))], read: pick(count + 5), joined: pick(3) == 0 ? 1 + pick(count) : 0,
            left: pick(4) == 0 ? 1 + pick(count) : 0, cleared: pick(3) == 0 ? pick(count) : 0)
    }

    /// Countable rows that the user sees, has not read, did not send, and that nobody who may has recalled.
    static func unread(_ rows: [StoredRow], _ query: HeadQuery) -> UInt64 {
        let visible = rows.filter { row in
            row.seq >= query.joinedSeq && (query.leftSeq == 0 || row.seq < query.leftSeq)
        }
        let recalls = visible.filter { row in
            let message = try? ChatMessage(serializedBytes: row.message)
            return row.control && row.targetSeq > 0 && message?.kind == .contentRecall
        }
        let counted = visible.filter { row in
            row.seq > max(query.readSeq, query.clearedSeq) && !row.control && row.sender != query.userID
                && !recalls.contains { $0.targetSeq == row.seq && $0.sender == row.sender }
        }
        return UInt64(counted.count)
    }
}
