import Identity
import Machinery
import RPC
import Wire

/// Items for one callee, in order, one call under way at a time: what gathers meanwhile is the next call. Never
/// longer than what the buckets hold, for fetching stops at that limit.
struct Outbox<Item: Sendable>: Sendable {
    /// The items that one unit has for this callee.
    struct Task: Sendable {
        let unit: UInt64
        var items: [Item]
        let bytes: Int
    }

    private var queue: [Task] = []
    private(set) var sent: [Task] = []
    private var backoff: Backoff
    private let limit: Int
    private let byteLimit: Int
    /// A retry timer is running.
    var waiting = false

    init(config: MsgWriterConfig) {
        self.limit = config.itemsPerCall
        self.byteLimit = config.bytesPerCall
        self.backoff = Backoff(firstMS: config.retryFirstMS, mostMS: config.retryMostMS)
    }

    mutating func add(_ unit: UInt64, _ items: [Item], bytes: Int) {
        queue.append(Task(unit: unit, items: items, bytes: bytes))
    }

    /// What the next call carries; empty when there is none to make. Units that nobody waits for any more are left
    /// out.
    mutating func take(isWanted: (UInt64) -> Bool) -> [Item] {
        guard sent.isEmpty, !waiting, !queue.isEmpty else { return [] }
        var items: [Item] = []
        var taken = 0
        var bytes = 0
        for task in queue {
            if !items.isEmpty, items.count + task.items.count > limit || bytes + task.bytes > byteLimit { break }
            taken += 1
            guard isWanted(task.unit) else { continue }
            if items.isEmpty { items = task.items } else { items += task.items }
            bytes += task.bytes
            sent.append(task)
        }
        queue.removeFirst(taken)
        return items
    }

    /// The call is over. `failed` says which of its items have to be tried again. Returns the units that have nothing
    /// left here, and how long to wait before the next call, if any failed.
    mutating func settle(failed: [Bool]?, random: inout SeededRandom) -> (units: [UInt64], waitMS: UInt64?) {
        var units: [UInt64] = []
        var again: [Task] = []
        var position = 0
        for task in sent {
            var task = task
            let range = position..<(position + task.items.count)
            position = range.upperBound
            if let failed { task.items = zip(task.items, failed[range]).filter(\.1).map(\.0) }
            if task.items.isEmpty { units.append(task.unit) } else { again.append(task) }
        }
        sent = []
        guard !again.isEmpty else {
            backoff.reset()
            return (units, nil)
        }
        queue.insert(contentsOf: again, at: 0)
        waiting = true
        return (units, backoff.nextMS(using: &random))
    }

    var sentItems: Int { sent.reduce(0) { $0 + $1.items.count } }
}

extension MsgWriterMachine {
    /// Queues what follows a commit, as one unit.
    mutating func enqueue(_ part: RoundPart, _ rows: [PassOn]) {
        let unit = nextUnit
        nextUnit += 1
        var remaining = 0
        let stored = rows.filter { $0.reason == .stored }.map(\.row)
        if !stored.isEmpty {
            hot.add(unit, stored, bytes: part.bytes)
            remaining += 1
        }
        let entries = indexEntries(rows)
        for (slot, entries) in entries.reads.enumerated() where !entries.isEmpty {
            index[slot].add(unit, entries, bytes: 0)
            remaining += 1
        }
        let waits = entries.births.filter { !$0.isEmpty }.count
        for (slot, entries) in entries.births.enumerated() where !entries.isEmpty {
            births[slot].add(unit, entries, bytes: 0)
            remaining += 1
        }
        if !rows.isEmpty {
            let items = rows.map { PushItem($0, partition: part.bucket) }
            remaining += 1
            if waits > 0 || buckets[part.bucket]?.held.isEmpty == false {
                buckets[part.bucket]?.held.append(HeldPush(unit: unit, items: items, bytes: part.bytes, waits: waits))
            } else {
                push.add(unit, items, bytes: part.bytes)
            }
        }
        buckets[part.bucket]?.units.append(
            Unit(
                id: unit, offset: part.newOffset, remaining: remaining, records: part.entries.count, bytes: part.bytes))
        unitBucket[unit] = part.bucket
        if remaining == 0 { advance(part.bucket) }
    }

