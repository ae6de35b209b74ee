import Foundation
import Machinery
import Ports
import Wire

extension MySQLRecentStore {
    public func commit(_ buckets: [BucketCommit]) -> [BucketCommitResult] {
        var results = buckets.map { commit in
            var result = BucketCommitResult()
            result.bucket = commit.bucket
            return result
        }
        var rest = Array(buckets.indices)
        while !rest.isEmpty {
            // A bucket that is there twice goes on from its own rows: in a transaction after this one.
            var seen: Set<UInt32> = []
            let now = rest.filter { seen.insert(buckets[$0].bucket).inserted }
            let taken = Set(now)
            store(now, buckets, &results)
            rest.removeAll { taken.contains($0) }
        }
        return results
    }

    /// All in one transaction; those that turn out to be somebody else's are left out of the next attempt.
    private func store(_ indices: [Int], _ buckets: [BucketCommit], _ results: inout [BucketCommitResult]) {
        var rest = indices
        while !rest.isEmpty {
            var plan = CommitPlan()
            do throws(MySQLError) {
                plan = try makePlan(rest, buckets, &results)
            } catch {
                for index in rest { Self.end(&results[index], .commitUnavailable, error.failure) }
                return
            }
            let planned = plan.moves.map(\.index)
            guard !planned.isEmpty else { return }
            rest = []
            switch session.transaction({ (connection) throws(MySQLError) in try Self.write(plan, connection) }) {
            case .committed(let lost) where !lost.isEmpty:
                // Only the compare-and-sets were made, and some did not fit: nothing of the others was written.
                for index in lost { conflict(buckets[index].bucket, &results[index]) }
                rest = planned.filter { !lost.contains($0) }
                for index in rest { held[buckets[index].bucket] = nil }
            case .committed: finish(plan, &results)
            case .unknown(_, let error): lookAgain(plan, error, &results)
            case .undone(let error):
                if error.kind == .rows, planned.count > 1 {
                    // One of them has rows that the database does not take: alone each finds out.
                    for index in planned { store([index], buckets, &results) }
                } else {
                    for index in planned { Self.end(&results[index], .commitUnavailable, error.failure) }
                }
            }
        }
    }

    private static func end(_ result: inout BucketCommitResult, _ state: CommitState, _ failure: Failure?) {
        result.state = state
        if let failure { result.failure = failure }
    }

    private func conflict(_ bucket: UInt32, _ result: inout BucketCommitResult, _ failure: Failure? = nil) {
        held[bucket] = nil
        Self.end(&result, .commitConflict, failure)
    }

    // MARK: before the transaction

    /// Plans what can be done; the others get their results here.
    private func makePlan(
        _ indices: [Int], _ buckets: [BucketCommit], _ results: inout [BucketCommitResult]
    ) throws(MySQLError) -> CommitPlan {
        var plan = CommitPlan()
        try learn(indices.map { buckets[$0] })
        for index in indices {
            let commit = buckets[index]
            guard var known = held[commit.bucket], known.epoch == commit.epoch, known.stored == commit.oldOffset else {
                conflict(commit.bucket, &results[index])
                continue
            }
            // Out of the table while it is used, or looking into its cache would copy it.
            held[commit.bucket] = nil
            let names = Set(commit.rows.map { Name(app: $0.appID, conversation: $0.conversation) })
            var heads: [Name: ConversationPlace] = [:]
            var missing: [Name] = []
            for name in names { if let head = known.heads[name] { heads[name] = head } else { missing.append(name) } }
            // In an order of their own, so that the same call asks the same.
            missing.sort { ($0.app, $0.conversation) < ($1.app, $1.conversation) }
            let found = try session.reading { (connection) throws(MySQLError) in try Self.heads(missing, connection) }
            for (name, head) in found { heads[name] = head.place }
            held[commit.bucket] = known
            if let failure = plan.add(index, commit, known: known, heads: heads) {
                conflict(commit.bucket, &results[index], failure)
            }
        }
        plan.arrange()
        return plan
    }

