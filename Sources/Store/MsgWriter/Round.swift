import Foundation
import RPC
import Wire

/// One look-up and one commit for everything that waits for a shard. While it is under way the inboxes fill for the
/// next.
struct Round {
    var parts: [RoundPart]
    /// Conversations whose heads were asked for, with the bucket they are cached in.
    var asked: [(bucket: UInt32, ref: ConversationRef)] = []
    /// The heads of all its conversations: what was cached, and what the look-up brought.
    var heads: [ConversationRef: Head] = [:]
    /// After the look-up: what each part stores and passes on.
    var built: [BuiltPart] = []
}

/// What one bucket contributes: either records that are stored already or new ones, never both.
struct RoundPart {
    let bucket: UInt32
    let life: UInt64
    let replay: Bool
    let bytes: Int
    let entries: [LogEntry]
    let parsed: [ParsedRecord]

    var newOffset: UInt64 { (entries.last?.offset ?? 0) + 1 }
}

extension MsgWriterMachine {
    /// Starts a round in every shard that has none and has something to do.
    mutating func startRounds() -> [Action] {
        var parts: [UInt32: [RoundPart]] = [:]
        var shards: [UInt32] = []
        var bytes: [UInt32: Int] = [:]
        let first = assigned.firstIndex { $0 >= nextInRound } ?? 0
        for number in assigned[first...] + assigned[..<first] {
            // Field by field: a copy of the bucket would copy all that it holds.
            guard let shard = buckets[number]?.shard, buckets[number]?.canStartRound == true, rounds[shard] == nil,
                bytes[shard, default: 0] < config.bytesPerRound
            else { continue }
            if parts[shard] == nil { shards.append(shard) }
            let part = takePart(number)
            bytes[shard, default: 0] += part.bytes
            parts[shard, default: []].append(part)
            nextInRound = number + 1
        }
        return shards.flatMap { lookUp($0, parts[$0] ?? []) }
    }

    private mutating func takePart(_ number: UInt32) -> RoundPart {
        let inbox = buckets[number]?.inbox ?? []
        let stored = buckets[number]?.stored ?? 0
        let replay = (inbox.first?.offset ?? 0) < stored
        var count = min(inbox.count, config.recordsPerRound)
        if replay { count = inbox.prefix(count).prefix { $0.offset < stored }.count }
        var bytes = 0
        for index in 0..<count {
            bytes += inbox[index].record.count
            if bytes >= config.bytesPerPart {
                count = index + 1
                break
            }
        }
        let entries = count == inbox.count ? inbox : Array(inbox.prefix(count))
        if count == inbox.count { buckets[number]?.inbox = [] } else { buckets[number]?.inbox.removeFirst(count) }
        buckets[number]?.inRound = true
        let parsed = entries.map { ParsedRecord($0, partitions: membership.partitions) }
        return RoundPart(
            bucket: number, life: buckets[number]?.life ?? 0, replay: replay, bytes: bytes, entries: entries,
            parsed: parsed)
    }

    private mutating func lookUp(_ shard: UInt32, _ parts: [RoundPart]) -> [Action] {
        var round = Round(parts: parts)
        var body = WriterLookup()
        var seen: Set<ConversationRef> = []
        for part in parts {
            for record in part.parsed {
                guard let key = record.dedupKey else { continue }
                var question = DedupKey()
                question.bucket = part.bucket
                question.appID = record.record.appID
                question.conversation = record.record.conversation
                question.key = key
                body.keys.append(question)
                let ref = record.ref
                guard !part.replay, seen.insert(ref).inserted else { continue }
                if let head = buckets[part.bucket]?.heads[ref] {
                    round.heads[ref] = head
                    continue
                }
                var conversation = ConversationKey()
                conversation.bucket = part.bucket
                conversation.appID = ref.app
                conversation.conversation = ref.conversation
                body.conversations.append(conversation)
                round.asked.append((part.bucket, ref))
            }
        }
        if body.keys.isEmpty {
            rounds[shard] = round
            return store(shard, hits: [])
        }
        rounds[shard] = round
        return [ask(.any(.recentStore), .writerLookup(body), .lookup(shard: shard))]
    }

