/// The sessions of a Login in a few numbers, so that Login and the presence store find out cheaply where they differ:
/// a session belongs to one slice by its id, and a slice is the sum of its sessions' hashes.
///
/// Both sides compute it, over any transport: never change it.
public struct SessionSlices: Sendable, Equatable {
    /// Enough that one slice of a hundred thousand sessions is a short list, few enough to send every two seconds.
    public static let count = 256

    /// One sum per slice, `count` of them.
    public private(set) var sums = [UInt64](repeating: 0, count: count)

    public init() {}

    /// The slice of a session: 0 ..< `count`.
    public static func slice(of session: String) -> Int { place(StableHash.of(session)) }

    public mutating func add(_ session: String) {
        let hash = StableHash.of(session)
        sums[Self.place(hash)] &+= hash
    }

    /// The session must have been added.
    public mutating func remove(_ session: String) {
        let hash = StableHash.of(session)
        sums[Self.place(hash)] &-= hash
    }

    private static func place(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash % UInt64(count)) }
}
