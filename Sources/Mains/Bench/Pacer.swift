/// A fixed schedule: message k (from 0) is due at start + k / rate, whatever became of those before it.
struct Pacer: Equatable {
    let startMicros: UInt64
    let perSecond: Double
    private(set) var issued: UInt64 = 0

    init(startMicros: UInt64, perSecond: Double) {
        self.startMicros = startMicros
        self.perSecond = perSecond
    }

    /// When message `number` is due.
    func dueMicros(_ number: UInt64) -> UInt64 {
        startMicros + UInt64(Double(number) * 1_000_000 / perSecond)
    }

    /// The next message if it is due: its number and the moment it was due.
    mutating func next(now: UInt64) -> (number: UInt64, dueMicros: UInt64)? {
        let due = dueMicros(issued)
        guard due <= now else { return nil }
        defer { issued += 1 }
        return (issued, due)
    }
}