    mutating func found(_ shard: UInt32, _ result: CallResult) -> [Action] {
        guard var round = rounds[shard] else { return [] }
        let keys = round.parts.reduce(0) { $0 + $1.parsed.filter { $0.dedupKey != nil }.count }
        guard case .answered(.writerFound(let body)) = result, !body.hasFailure, body.hits.count == keys,
            body.heads.count == round.asked.count
        else {
            rounds[shard] = nil
            return round.parts.flatMap { takeBack($0) }
        }
        for (asked, head) in zip(round.asked, body.heads) { round.heads[asked.ref] = head }
        rounds[shard] = round
        return store(shard, hits: body.hits)
    }

    /// Gives the records their places and commits them. What a bucket only replays needs no commit.
    private mutating func store(_ shard: UInt32, hits: [StoredRow]) -> [Action] {
        guard var round = rounds[shard] else { return [] }
        var body = StoreCommit()
        var rest = hits[...]
        var actions: [Action] = []
        for part in round.parts {
            let mine = rest.prefix(part.parsed.filter { $0.dedupKey != nil }.count)
            rest = rest.dropFirst(mine.count)
            guard let epoch = buckets[part.bucket]?.epoch, buckets[part.bucket]?.life == part.life else {
                round.built.append(BuiltPart())
                continue
            }
            var builder = RowBuilder(heads: round.heads)
            if part.replay {
                round.built.append(builder.replay(part, Array(mine)))
                continue
            }
            let built = builder.build(part, Array(mine), fault: &fault)
            round.built.append(built)
            var commit = BucketCommit()
            commit.bucket = part.bucket
            commit.epoch = epoch
            commit.oldOffset = buckets[part.bucket]?.stored ?? 0
            commit.newOffset = part.newOffset
            commit.rows = built.rows
            commit.dead = built.dead
            body.buckets.append(commit)
        }
        for index in round.parts.indices where round.parts[index].replay {
            actions += accept(round.parts[index], round.built[index])
        }
        rounds[shard] = round
        if body.buckets.isEmpty {
            rounds[shard] = nil
            return actions
        }
        return actions + [ask(.any(.recentStore), .storeCommit(body), .commit(shard: shard))]
    }

    mutating func committed(_ shard: UInt32, _ result: CallResult) -> [Action] {
        guard let round = rounds.removeValue(forKey: shard) else { return [] }
        var states: [UInt32: CommitState] = [:]
        if case .answered(.storeCommitted(let body)) = result {
            for result in body.results { states[result.bucket] = result.state }
        }
        var actions: [Action] = []
        for (part, built) in zip(round.parts, round.built) where !part.replay {
            guard buckets[part.bucket]?.life == part.life else { continue }
            switch states[part.bucket] {
            case .commitDone: actions += accept(part, built)
            case .commitConflict: actions += conflict(part.bucket)
            // Perhaps it was carried out all the same. Then the compare-and-set of the next try finds another offset,
            // and the new claim says where the bucket really is.
            case .commitUnavailable, .UNRECOGNIZED, nil: actions += takeBack(part)
            }
        }
        return actions
    }

    /// The part's records are stored: on to the other tiers.
    private mutating func accept(_ part: RoundPart, _ built: BuiltPart) -> [Action] {
        guard buckets[part.bucket]?.life == part.life else { return [] }
        buckets[part.bucket]?.inRound = false
        buckets[part.bucket]?.backoff.reset()
        if !part.replay {
            buckets[part.bucket]?.stored = part.newOffset
            for (ref, head) in built.heads { buckets[part.bucket]?.heads[ref] = head }
        }
        enqueue(part, built.passOn)
        var actions: [Action] = []
        for item in built.passOn where !item.traceID.isEmpty { actions.append(.trace(item.traceID, hop: "msgwriter")) }
        if !built.dead.isEmpty {
            let values = ["bucket": "\(part.bucket)", "records": "\(built.dead.count)", "why": built.why]
            actions.append(.warn("records could not be stored and went to the dead letters", values))
        }
        if built.rowless > 0 {
            let values = ["bucket": "\(part.bucket)", "records": "\(built.rowless)"]
            actions.append(.warn("stored records have no rows any more", values))
        }
        return actions
    }

    /// The part's records wait in front of the inbox for another try.
    private mutating func takeBack(_ part: RoundPart) -> [Action] {
        guard buckets[part.bucket]?.life == part.life else { return [] }
        buckets[part.bucket]?.inRound = false
        buckets[part.bucket]?.inbox.insert(contentsOf: part.entries, at: 0)
        buckets[part.bucket]?.heads.removeAll()
        return holdBack(part.bucket)
    }
}
