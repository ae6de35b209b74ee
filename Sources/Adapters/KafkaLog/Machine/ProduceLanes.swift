/// The way of records to their partitions. A broker refuses what comes after a hole only from a producer of which it
/// has a record in that partition (it takes any sequence number as a first one), and forgets it after a day without
/// any. So the first record of a producer in a partition, and the first after a long pause, travels alone; what comes
/// meanwhile waits for its report. Then several requests may be under way, and none can overtake one that failed.
struct ProduceLanes: Sendable {
    private enum Lane: Sendable {
        case cold
        /// This record travels alone; these wait.
        case first(slot: UInt64, waiting: [KafkaRecord])
        /// The last record was handed over at this time, in microseconds.
        case open(UInt64)
    }

    /// Far below the day after which brokers forget (producer.id.expiration.ms).
    static let idleMicros: UInt64 = 600 * 1_000_000
    private var lanes: [Lane]

    init(partitions: Int) { lanes = Array(repeating: .cold, count: partitions) }

    /// Gives the records that go now, in order.
    mutating func pass(_ records: [KafkaRecord], micros: UInt64) -> [KafkaRecord] {
        var out: [KafkaRecord] = []
        out.reserveCapacity(records.count)
        for record in records {
            let index = Int(record.partition)
            switch lanes[index] {
            case .open(let last) where micros - min(micros, last) < Self.idleMicros:
                lanes[index] = .open(micros)
                out.append(record)
            case .cold, .open:
                lanes[index] = .first(slot: record.slot, waiting: [])
                out.append(record)
            case .first(let slot, var waiting):
                // The enum must not hold a second reference while the array grows.
                lanes[index] = .cold
                waiting.append(record)
                lanes[index] = .first(slot: slot, waiting: waiting)
            }
        }
        return out
    }

    /// What a report means for those that wait behind its record: they go, or are refused with it.
    mutating func settle(
        _ report: KafkaReport, partition: UInt32, micros: UInt64
    ) -> (go: [KafkaRecord], refused: [KafkaRecord]) {
        let index = Int(partition)
        guard index < lanes.count, case .first(report.slot, let waiting) = lanes[index] else { return ([], []) }
        guard case .stored = report.fate else {
            lanes[index] = .cold
            return ([], waiting)
        }
        lanes[index] = .open(micros)
        return (waiting, [])
    }

    /// Another producer: everything is new to the brokers. Gives what waited.
    mutating func reset() -> [KafkaRecord] {
        var waited: [KafkaRecord] = []
        for index in lanes.indices {
            if case .first(_, let waiting) = lanes[index] { waited += waiting }
            lanes[index] = .cold
        }
        return waited
    }
}
