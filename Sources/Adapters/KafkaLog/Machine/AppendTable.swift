import RPC
import Wire

/// Appends that wait for their delivery reports. Records have consecutive numbers, so a report finds its place without
/// a dictionary.
struct AppendTable: Sendable {
    fileprivate struct Call: Sendable {
        let id: CallID
        var results: [LogAppendResult]
        var waiting: Int
        var traces: [(place: Int, id: String)] = []
    }

    private struct Slot: Sendable {
        let call: UInt64
        let place: Int
        let partition: UInt32
        let bytes: Int
        var isOpen = true
    }

    private var calls: [UInt64: Call] = [:]
    private var nextCall: UInt64 = 0
    private var slots: [Slot] = []
    /// Number of `slots[0]`, and how many at the front are over.
    private var first: UInt64 = 0
    private var over = 0
    private(set) var records = 0
    private(set) var bytes = 0

    var isEmpty: Bool { calls.isEmpty }
    var nextSlot: UInt64 { first + UInt64(slots.count) }

    /// A call is over: its answer and the traces of what is in the log.
    struct Answer {
        let id: CallID
        let results: [LogAppendResult]
        let traces: [String]
    }

    /// Takes a call. `verdicts` are per entry: why it is refused, or nil when it goes to the log. The numbers of those
    /// that go are consecutive from `nextSlot` on. The answer comes at once when nothing goes.
    mutating func add(_ id: CallID, _ entries: [LogEntry], _ verdicts: [Failure?]) -> Answer? {
        var call = Call(id: id, results: Array(repeating: LogAppendResult(), count: entries.count), waiting: 0)
        for (place, verdict) in verdicts.enumerated() {
            if let verdict {
                call.results[place].failure = verdict
                continue
            }
            let size = entries[place].record.count
            slots.append(Slot(call: nextCall, place: place, partition: entries[place].partition, bytes: size))
            call.waiting += 1
            records += 1
            bytes += size
            if !entries[place].traceID.isEmpty { call.traces.append((place, entries[place].traceID)) }
        }
        if call.waiting == 0 { return Answer(id: id, results: call.results, traces: []) }
        calls[nextCall] = call
        nextCall += 1
        return nil
    }

    /// Where a record that waits for its report goes.
    func partition(of slot: UInt64) -> UInt32? {
        guard slot >= first, slot - first < UInt64(slots.count) else { return nil }
        let found = slots[Int(slot - first)]
        return found.isOpen ? found.partition : nil
    }

    /// Notes what became of a record; the answer when it was the last of its call. A second report of the same record
    /// is nothing.
    mutating func settle(_ report: KafkaReport) -> Answer? {
        guard report.slot >= first, report.slot - first < UInt64(slots.count) else { return nil }
        let index = Int(report.slot - first)
        guard slots[index].isOpen else { return nil }
        let slot = slots[index]
        slots[index].isOpen = false
        records -= 1
        bytes -= slot.bytes
        shrink()
        calls[slot.call]?.note(report.fate, at: slot.place)
        guard let call = calls[slot.call], call.waiting == 0 else { return nil }
        calls[slot.call] = nil
        let traces = call.traces.filter { !call.results[$0.place].hasFailure && !call.results[$0.place].unknown }
        return Answer(id: call.id, results: call.results, traces: traces.map(\.id))
    }

    private mutating func shrink() {
        while over < slots.count, !slots[over].isOpen { over += 1 }
        guard over > 1024, over * 2 > slots.count else {
            if over == slots.count {
                first += UInt64(over)
                slots.removeAll(keepingCapacity: true)
                over = 0
            }
            return
        }
        slots.removeFirst(over)
        first += UInt64(over)
        over = 0
    }
}

extension AppendTable.Call {
    fileprivate mutating func note(_ fate: KafkaReport.Fate, at place: Int) {
        waiting -= 1
        switch fate {
        case .stored(let offset): results[place].offset = offset
        case .refused(let failure): results[place].failure = failure
        case .unknown(let failure):
            results[place].unknown = true
            results[place].failure = failure
        }
    }
}