    /// One entry per user and conversation and slot: members at the first message, the sender's read seq at each.
    private func indexEntries(_ rows: [PassOn]) -> IndexSlots {
        var slots = IndexSlots(count: index.count)
        var places: [IndexPlace: (isBirth: Bool, index: Int)] = [:]
        for item in rows where item.reason == .stored {
            for member in item.members where item.row.seq == 1 || member == item.row.sender {
                let slot = Int(StableHash.of(item.row.appID, member) % config.userSlots)
                let name = IndexPlace(app: item.row.appID, user: member, conversation: item.row.conversation)
                let isBirth = places[name]?.isBirth ?? (item.row.seq == 1)
                let kind = isBirth ? \IndexSlots.births : \IndexSlots.reads
                if places[name] == nil {
                    places[name] = (isBirth, slots[keyPath: kind][slot].count)
                    var entry = IndexEntry()
                    entry.appID = item.row.appID
                    entry.userID = member
                    entry.conversation = item.row.conversation
                    entry.joinedSeq = 1
                    entry.peer = ConversationName(item.row.conversation)?.peer(of: member) ?? ""
                    slots[keyPath: kind][slot].append(entry)
                }
                guard member == item.row.sender, let place = places[name]?.index else { continue }
                // The greatest, not the last: in a replay a resend's row comes after younger ones.
                let known = slots[keyPath: kind][slot][place].readSeq
                slots[keyPath: kind][slot][place].readSeq = max(known, item.row.seq)
            }
        }
        return slots
    }

    private struct IndexSlots {
        /// Of conversations that begin here.
        var births: [[IndexEntry]]
        var reads: [[IndexEntry]]

        init(count: Int) {
            births = Array(repeating: [], count: count)
            reads = births
        }
    }

    private struct IndexPlace: Hashable {
        let app: String
        let user: String
        let conversation: String
    }

    /// Sends whatever the outboxes may send.
    mutating func passOn() -> [Action] {
        var actions: [Action] = []
        let wanted = unitBucket
        let rows = hot.take { wanted[$0] != nil }
        if !rows.isEmpty {
            var body = HotPut()
            body.rows = rows
            body.fences = hotFences()
            actions.append(ask(.any(.hotStore), .hotPut(body), .hot))
        }
        let items = push.take { wanted[$0] != nil }
        if !items.isEmpty {
            var body = PushMessages()
            body.items = items
            actions.append(ask(.any(.pushProxy), .pushMessages(body), .push))
        }
        for slot in index.indices {
            let entries = index[slot].take { wanted[$0] != nil }
            guard !entries.isEmpty else { continue }
            var body = IndexTouch()
            body.entries = entries
            actions.append(ask(.keyed(.user, UInt64(slot)), .indexTouch(body), .index(slot: slot)))
        }
        for slot in births.indices {
            let entries = births[slot].take { wanted[$0] != nil }
            guard !entries.isEmpty else { continue }
            var body = IndexTouch()
            body.entries = entries
            actions.append(ask(.keyed(.user, UInt64(slot)), .indexTouch(body), .birth(slot: slot)))
        }
        return actions
    }

    /// The claims under which the rows of the call were stored. A unit does not outlive its bucket's claim, so the
    /// claim of now is the one of then.
    private func hotFences() -> [HotFence] {
        var fences: [HotFence] = []
        for task in hot.sent {
            guard let number = unitBucket[task.unit], let epoch = buckets[number]?.epoch else { continue }
            if fences.last?.bucket != number {
                var fence = HotFence()
                fence.bucket = number
                fence.epoch = epoch
                fences.append(fence)
            }
            fences[fences.count - 1].rows += UInt32(task.items.count)
        }
        return fences
    }

    /// A unit's entries of one slot are in the index: pushes that nothing holds up any more may go.
    private mutating func born(_ unit: UInt64) {
        guard let number = unitBucket[unit], let place = buckets[number]?.held.firstIndex(where: { $0.unit == unit })
        else { return }
        buckets[number]?.held[place].waits -= 1
        while let first = buckets[number]?.held.first, first.waits == 0 {
            push.add(first.unit, first.items, bytes: first.bytes)
            buckets[number]?.held.removeFirst()
        }
    }

    mutating func settle<Item: Sendable>(
        _ outbox: WritableKeyPath<Self, Outbox<Item>>, _ result: CallResult, timer: UInt64, isBirth: Bool = false
    ) -> [Action] {
        var failed: [Bool]?
        if case .answered(.done(let done)) = result {
            let count = self[keyPath: outbox].sentItems
            if done.failures.isEmpty { failed = Array(repeating: false, count: count) }
            if done.failures.count == count { failed = done.failures.map { $0.code != 0 } }
        }
        var jitter = random
        let settled = self[keyPath: outbox].settle(failed: failed, random: &jitter)
        random = jitter
        for unit in settled.units {
            if isBirth { born(unit) }
            confirm(unit)
        }
        return settled.waitMS.map { [.timer(timer, afterMS: UInt32($0))] } ?? []
    }
}

extension PushItem {
    init(_ item: PassOn, partition: UInt32) {
        var message = PushedMessage()
        message.conversation = item.row.conversation
        message.seq = item.row.seq
        message.n = item.row.n
        message.timeMs = item.row.timeMs
        message.message = item.row.message
        var record = PushRecord()
        record.appID = item.row.appID
        record.message = message
        record.sender = item.row.sender
        record.senderSession = item.session
        record.clientMsgID = item.clientMsgID
        record.members = item.members
        record.traceID = item.traceID
        self.init()
        self.partition = partition
        self.record = record
    }
}