    /// Reads the rows of buckets that are not held under the commits' epochs. Between this and the transaction nothing
    /// is locked: the compare-and-set finds out whether it was still so.
    private func learn(_ commits: [BucketCommit]) throws(MySQLError) {
        for commit in commits {
            if let known = held[commit.bucket], known.epoch == commit.epoch, known.stored == commit.oldOffset {
                continue
            }
            held[commit.bucket] = nil
            held[commit.bucket] = try session.reading { (connection) throws(MySQLError) -> Held? in
                var found: Held?
                try connection.query(
                    "SELECT epoch, stored, changed, conversations FROM buckets WHERE bucket = ? AND state = 0",
                    MySQLValues(UInt64(commit.bucket))
                ) { row in
                    found = Held(
                        epoch: row.uint(0), stored: row.uint(1), changed: row.uint(2), conversations: row.uint(3),
                        heads: BoundedCache(limit: Self.headsPerBucket))
                }
                return found
            }
        }
    }

    // MARK: in the transaction

    /// Writes the plan; the answer names those whose bucket row was another than planned, and then nothing is written.
    private static func write(_ plan: CommitPlan, _ connection: MySQLConnection) throws(MySQLError) -> [Int] {
        var lost: [Int] = []
        for move in plan.moves {
            let commit = move.commit
            let values = MySQLValues(
                commit.newOffset, move.changed, move.conversations, move.newest, UInt64(commit.bucket), commit.epoch,
                commit.oldOffset)
            let changed = try connection.execute(
                """
                UPDATE buckets SET stored = ?, changed = ?, conversations = ?, time = greatest(time, ?)
                WHERE bucket = ? AND epoch = ? AND stored = ? AND state = 0
                """, values)
            if changed != 1 { lost.append(move.index) }
        }
        if !lost.isEmpty {
            try connection.run("ROLLBACK")
            return lost
        }
        try writeMessages(plan.messages, connection)
        try writeDedup(plan.messages.filter { !$0.row.dedupKey.isEmpty }, connection)
        try writeHeads(plan.moves, connection)
        try writeTargets(plan.messages.filter { $0.row.targetSeq > 0 }, connection)
        try writeDead(plan.moves, connection)
        return []
    }

    private static func writeMessages(
        _ messages: [CommitPlan.Message], _ connection: MySQLConnection
    ) throws(MySQLError) {
        try insert(
            "INSERT INTO messages(conv, seq, month, n, time, sender, flags, target, body) VALUES ", 9, messages,
            bytes: { $0.row.message.count + 300 }, connection
        ) { message, values in
            values.add(message.conversation)
            values.add(message.row.seq)
            values.add(UInt64(Months.number(ofMS: message.row.timeMs)))
            values.add(message.row.n)
            values.add(message.row.timeMs)
            values.add(message.row.sender)
            values.add(
                (message.row.control ? RecentSchema.control : 0) | (message.row.lost ? RecentSchema.lost : 0))
            values.add(message.row.targetSeq)
            values.add(message.row.message)
        }
    }

    private static func writeDedup(
        _ messages: [CommitPlan.Message], _ connection: MySQLConnection
    ) throws(MySQLError) {
        try insert(
            "INSERT INTO dedup(bucket, dkey, conv, seq, time, changed) VALUES ", 6, messages,
            suffix: " ON DUPLICATE KEY UPDATE seq = seq", connection
        ) { message, values in
            values.add(message.bucket)
            values.add(message.row.dedupKey)
            values.add(message.conversation)
            values.add(message.row.seq)
            values.add(message.row.timeMs)
            values.add(message.changed)
        }
    }

    private static func writeHeads(_ moves: [CommitPlan.Move], _ connection: MySQLConnection) throws(MySQLError) {
        var heads: [(bucket: UInt32, name: Name, place: ConversationPlace)] = []
        for move in moves { heads += move.heads.map { (move.commit.bucket, $0.name, $0.place) } }
        heads.sort { $0.place.no < $1.place.no }
        let columns = ["seq", "n", "time", "changed", "first_sender", "first_seq", "second_sender", "second_seq"]
        let all = columns + ["others_seq", "recall_seq"]
        let update = all.map { "\($0) = VALUES(\($0))" }.joined(separator: ", ")
        try insert(
            "INSERT INTO conversations(no, bucket, app, name, \(all.joined(separator: ", "))) VALUES ", 14, heads,
            suffix: " ON DUPLICATE KEY UPDATE \(update)", connection
        ) { head, values in
            values.add(head.place.no)
            values.add(head.bucket)
            values.add(head.name.app)
            values.add(head.name.conversation)
            values.add(head.place.seq)
            values.add(head.place.n)
            values.add(head.place.time)
            values.add(head.place.changed)
            values.add(head.place.firstSender)
            values.add(head.place.firstSeq)
            values.add(head.place.secondSender)
            values.add(head.place.secondSeq)
            values.add(head.place.othersSeq)
            values.add(head.place.recallSeq)
        }
    }

