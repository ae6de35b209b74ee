import Machinery
import Wire

/// Gathers deliveries into plans: per partition, one batch per Login, one delivery per record.
struct Planner {
    private struct Draft {
        var batches: [WorkerBatch] = []
        var keys: [[RecordKey]] = []
        var byLogin: [String: Int] = [:]
        var deliveries = 0

        /// Adds a registration to the record's delivery in the batch; true when that opened a new one.
        mutating func add(_ key: RecordKey, _ record: PushRecord, _ registration: Registration, at batch: Int) -> Bool {
            let opened = keys[batch].last != key
            if opened {
                var delivery = Delivery()
                delivery.message = record.message
                delivery.clientMsgID = record.clientMsgID
                delivery.traceID = record.traceID
                batches[batch].deliveries.append(delivery)
                keys[batch].append(key)
                deliveries += 1
            }
            var session = SessionRef()
            session.sessionID = registration.sessionID
            session.epoch = registration.epoch
            session.appID = registration.appID
            session.userID = registration.userID
            let last = batches[batch].deliveries.count - 1
            if !record.senderSession.isEmpty, registration.sessionID == record.senderSession {
                batches[batch].deliveries[last].senders.append(session)
            } else {
                batches[batch].deliveries[last].targets.append(session)
            }
            return opened
        }
    }

    private let limit: Int
    private var drafts: SlotTable<UInt32, Draft> = [:]
    private var full: [(partition: UInt32, batches: [WorkerBatch], keys: [[RecordKey]])] = []

    /// - Parameter limit: deliveries in one plan.
    init(limit: Int) { self.limit = max(1, limit) }

    /// Adds one registration of one record; true when that opened a new delivery. Records come one after the other.
    mutating func add(_ key: RecordKey, _ record: PushRecord, _ registration: Registration) -> Bool {
        let at = batch(key.partition, registration.loginID, key)
        return drafts.change(key.partition) { $0.add(key, record, registration, at: at) } ?? false
    }

    /// Index of the Login's batch. A full draft is put aside between two records, never within one.
    private mutating func batch(_ partition: UInt32, _ login: String, _ key: RecordKey) -> Int {
        let state = drafts.change(partition) { draft in
            (begun: draft.keys.contains { $0.last == key }, isFull: draft.deliveries >= limit, at: draft.byLogin[login])
        }
        if let state {
            if state.begun || !state.isFull, let at = state.at { return at }
            if !state.begun, state.isFull, let draft = drafts.removeValue(forKey: partition) {
                full.append((partition, draft.batches, draft.keys))
            }
        }
        var fresh = WorkerBatch()
        fresh.partition = partition
        fresh.loginID = login
        drafts.add(partition, Draft())
        return drafts.change(partition) { draft in
            draft.batches.append(fresh)
            draft.keys.append([])
            draft.byLogin[login] = draft.batches.count - 1
            return draft.batches.count - 1
        } ?? 0
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
