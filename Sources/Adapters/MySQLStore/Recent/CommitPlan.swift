import Foundation
import Ports
import Wire

/// What one transaction writes, decided before it begins from what is known of its buckets. Pure.
struct CommitPlan {
    typealias Name = MySQLRecentStore.Name

    /// A bucket's move, and what it leaves behind.
    struct Move {
        /// Place in the call.
        let index: Int
        let commit: BucketCommit
        var changed: UInt64
        var conversations: UInt64
        var newest: UInt64 = 0
        var heads: [(name: Name, place: ConversationPlace)] = []
    }

    struct Message {
        let conversation: UInt64
        let row: StoredRow
        let bucket: UInt32
        let changed: UInt64
        let isRecall: Bool
    }

    private(set) var moves: [Move] = []
    /// By conversation and seq: rows that follow each other share a page and the way to it.
    private(set) var messages: [Message] = []

    /// Adds a bucket's commit, or says why its rows do not continue what is stored.
    ///
    /// - Parameters:
    ///   - known: of the bucket, under the commit's epoch and at its old offset.
    ///   - heads: the place of every conversation in the rows; absent where there is none yet.
    mutating func add(
        _ index: Int, _ commit: BucketCommit, known: MySQLRecentStore.Held, heads: [Name: ConversationPlace]
    ) -> Failure? {
        var move = Move(
            index: index, commit: commit, changed: known.changed + 1, conversations: known.conversations)
        var slots: [Name: Int] = [:]
        var added: [Message] = []
        added.reserveCapacity(commit.rows.count)
        for row in commit.rows {
            let name = Name(app: row.appID, conversation: row.conversation)
            let slot = slots[name] ?? move.heads.count
            if slot == move.heads.count {
                slots[name] = slot
                var place = heads[name] ?? ConversationPlace()
                if place.no == 0 {
                    move.conversations += 1
                    place.no = Int64(RecentSchema.firstNumber(of: commit.bucket) + move.conversations)
                }
                move.heads.append((name, place))
            }
            if let failure = move.heads[slot].place.take(row, commit: move.changed) { return failure }
            move.newest = max(move.newest, row.timeMs)
            added.append(
                Message(
                    conversation: UInt64(move.heads[slot].place.no), row: row, bucket: commit.bucket,
                    changed: move.changed, isRecall: row.targetSeq > 0 && Recall.isOne(row)))
        }
        moves.append(move)
        messages += added
        return nil
    }

    /// Puts everything into the order of the tables and of the locks.
    mutating func arrange() {
        // Two writers that hold some of the same buckets take their rows in the same order: neither waits for the other
        // in a circle.
        moves.sort { $0.commit.bucket < $1.commit.bucket }
        messages.sort { ($0.conversation, $0.row.seq) < ($1.conversation, $1.row.seq) }
    }
}
