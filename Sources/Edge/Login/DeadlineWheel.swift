/// All the deadlines of a machine behind one timer (Varghese and Lauck, 1987, scheme 4): an entry costs its bytes in a
/// slot and nothing else. Entries are never removed; whoever gets one back looks whether it is still due.
struct DeadlineWheel: Sendable {
    enum Kind: Sendable {
        /// Handshake and heartbeat.
        case life
        /// The end of a token that ends soon.
        case token
        /// Repeats, acknowledgements and unread bytes.
        case push
        /// A finished connection's last second.
        case linger
    }

    struct Entry: Sendable {
        let connection: ConnectionID
        let kind: Kind
    }

    static let slotMicros: UInt64 = 100_000
    private static let slotCount = 1024
    private var slots = [[Entry]](repeating: [], count: slotCount)
    /// The slot that was emptied last, counted from the beginning of time.
    private var last: UInt64

    init(nowMicros: UInt64) { last = nowMicros / Self.slotMicros }

    /// Comes back at the first turn at or after the moment; earlier when that is further away than the wheel is long.
    mutating func add(_ entry: Entry, atMicros: UInt64) {
        let wanted = (atMicros + Self.slotMicros - 1) / Self.slotMicros
        let slot = min(max(wanted, last + 1), last + UInt64(Self.slotCount) - 1)
        slots[Int(slot % UInt64(Self.slotCount))].append(entry)
    }

    /// What has become due.
    mutating func turn(toMicros now: UInt64) -> [Entry] {
        let target = now / Self.slotMicros
        guard target > last else { return [] }
        var due: [Entry] = []
        for slot in (last + 1)...min(target, last + UInt64(Self.slotCount)) {
            let index = Int(slot % UInt64(Self.slotCount))
            guard !slots[index].isEmpty else { continue }
            due.append(contentsOf: slots[index])
            slots[index] = []
        }
        last = target
        return due
    }
}
