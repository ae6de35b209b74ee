import RPC

/// Calls that wait for an answer, by the number they have on the wire: slot and generation, so that finding one
/// costs an array access and a late answer never meets the next user of its slot. Numbers are never 0.
struct CallTable {
    struct Waiting {
        var id: UInt64
        var origin: any ReplySink
        var deadline: UInt64
        /// The chunk that its frame is in.
        var chunk: UInt64
    }

    private var slots: [Waiting?] = []
    private var generations: [UInt32] = []
    private var free: [UInt32] = []
    private(set) var count = 0

    mutating func insert(_ waiting: Waiting) -> UInt64 {
        count += 1
        if let slot = free.popLast() {
            slots[Int(slot)] = waiting
            return UInt64(generations[Int(slot)]) << 32 | UInt64(slot)
        }
        slots.append(waiting)
        generations.append(1)
        return 1 << 32 | UInt64(slots.count - 1)
    }

    /// The call, if it still waits.
    mutating func remove(_ number: UInt64) -> Waiting? {
        let slot = Int(number & 0xffff_ffff)
        guard slot < slots.count, generations[slot] == UInt32(number >> 32), let waiting = slots[slot] else {
            return nil
        }
        slots[slot] = nil
        generations[slot] = generations[slot] == .max ? 1 : generations[slot] + 1
        free.append(UInt32(slot))
        count -= 1
        return waiting
    }

    /// Takes out everything whose deadline has passed.
    mutating func removeExpired(_ now: UInt64) -> [(number: UInt64, waiting: Waiting)] {
        guard count > 0 else { return [] }
        var expired: [(UInt64, Waiting)] = []
        for slot in slots.indices {
            guard let waiting = slots[slot], waiting.deadline <= now else { continue }
            let number = UInt64(generations[slot]) << 32 | UInt64(slot)
            _ = remove(number)
            expired.append((number, waiting))
        }
        return expired
    }

    mutating func removeAll() -> [Waiting] {
        let all = slots.compactMap { $0 }
        slots = []
        generations = []
        free = []
        count = 0
        return all
    }
}
