import Foundation

/// Knows for most new messages, without asking the file, that their dedup key was never stored: it holds a hash of
/// every stored key whose id is as young as `floor` or younger. Keys begin with a UUIDv7, whose first six bytes are a
/// time, so this can be said of the keys themselves. Two generations: when the younger is full the older is forgotten,
/// and the floor rises above all that it held. Clocks that run ahead raise it further; that costs look-ups, no more.
struct KeyWindow {
    private struct Generation {
        var hashes: Set<UInt64> = []
        var newest: UInt64 = 0
    }

    private(set) var floor: UInt64
    private var old = Generation()
    private var young = Generation()
    private let limit: Int

    /// - Parameters:
    ///   - floor: the caller inserts every key that is stored already and has this time or a later one.
    ///   - limit: keys held at most, each about 32 bytes.
    init(floor: UInt64, limit: Int = 2) {
        self.floor = floor
        self.limit = max(2, limit)
    }

    /// False: certainly not stored. True: look.
    func mayHold(_ key: Data) -> Bool {
        guard Self.time(key) >= floor else { return true }
        let hash = Self.hash(key)
        return young.hashes.contains(hash) || old.hashes.contains(hash)
    }

    mutating func insert(_ key: Data) {
        let time = Self.time(key)
        guard time >= floor else { return }
        young.hashes.insert(Self.hash(key))
        young.newest = max(young.newest, time)
        guard young.hashes.count * 2 >= limit else { return }
        floor = max(floor, old.newest + 1)
        old = young
        young = Generation()
    }

    /// The time in a key; 0 for a placeholder's.
    static func time(_ key: Data) -> UInt64 {
        key.withUnsafeBytes { bytes in
            guard bytes.count >= 8 else { return 0 }
            return UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)) >> 16
        }
    }

    /// Ids are random and the rest is SHA-256: the bytes are a hash already.
    private static func hash(_ key: Data) -> UInt64 {
        key.withUnsafeBytes { bytes in
            guard bytes.count >= 24 else { return UInt64(bytes.count) }
            return bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                ^ bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        }
    }
}
