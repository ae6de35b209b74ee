/// FNV-1a, 64 bit, with a final mix (http://www.isthe.com/chongo/tech/comp/fnv/ and the finalizer of MurmurHash3).
/// It decides buckets and instances, so it is part of the stored format: never change it.
public enum StableHash {
    /// Hash of the parts, each ended by a zero byte so that ("ab", "c") and ("a", "bc") differ.
    public static func of(_ parts: String...) -> UInt64 { mix(parts.reduce(seed) { add($1, to: $0) }) }

    /// The same of two parts, which every message asks for, without an array.
    public static func of(_ one: String, _ other: String) -> UInt64 { mix(add(other, to: add(one, to: seed))) }

    private static let seed: UInt64 = 0xcbf2_9ce4_8422_2325

    private static func add(_ part: String, to hash: UInt64) -> UInt64 {
        var part = part
        return part.withUTF8 { bytes in
            var hash = hash
            for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            return hash &* 0x100_0000_01b3
        }
    }

    /// MurmurHash3's 64-bit finalizer: every input bit reaches every output bit.
    public static func mix(_ value: UInt64) -> UInt64 {
        var hash = value
        hash = (hash ^ (hash >> 33)) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ (hash >> 33)) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ (hash >> 33)
    }

    /// The same of one part, without an array.
    public static func of(_ one: String) -> UInt64 { mix(add(one, to: seed)) }

    /// The log bucket of a conversation: hash(app, conversation) mod V. `buckets` is fixed for a log generation.
    public static func bucket(app: String, conversation: String, buckets: UInt32) -> UInt32 {
        bucket(of(app, conversation), buckets: buckets)
    }

    /// The same, of hash(app, conversation).
    public static func bucket(_ hash: UInt64, buckets: UInt32) -> UInt32 {
        UInt32(truncatingIfNeeded: hash % UInt64(buckets))
    }
}
