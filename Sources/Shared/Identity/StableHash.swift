/// FNV-1a, 64 bit, with a final mix (http://www.isthe.com/chongo/tech/comp/fnv/ and the finalizer of MurmurHash3).
/// It decides buckets and instances, so it is part of the stored format: never change it.
public enum StableHash {
    /// Hash of the parts, each ended by a zero byte so that ("ab", "c") and ("a", "bc") differ.
    public static func of(_ parts: String...) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for part in parts {
            for byte in part.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            hash = hash &* 0x100_0000_01b3
        }
        return mix(hash)
    }

    /// MurmurHash3's 64-bit finalizer: every input bit reaches every output bit.
    public static func mix(_ value: UInt64) -> UInt64 {
        var hash = value
        hash = (hash ^ (hash >> 33)) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ (hash >> 33)) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ (hash >> 33)
    }

    /// The log bucket of a conversation: hash(app, conversation) mod V. `buckets` is fixed for a log generation.
    public static func bucket(app: String, conversation: String, buckets: UInt32) -> UInt32 {
        UInt32(truncatingIfNeeded: of(app, conversation) % UInt64(buckets))
    }
}
