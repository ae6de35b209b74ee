import Machinery
import RPC
import Wire

/// This writer's place in the group.
struct Membership {
    /// 0 before the first answer.
    var generation: UInt64 = 0
    var incarnation: UInt64 = 0
    var partitions: UInt32 = 0
    /// Number of the last fetch sent.
    var fetches: UInt64 = 0
    var inFlight = false
    /// A retry timer is running.
    var waiting = false
    var keepaliveArmed = false
    var keepaliveDue = false
    /// It has left the group, because its process ends: nothing is fetched any more.
    var hasLeft = false
    var backoff: Backoff

    init(config: MsgWriterConfig) {
        self.backoff = Backoff(firstMS: config.retryFirstMS, mostMS: config.retryMostMS)
    }
}

extension MsgWriterMachine {
    /// Asks for more, unless too much is held already. One fetch at a time.
    mutating func fetch() -> [Action] {
        guard !membership.inFlight, !membership.waiting, !membership.hasLeft else { return [] }
        var body = LogFetch()
        body.positions = wanted()
        let recheck = assigned.contains { number in
            guard case .unclaimed(let after) = buckets[number]?.phase else { return false }
            return after > membership.fetches
        }
        guard !body.positions.isEmpty || recheck || membership.keepaliveDue || membership.generation == 0 else {
            if membership.keepaliveArmed { return [] }
            membership.keepaliveArmed = true
            return [.timer(Alarm.keepalive, afterMS: config.keepaliveMS)]
        }
        membership.fetches += 1
        membership.inFlight = true
        membership.keepaliveDue = false
        body.log = config.log
        body.group = config.group
        body.member = config.instance
        body.generation = membership.generation
        body.maxBytes = config.fetchBytes
        body.waitMs = waitMS(fetching: body.positions.count, recheck: recheck)
        var positions: [UInt32: UInt64] = [:]
        for position in body.positions { positions[position.partition] = position.offset }
        let timeout = body.waitMs + config.timeoutMS
        return [
            ask(
                .any(.messageLog), .logFetch(body), .fetch(number: membership.fetches, positions: positions),
                timeoutMS: timeout)
        ]
    }

    /// Leaves the group, so that others need not wait until its silence has lasted. What is under way ends as it may:
    /// whoever claims the buckets next goes on where they are.
    mutating func leave(_ id: CallID) -> [Action] {
        membership.hasLeft = true
        var body = LogLeave()
        body.log = config.log
        body.group = config.group
        body.member = config.instance
        return [ask(.any(.messageLog), .logLeave(body), .leave(id))]
    }

    func left(_ id: CallID, _ result: CallResult) -> Action {
        switch result {
        case .answered: .reply(id, .done(Done()))
        case .refused(let failure), .unknown(let failure): .refuse(id, failure)
        }
    }

    private func wanted() -> [LogPosition] {
        guard heldRecords < config.heldRecords, heldBytes < config.heldBytes else { return [] }
        return assigned.compactMap { number in
            guard buckets[number]?.phase == .ready, let held = buckets[number]?.heldRecords, held < config.heldPerBucket
            else { return nil }
            var position = LogPosition()
            position.partition = number
            position.offset = buckets[number]?.next ?? 0
            return position
        }
    }

    private func waitMS(fetching: Int, recheck: Bool) -> UInt32 {
        if recheck || fetching == 0 { return 0 }
        let working = assigned.filter { buckets[$0]?.phase != .stopped }.count
        return fetching == working ? config.fetchWaitMS : config.shortFetchWaitMS
    }

    mutating func fetched(_ number: UInt64, _ positions: [UInt32: UInt64], _ result: CallResult) -> [Action] {
        membership.inFlight = false
        guard case .answered(.logFetched(let body)) = result else {
            for bucket in assigned where buckets[bucket]?.phase == .unclaimed(afterFetch: number) {
                buckets[bucket]?.phase = .unclaimed(afterFetch: number + 1)
            }
            membership.waiting = true
            return [.timer(Alarm.fetch, afterMS: UInt32(membership.backoff.nextMS(using: &random)))]
        }
        membership.backoff.reset()
        if body.generation != membership.generation { return reassign(body) }
        var actions: [Action] = []
        if body.incarnation != membership.incarnation {
            for number in assigned { actions += stop(number, "another log incarnation: \(body.incarnation)") }
            return actions
        }
        for end in body.ends { buckets[end.partition]?.end = end.offset }
        for number in assigned {
            guard let bucket = buckets[number], bucket.phase == .ready, let end = bucket.end else { continue }
            if end < bucket.next { actions += stop(number, "the log ends at \(end), before \(bucket.next)") }
        }
        return actions + take(body.entries, positions)
    }

    /// Puts entries into inboxes. Those of a bucket whose position changed since the fetch was sent are not wanted.
    private mutating func take(_ entries: [LogEntry], _ positions: [UInt32: UInt64]) -> [Action] {
        var actions: [Action] = []
        var wanted: Set<UInt32> = []
        for number in assigned where positions[number] != nil && positions[number] == buckets[number]?.next {
            wanted.insert(number)
        }
        var first = 0
        while first < entries.count {
            let number = entries[first].partition
            let end = entries[first...].firstIndex { $0.partition != number } ?? entries.count
            defer { first = end }
            guard wanted.contains(number), let taken = buckets[number]?.take(entries[first..<end]) else { continue }
            heldRecords += taken.records
            heldBytes += taken.bytes
            if let skipped = taken.skippedTo {
                let from = buckets[number]?.next ?? 0
                actions += stop(number, "the log skips from \(from) to \(skipped)")
            }
        }
        return actions
    }

    /// A new generation: what stays keeps its claim and its work, what is new has to be claimed. After a generation
    /// that this member missed nothing is known to have stayed.
    private mutating func reassign(_ body: LogFetched) -> [Action] {
        let followed = body.generation == membership.generation + 1 && body.incarnation == membership.incarnation
        membership.generation = body.generation
        membership.incarnation = body.incarnation
        membership.partitions = body.partitions
        var kept: SlotTable<UInt32, Bucket> = [:]
        for position in body.assigned.sorted(by: { $0.partition < $1.partition }) {
            if followed, let bucket = buckets[position.partition] {
                kept[position.partition] = bucket
                continue
            }
            var bucket = Bucket(
                number: position.partition, committed: position.offset, afterFetch: membership.fetches, config: config)
            bucket.life = newLife()
            kept[position.partition] = bucket
        }
        for number in assigned where !followed || kept[number] == nil { forget(number, phase: .stopped) }
        buckets = kept
        assigned = kept.keys.sorted()
        for end in body.ends { buckets[end.partition]?.end = end.offset }
        offsets.again(assigned.filter { buckets[$0]?.delivered != buckets[$0]?.committed })
        return []
    }
}
