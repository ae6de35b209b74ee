import Identity
import RPC
import Wire

/// Expanding records: look-up, plan per (partition, Login), settling, repeating.
extension PushServerMachine {
    struct User: Hashable, Sendable {
        var app: String
        var id: String
    }

    struct Lookup: Sendable {
        var token: UInt64
        var records: [RecordKey]
        var users: [User: Int]
    }

    /// A plan at a worker; `keys` mirrors its batches' deliveries.
    struct Plan: Sendable {
        var batches: [WorkerBatch]
        var keys: [[RecordKey]]
        var deadlineMicros: UInt64
    }

    /// One look-up at a time: what comes meanwhile is the next batch, and the order of a partition stays.
    mutating func startLookup() -> RoleAction<Never>? {
        guard lookup == nil, !expansion.isEmpty else { return nil }
        var request = LookupRequest()
        var users: [User: Int] = [:]
        var records: [RecordKey] = []
        var taken = 0
        for key in expansion {
            guard records.count < config.lookupRecords else { break }
            taken += 1
            guard let (app, waiting, trace) = read(key, { ($0.record.appID, $0.waiting, $0.record.traceID) })
            else { continue }
            records.append(key)
            if !trace.isEmpty { request.traceIds.append(trace) }
            for member in waiting {
                let user = User(app: app, id: member)
                guard users[user] == nil else { continue }
                users[user] = request.users.count
                var wanted = UserKey()
                wanted.appID = app
                wanted.userID = member
                request.users.append(wanted)
            }
        }
        expansion.removeFirst(taken)
        guard !records.isEmpty else { return nil }
        let token = takeToken()
        lookup = Lookup(token: token, records: records, users: users)
        return .call(token, .any(.online), .lookupRequest(request), timeoutMS: config.lookupTimeoutMS)
    }

    mutating func found(_ result: CallResult, _ now: Instant) -> [RoleAction<Never>] {
        guard let lookup else { return [] }
        self.lookup = nil
        guard case .answered(.lookupResponse(let body)) = result, body.results.count == lookup.users.count else {
            for key in lookup.records {
                change(key) { $0.queued = false }
                tryLater(key, now)
            }
            return []
        }
        var actions: [RoleAction<Never>] = []
        var planner = Planner(limit: config.planDeliveries)
        for key in lookup.records {
            expand(key, lookup.users, body.results, &planner, now)
        }
        actions += send(planner.take(), now)
        for partition in Set(lookup.records.map(\.partition)) { windows[partition]?.advance() }
        return actions
    }

    private mutating func expand(
        _ key: RecordKey, _ users: [User: Int], _ results: [LookupResult], _ planner: inout Planner,
        _ now: Instant
    ) {
        guard let (record, members) = read(key, { ($0.record, $0.waiting) }) else { return }
        var unknown: [String] = []
        var open = 0
        for member in members {
            // Not in the look-up: a plan that ended meanwhile has put the member back.
            guard let at = users[User(app: record.appID, id: member)], results[at].state != .presenceUnknown else {
                unknown.append(member)
                continue
            }
            for registration in results[at].registrations {
                open += planner.add(key, record, registration) ? 1 : 0
            }
        }
        change(key) { slot in
            slot.waiting = unknown
            slot.open += open
            slot.queued = false
        }
        if !unknown.isEmpty { tryLater(key, now) }
    }

    /// Same partition, same worker, so that a lane (partition, Login) has one owner and its order holds. Partitions of
    /// one owner travel together: at low load nearly every record has a partition of its own.
    private mutating func send(
        _ drafts: [(partition: UInt32, batches: [WorkerBatch], keys: [[RecordKey]])], _ now: Instant
    ) -> [RoleAction<Never>] {
        typealias Slot = (batches: [WorkerBatch], keys: [[RecordKey]], deliveries: Int)
        var slots = [Slot](repeating: ([], [], 0), count: Int(config.workerSlots))
        var actions: [RoleAction<Never>] = []
        for draft in drafts {
            let slot = Int(draft.partition % config.workerSlots)
            let count = draft.keys.reduce(0) { $0 + $1.count }
            if !slots[slot].batches.isEmpty, slots[slot].deliveries + count > config.planDeliveries {
                actions += send(slot, slots[slot].batches, slots[slot].keys, now)
                slots[slot] = ([], [], 0)
            }
            slots[slot].batches += draft.batches
            slots[slot].keys += draft.keys
            slots[slot].deliveries += count
        }
        for (number, slot) in slots.enumerated() where !slot.batches.isEmpty {
            actions += send(number, slot.batches, slot.keys, now)
        }
        return actions
    }

