import Foundation
import Wire

/// What makes a page usable: its rows follow each other without a hole, start and end where the query says, and the
/// source has reached the seq that the asker knows of.
enum Page {
    /// Largest page that services get; users' own limit is lower.
    static let maxRows: UInt32 = 1000

    static func isComplete(_ page: RowsPage, for query: RowsQuery) -> Bool {
        guard !page.hasFailure, page.head.seq >= query.atLeast else { return false }
        let rows = page.rows
        for (row, next) in zip(rows, rows.dropFirst()) where next.seq != row.seq + 1 { return false }
        let head = page.head.seq
        if query.beforeSeq == 0, query.fromSeq > 0 {
            guard query.fromSeq <= head else { return rows.isEmpty }
            guard let first = rows.first, let last = rows.last, first.seq == query.fromSeq else { return false }
            return last.seq == head || rows.count >= Int(query.limit)
        }
        // The newest, or the rows below a seq: they end there and go back as far as asked.
        let end = query.beforeSeq == 0 ? head : min(head, query.beforeSeq - 1)
        guard end > 0 else { return rows.isEmpty }
        guard let first = rows.first, let last = rows.last, last.seq == end else { return false }
        return rows.count >= Int(query.limit) || first.seq <= max(1, query.fromSeq)
    }

    /// Hides what was recalled: the row keeps its place, its content is gone. Rows never change, so readers apply the
    /// later rows: those that the store names, and those that stand in the page itself.
    static func applyRecalls(_ page: inout RowsPage) {
        var recalled = Set(page.recalledSeqs)
        for row in page.rows where row.control && row.targetSeq > 0 && row.targetSeq < row.seq {
            guard let first = page.rows.first, row.targetSeq >= first.seq else { continue }
            let target = page.rows[Int(row.targetSeq - first.seq)]
            guard target.sender == row.sender, !target.control, isRecall(row.message) else { continue }
            recalled.insert(row.targetSeq)
        }
        guard !recalled.isEmpty else { return }
        for index in page.rows.indices where recalled.contains(page.rows[index].seq) {
            page.rows[index].message = tombstone(page.rows[index])
            page.rows[index].control = true
        }
    }

    /// A recalled message as readers see it: a recall that names itself.
    static func tombstone(_ row: StoredRow) -> Data {
        var message = (try? ChatMessage(serializedBytes: row.message)) ?? ChatMessage()
        message.kind = .contentRecall
        message.content = .init()
        message.control = true
        message.targetSeq = row.seq
        return (try? message.serializedData()) ?? Data()
    }

    private static func isRecall(_ bytes: Data) -> Bool {
        (try? ChatMessage(serializedBytes: bytes))?.kind == .contentRecall
    }

    static func pushed(_ row: StoredRow) -> PushedMessage {
        var message = PushedMessage()
        message.conversation = row.conversation
        message.seq = row.seq
        message.n = row.n
        message.timeMs = row.timeMs
        message.message = row.message
        return message
    }
}
