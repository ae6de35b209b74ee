/// Wall time for deleting what is old: it goes on as fast as the monotonic clock from what the wall clock said first,
/// so a wall clock that is set a week ahead makes nothing a week old. Later than the wall clock it never is: one that
/// was behind at first stays behind until the next start, and things are kept longer.
public struct PatientClock: Sendable {
    private var first: (micros: UInt64, wallMS: UInt64)?

    public init() {}

    /// - Parameters:
    ///   - micros: monotonic.
    ///   - wallMS: Unix time, as the wall clock says at present.
    /// - Returns: Unix milliseconds.
    public mutating func nowMS(micros: UInt64, wallMS: UInt64) -> UInt64 {
        let start = first ?? (micros, wallMS)
        first = start
        return min(wallMS, start.wallMS + (micros - min(micros, start.micros)) / 1000)
    }
}
