import Identity

/// Which shard each bucket is in: data of the relational database, read and followed by every process.
public struct ShardMap: Sendable, Equatable {
    /// Grows with every change.
    public let version: UInt64
    /// By bucket; empty: everything is in shard 0.
    public let shards: [Int]

    public init(version: UInt64, shards: [Int]) {
        self.version = version
        self.shards = shards
    }

    /// The only shard holds everything.
    public static let single = ShardMap(version: 0, shards: [])

    /// The shard of a bucket; nil for a bucket that the map does not have.
    public func shard(of bucket: UInt32) -> Int? {
        if shards.isEmpty { return 0 }
        return Int(bucket) < shards.count ? shards[Int(bucket)] : nil
    }

    /// The bucket of a conversation; nil when there is one shard and nobody needs to know.
    public func bucket(app: String, conversation: String) -> UInt32? {
        shards.isEmpty
            ? nil : StableHash.bucket(app: app, conversation: conversation, buckets: UInt32(shards.count))
    }

    /// What a new map says: buckets stay where their rows are, the others are spread evenly. Nil when a bucket is in
    /// two shards.
    ///
    /// - Parameter found: the buckets that each shard has.
    public static func filling(buckets: Int, found: [Set<UInt32>]) -> [Int]? {
        guard !found.isEmpty else { return nil }
        var shards: [Int] = []
        for bucket in 0..<UInt32(buckets) {
            let holders = found.indices.filter { found[$0].contains(bucket) }
            guard holders.count <= 1 else { return nil }
            shards.append(holders.first ?? Int(bucket) % found.count)
        }
        return shards
    }
}
