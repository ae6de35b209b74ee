import Machinery
import Wire

/// Gathers deliveries into plans: per partition, one batch per Login, one delivery per record.
struct Planner {
    private struct Draft {
        var batches: [WorkerBatch] = []
        var keys: [[RecordKey]] = []
        var byLogin: [String: Int] = [:]
        var deliveries = 0
    }

    private let limit: Int
    private var drafts: SlotTable<UInt32, Draft> = [:]
    private var full: [(partition: UInt32, batches: [WorkerBatch], keys: [[RecordKey]])] = []

    /// - Parameter limit: deliveries in one plan.
    init(limit: Int) { self.limit = max(1, limit) }

    /// Adds one registration of one record; true when that opened a new delivery. Records come one after the other.
    mutating func add(_ key: RecordKey, _ record: PushRecord, _ registration: Registration) -> Bool {
        let partition = key.partition
        let at = batch(partition, registration.loginID, key)
        let opened = drafts[partition]?.keys[at].last != key
        if opened {
            var delivery = Delivery()
            delivery.message = record.message
            delivery.clientMsgID = record.clientMsgID
            delivery.traceID = record.traceID
            drafts[partition]?.batches[at].deliveries.append(delivery)
            drafts[partition]?.keys[at].append(key)
            drafts[partition]?.deliveries += 1
        }
        var session = SessionRef()
        session.sessionID = registration.sessionID
        session.epoch = registration.epoch
        session.appID = registration.appID
        session.userID = registration.userID
        let last = (drafts[partition]?.batches[at].deliveries.count ?? 1) - 1
        if !record.senderSession.isEmpty, registration.sessionID == record.senderSession {
            drafts[partition]?.batches[at].deliveries[last].senders.append(session)
        } else {
            drafts[partition]?.batches[at].deliveries[last].targets.append(session)
        }
        return opened
    }

    /// Index of the Login's batch. A full draft is put aside between two records, never within one.
    private mutating func batch(_ partition: UInt32, _ login: String, _ key: RecordKey) -> Int {
        // Field by field, because a copy of the draft would make the next append copy its arrays.
        let begun = drafts[partition]?.keys.contains { $0.last == key } ?? false
        let isFull = (drafts[partition]?.deliveries ?? 0) >= limit
        if begun || !isFull, let at = drafts[partition]?.byLogin[login] { return at }
        if !begun, isFull, let draft = drafts.removeValue(forKey: partition) {
            full.append((partition, draft.batches, draft.keys))
        }
        var fresh = WorkerBatch()
        fresh.partition = partition
        fresh.loginID = login
        let at = drafts[partition]?.batches.count ?? 0
        drafts.add(partition, Draft())
        drafts[partition]?.batches.append(fresh)
        drafts[partition]?.keys.append([])
        drafts[partition]?.byLogin[login] = at
        return at
    }

    /// Everything gathered: put-aside plans first, then partition by partition.
    mutating func take() -> [(partition: UInt32, batches: [WorkerBatch], keys: [[RecordKey]])] {
        var plans = full
        for partition in drafts.keys.sorted() {
            guard let draft = drafts[partition], draft.deliveries > 0 else { continue }
            plans.append((partition, draft.batches, draft.keys))
        }
        drafts = [:]
        full = []
        return plans
    }
}
