import Machinery
import Wire

/// How often a simulated store fails, from a seed of its own. One for all stores of a suite, so that a storm ends in
/// one place.
public final class StoreTrouble: @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    /// The share of calls, entries or buckets that fail, 0 to 1.
    public var share: Double
    private var random: SeededRandom

    public init(seed: UInt64 = 0, share: Double = 0) {
        self.share = share
        self.random = SeededRandom(seed: seed)
    }

    func strikes() -> Bool { share > 0 && random.chance(share) }

    /// One time in two.
    func coin() -> Bool { random.chance(0.5) }

    func strike() throws(Failure) {
        if strikes() { throw Failure(.storeUnavailable, "the simulated store is away") }
    }
}
