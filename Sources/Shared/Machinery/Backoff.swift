/// Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
public struct Backoff: Sendable, Equatable {
    public let firstMS: UInt64
    public let mostMS: UInt64
    private var attempts = 0

    public init(firstMS: UInt64, mostMS: UInt64) {
        self.firstMS = firstMS
        self.mostMS = mostMS
    }

    /// The next wait: half of the doubled ceiling, and a random part of the other half, so that nobody waits for
    /// nothing.
    public mutating func nextMS(using random: inout some RandomNumberGenerator) -> UInt64 {
        let ceiling = min(mostMS, firstMS << UInt64(min(attempts, 20)))
        attempts += 1
        return ceiling / 2 + UInt64.random(in: 0...(ceiling / 2 + 1), using: &random)
    }

    /// After a success.
    public mutating func reset() { attempts = 0 }
}
