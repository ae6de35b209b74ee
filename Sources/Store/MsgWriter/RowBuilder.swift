import Foundation
import Identity
import Machinery
import Wire

/// A log entry, read.
struct ParsedRecord {
    let record: LogRecord
    /// Nil when there is nothing to store under.
    let dedupKey: Data?
    /// Why it cannot be stored; nil when it can.
    let failure: Failure?

    init(_ entry: LogEntry, partitions: UInt32) {
        guard let record = try? LogRecord(serializedBytes: entry.record) else {
            self.record = LogRecord()
            self.dedupKey = nil
            self.failure = Failure(.malformedRequest, "not a LogRecord")
            return
        }
        self.record = record
        switch record.verdict(partition: entry.partition, partitions: partitions) {
        case .storable(let key):
            self.dedupKey = key
            self.failure = nil
        case .placeholder(let failure):
            self.dedupKey = Data(MessageDedup.placeholderKey(record: Array(entry.record), offset: entry.offset))
            self.failure = failure
        case .dead(let failure):
            self.dedupKey = nil
            self.failure = failure
        }
    }

    var ref: ConversationRef { ConversationRef(app: record.appID, conversation: record.conversation) }
}

/// A row that goes on to the other tiers.
struct PassOn {
    enum Reason {
        /// Just stored, or stored by an earlier life that perhaps did not pass it on.
        case stored
        /// The sender sent it again: only the sender has to hear of its place.
        case resent
    }

    let row: StoredRow
    let reason: Reason
    let session: String
    let clientMsgID: Data
    let members: [String]
    let traceID: String

    init(_ row: StoredRow, _ reason: Reason, _ record: LogRecord) {
        self.row = row
        self.reason = reason
        self.session = row.lost ? "" : record.sessionID
        self.clientMsgID = row.lost ? Data() : record.clientMsgID
        self.traceID = record.traceID
        let unnamed = record.members.isEmpty || row.lost
        let members = unnamed ? ConversationName(record.conversation)?.members ?? [] : record.members
        self.members = reason == .resent ? [record.sender] : members
    }
}

/// What a part became.
struct BuiltPart {
    var rows: [StoredRow] = []
    var dead: [Data] = []
    var passOn: [PassOn] = []
    /// New heads, in the order in which the conversations first appeared.
    var heads: [(ConversationRef, Head)] = []
    /// Replayed records that should have a row and have none.
    var rowless = 0
    /// Why the first dead letter is one.
    var why = ""
}

/// Gives records their places. Pure: the heads and the records in, rows out.
struct RowBuilder {
    private let heads: [ConversationRef: Head]
    private var fresh: [ConversationRef: Int] = [:]
    private var byKey: [Data: [Int]] = [:]
    private var built = BuiltPart()

    /// - Parameter heads: the stored head of every conversation in the part; one without rows is all zero.
    init(heads: [ConversationRef: Head]) { self.heads = heads }

    /// Records that are stored already: their rows are passed on once more.
    mutating func replay(_ part: RoundPart, _ hits: [StoredRow]) -> BuiltPart {
        var next = hits.makeIterator()
        for record in part.parsed where record.dedupKey != nil {
            guard let row = next.next() else { break }
            if row.seq == 0 {
                built.rowless += 1
            } else {
                built.passOn.append(PassOn(row, .stored, record.record))
            }
        }
        return built
    }

    /// New records.
    mutating func build(_ part: RoundPart, _ hits: [StoredRow], fault: inout FaultHook) -> BuiltPart {
        var next = hits.makeIterator()
        guard fault.isArmed else {
            built.rows.reserveCapacity(part.parsed.count)
            built.passOn.reserveCapacity(part.parsed.count)
            for index in part.parsed.indices {
                let hit = part.parsed[index].dedupKey == nil ? nil : next.next()
                add(part.entries[index], part.parsed[index], hit, &fault)
            }
            return built
        }
        var steps: [(entry: LogEntry, record: ParsedRecord, hit: StoredRow?)] = []
        for (entry, record) in zip(part.entries, part.parsed) {
            steps.append((entry, record, record.dedupKey == nil ? nil : next.next()))
        }
        Self.swap(&steps, &fault)
        for step in steps { add(step.entry, step.record, step.hit, &fault) }
        return built
    }