    private static func writeTargets(
        _ messages: [CommitPlan.Message], _ connection: MySQLConnection
    ) throws(MySQLError) {
        try insert(
            "INSERT INTO targets(conv, target, seq, recall) VALUES ", 4, messages,
            suffix: " ON DUPLICATE KEY UPDATE recall = VALUES(recall)", connection
        ) { message, values in
            values.add(message.conversation)
            values.add(message.row.targetSeq)
            values.add(message.row.seq)
            values.add(message.isRecall)
        }
    }

    private static func writeDead(_ moves: [CommitPlan.Move], _ connection: MySQLConnection) throws(MySQLError) {
        for move in moves {
            for (place, bytes) in move.commit.dead.enumerated() {
                var values = MySQLValues(UInt64(move.commit.bucket), move.commit.newOffset, UInt64(place))
                values.add(bytes)
                try connection.execute(
                    "INSERT INTO dead_letters(bucket, stored, place, bytes) VALUES(?, ?, ?, ?)", values)
            }
        }
    }

    // MARK: after the transaction

    private func finish(_ plan: CommitPlan, _ results: inout [BucketCommitResult]) {
        for move in plan.moves {
            if var known = held.removeValue(forKey: move.commit.bucket) {
                known.stored = move.commit.newOffset
                known.changed = move.changed
                known.conversations = move.conversations
                for head in move.heads { known.heads[head.name] = head.place }
                held[move.commit.bucket] = known
            }
            Self.end(&results[move.index], .commitDone, nil)
        }
    }

    /// COMMIT was sent and not answered. The transaction holds its buckets' rows until it ends, so whoever gets one of
    /// them sees how it ended. Where that cannot be seen the claim is given up: the next one says where the bucket is.
    private func lookAgain(_ plan: CommitPlan, _ error: MySQLError, _ results: inout [BucketCommitResult]) {
        for move in plan.moves { held[move.commit.bucket] = nil }
        for move in plan.moves {
            let commit = move.commit
            let seen = session.transaction { (connection) throws(MySQLError) -> (epoch: UInt64, stored: UInt64)? in
                var found: (epoch: UInt64, stored: UInt64)?
                try connection.query(
                    "SELECT epoch, stored FROM buckets WHERE bucket = ? FOR UPDATE", MySQLValues(UInt64(commit.bucket))
                ) { row in found = (row.uint(0), row.uint(1)) }
                return found
            }
            switch seen {
            case .committed(let row?), .unknown(let row?, _):
                if row.epoch == commit.epoch, row.stored == commit.newOffset {
                    Self.end(&results[move.index], .commitDone, nil)
                } else if row.epoch == commit.epoch, row.stored == commit.oldOffset {
                    Self.end(&results[move.index], .commitUnavailable, error.failure)
                } else {
                    Self.end(&results[move.index], .commitConflict, error.failure)
                }
            case .committed, .unknown, .undone: Self.end(&results[move.index], .commitConflict, error.failure)
            }
        }
    }

    // MARK: many rows

    /// Bytes of one statement, well below what servers take (max_allowed_packet).
    private static var statementBytes: Int { 4 << 20 }

    /// Inserts the items, so many a statement that each statement is one of few and none is too large.
    static func insert<Item>(
        _ head: String, _ columns: Int, _ items: [Item], suffix: String = "", bytes: (Item) -> Int = { _ in 0 },
        _ connection: MySQLConnection, _ fill: (Item, inout MySQLValues) -> Void
    ) throws(MySQLError) {
        var values = MySQLValues()
        var next = 0
        while next < items.count {
            var fitting = 0
            var size = 0
            for item in items[next...].prefix(Chunks.largest) {
                size += bytes(item)
                if size > statementBytes, fitting > 0 { break }
                fitting += 1
            }
            let count = Chunks.size(for: fitting)
            values.removeAll()
            for item in items[next..<next + count] { fill(item, &values) }
            try connection.execute(head + Chunks.tuples(columns, count) + suffix, values)
            next += count
        }
    }
}
