import Wire

/// The members of a group and who has which partitions. Membership is by calling; every change of it makes a new
/// generation.
struct LogGroup: Sendable, Equatable {
    /// When each member last called, in microseconds.
    private(set) var members: [String: UInt64] = [:]
    private(set) var generation: UInt64
    private(set) var assignment: [String: ClosedRange<UInt32>] = [:]
    let partitions: UInt32

    /// - Parameter generation: higher than any that an earlier life of the machine can have given out.
    init(partitions: UInt32, generation: UInt64) {
        self.partitions = partitions
        self.generation = generation
    }

    /// Notes that a member called. True when it is new, and so everything was assigned again.
    mutating func called(_ member: String, micros: UInt64) -> Bool {
        let isNew = members.updateValue(micros, forKey: member) == nil
        if isNew { assign() }
        return isNew
    }

    /// True when it was there.
    mutating func leave(_ member: String) -> Bool {
        guard members.removeValue(forKey: member) != nil else { return false }
        assign()
        return true
    }

    /// Removes who has not called since; true when somebody was removed.
    mutating func dropSilent(before micros: UInt64) -> Bool {
        let count = members.count
        members = members.filter { $0.value >= micros }
        guard members.count != count else { return false }
        assign()
        return true
    }

    func has(_ member: String, _ partition: UInt32) -> Bool { assignment[member]?.contains(partition) ?? false }

    func partitions(of member: String) -> [UInt32] { assignment[member].map(Array.init) ?? [] }

    /// Contiguous shares for the members in byte order: everybody who knows the members knows the shares.
    private mutating func assign() {
        generation += 1
        assignment = [:]
        let sorted = members.keys.sorted()
        let count = UInt32(sorted.count)
        for (index, member) in sorted.enumerated() {
            let first = UInt32(index) * partitions / count
            let next = (UInt32(index) + 1) * partitions / count
            if first < next { assignment[member] = first...next - 1 }
        }
    }
}
