/// A rate limit: `perSecond` units a second, `burst` at once. Time is the caller's.
public struct TokenBucket: Sendable, Equatable {
    public let perSecond: Double
    public let burst: Double
    private var tokens: Double
    private var lastMicros: UInt64

    public init(perSecond: Double, burst: Double, nowMicros: UInt64) {
        self.perSecond = perSecond
        self.burst = burst
        self.tokens = burst
        self.lastMicros = nowMicros
    }

    /// Takes `units` if they are there.
    public mutating func take(_ units: Double = 1, nowMicros: UInt64) -> Bool {
        if nowMicros > lastMicros {
            tokens = min(burst, tokens + Double(nowMicros - lastMicros) * perSecond / 1_000_000)
            lastMicros = nowMicros
        }
        guard tokens >= units else { return false }
        tokens -= units
        return true
    }
}