    private mutating func add(_ entry: LogEntry, _ parsed: ParsedRecord, _ hit: StoredRow?, _ fault: inout FaultHook) {
        if let failure = parsed.failure {
            built.dead.append(entry.record)
            if built.why.isEmpty { built.why = failure.message }
        }
        guard let key = parsed.dedupKey else { return }
        let earlier = byKey[key]?.first { built.rows[$0].isIn(parsed.ref) }.map { built.rows[$0] }
        if let row = hit.flatMap({ $0.seq > 0 ? $0 : nil }) ?? earlier {
            // A service has no session that waits for the place of what it sent.
            if !parsed.record.sender.isEmpty { built.passOn.append(PassOn(row, .resent, parsed.record)) }
            return
        }
        if fault.isArmed, parsed.failure == nil {
            if fault.fires(.dropOne) { return }
            if fault.fires(.doubleOne) {
                var other = key
                other[other.endIndex - 1] ^= 1
                place(parsed, key: other, counts: true)
            }
            if !parsed.record.control, fault.fires(.miscountOne) {
                place(parsed, key: key, counts: false)
                return
            }
        }
        place(parsed, key: key, counts: true)
    }

    private mutating func place(_ parsed: ParsedRecord, key: Data, counts: Bool) {
        let record = parsed.record
        let ref = parsed.ref
        guard var head = fresh[ref].map({ built.heads[$0].1 }) ?? heads[ref] else {
            preconditionFailure("a round without the head of one of its conversations")
        }
        let lost = parsed.failure != nil
        let control = lost || record.control
        head.appID = ref.app
        head.conversation = ref.conversation
        head.seq += 1
        head.n += control || !counts ? 0 : 1
        head.timeMs = max(head.timeMs, record.timeMs)
        var row = StoredRow()
        row.appID = ref.app
        row.conversation = ref.conversation
        row.seq = head.seq
        row.n = head.n
        row.timeMs = head.timeMs
        row.sender = lost ? "" : record.sender
        row.control = control
        row.targetSeq = lost ? 0 : record.targetSeq
        row.message = lost ? Self.placeholder : record.message
        row.dedupKey = key
        row.lost = lost
        if let index = fresh[ref] {
            built.heads[index].1 = head
        } else {
            fresh[ref] = built.heads.count
            built.heads.append((ref, head))
        }
        byKey[key, default: []].append(built.rows.count)
        built.rows.append(row)
        built.passOn.append(PassOn(row, .stored, record))
    }

    /// What stands where a message could not be stored: an empty control message.
    private static let placeholder: Data = {
        var message = ChatMessage()
        message.control = true
        return (try? message.serializedBytes()) ?? Data()
    }()

    /// The mistake that a test asked for: two neighbours of one device change places.
    private static func swap(
        _ steps: inout [(entry: LogEntry, record: ParsedRecord, hit: StoredRow?)], _ fault: inout FaultHook
    ) {
        var last: [String: Int] = [:]
        for index in steps.indices where steps[index].record.failure == nil && steps[index].hit?.seq == 0 {
            let record = steps[index].record.record
            let lane = "\(record.appID) \(record.conversation) \(record.sender) \(record.device)"
            if let earlier = last[lane], fault.fires(.swapTwo) {
                steps.swapAt(earlier, index)
                return
            }
            last[lane] = index
        }
    }
}

extension StoredRow {
    func isIn(_ ref: ConversationRef) -> Bool { appID == ref.app && conversation == ref.conversation }
}
