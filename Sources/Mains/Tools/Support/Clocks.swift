import Foundation

/// The clocks of the tools. Machines never read them.
enum Clocks {
    /// Microseconds that only go forward.
    static var monotonicUS: UInt64 { read(CLOCK_MONOTONIC) }
    /// Unix milliseconds.
    static var unixMS: UInt64 { read(CLOCK_REALTIME) / 1_000 }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1_000
    }
}