    private mutating func send(
        _ slot: Int, _ batches: [WorkerBatch], _ keys: [[RecordKey]], _ now: Instant
    ) -> [RoleAction<Never>] {
        let token = takeToken()
        let limit = UInt64(config.planTimeoutMS) * 1000
        plans[token] = Plan(batches: batches, keys: keys, deadlineMicros: now.micros + limit)
        plansMade += 1
        if plansMade == config.dropOnce { return [] }
        var body = WorkerPlan()
        body.batches = batches
        let owner = Address.keyed(.pushWorker, StableHash.mix(UInt64(slot)))
        return [.call(token, owner, .workerPlan(body), timeoutMS: config.planTimeoutMS)]
    }

    /// The end of a plan. A delivery whose result has a hand for every target and sender is settled; one without is
    /// looked up afresh, like everything in a plan that failed.
    mutating func worked(_ plan: Plan, _ result: CallResult, _ now: Instant) {
        var results: [DeliverResponse] = []
        if case .answered(.workerDone(let body)) = result, body.batches.count == plan.batches.count {
            results = body.batches
        }
        var touched: Set<UInt32> = []
        for (index, batch) in plan.batches.enumerated() {
            touched.insert(batch.partition)
            let hands = index < results.count ? results[index].results : []
            // By index: a delivery holds a message, and copying it costs more than all the rest here.
            for place in batch.deliveries.indices {
                let key = plan.keys[index][place]
                let settled =
                    place < hands.count && hands[place].targets.count == batch.deliveries[place].targets.count
                    && hands[place].senders.count == batch.deliveries[place].senders.count
                change(key) { slot in slot.open = max(0, slot.open - 1) }
                guard !settled else { continue }
                let delivery = batch.deliveries[place]
                change(key) { slot in
                    for session in delivery.targets + delivery.senders where !slot.waiting.contains(session.userID) {
                        slot.waiting.append(session.userID)
                    }
                }
                tryLater(key, now)
            }
        }
        for partition in touched { windows[partition]?.advance() }
    }

    private mutating func tryLater(_ key: RecordKey, _ now: Instant) {
        let attempts = change(key) { slot -> Int? in
            guard !slot.queued, !slot.settled else { return nil }
            slot.attempts += 1
            slot.queued = true
            return slot.attempts
        }
        guard let attempts, let attempts else { return }
        let due = now.micros + delayMS(attempts: attempts) * 1000
        retries[due / (UInt64(config.tickMS) * 1000) + 1, default: []].append(key)
    }

    /// Puts due records back in line, and ends plans whose answer is overdue: the host always answers, this is for
    /// whatever is lost all the same.
    mutating func repeatDue(_ now: Instant) {
        let tick = now.micros / (UInt64(config.tickMS) * 1000)
        for due in retries.keys.filter({ $0 <= tick }).sorted() {
            expansion += retries.removeValue(forKey: due) ?? []
        }
        let grace: UInt64 = 500_000
        for token in plans.filter({ $0.value.deadlineMicros + grace <= now.micros }).keys.sorted() {
            guard let plan = plans.removeValue(forKey: token) else { continue }
            worked(plan, .unknown(Failure(.deadlineExceeded, "the plan was lost")), now)
        }
    }

    private func read<T>(_ key: RecordKey, _ look: (PartitionWindow.Slot) -> T) -> T? {
        guard let window = windows[key.partition], window.life == key.life else { return nil }
        return window.read(key.serial, look)
    }

    @discardableResult
    private mutating func change<T>(_ key: RecordKey, _ edit: (inout PartitionWindow.Slot) -> T) -> T? {
        windows.change(key.partition) { $0.life == key.life ? $0.update(key.serial, edit) : nil }
    }
}
