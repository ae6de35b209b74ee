import MySQLStore

/// Which buckets are to be moved, decided from the map. Pure.
struct MovePlan: Equatable {
    struct Step: Equatable, Encodable {
        let bucket: UInt32
        let from: Int
        let to: Int
    }

    /// In the order of the buckets.
    let steps: [Step]
    /// Buckets that are where they are wanted already, by an earlier run perhaps.
    let settled: [UInt32]

    /// - Parameters:
    ///   - buckets: nil: all of them, or all of `from`.
    ///   - from: only those of this shard; nil: wherever they are.
    ///   - shards: how many were named.
    /// - Throws: `options` when something is asked for that does not exist.
    static func of(
        _ map: ShardMap, buckets: [UInt32]?, from: Int?, to: Int, shards: Int
    ) throws(OpsError) -> MovePlan {
        let cure = "`martlet ops shards list` says what there is; a new shard is named last in --recent"
        for shard in [to, from ?? to] where !(0..<shards).contains(shard) {
            throw OpsError(.options, "there is no shard \(shard) among the \(shards) of --recent", cure: cure)
        }
        guard !map.shards.isEmpty else {
            throw OpsError(.refused, "there is one shard and no map", cure: "Add a shard with `martlet ops shards add`")
        }
        if let unknown = buckets?.first(where: { map.shard(of: $0) == nil }) {
            throw OpsError(.options, "there is no bucket \(unknown)", cure: cure)
        }
        var steps: [Step] = []
        var settled: [UInt32] = []
        for bucket in Set(buckets ?? map.shards.indices.map { UInt32($0) }).sorted() {
            guard let home = map.shard(of: bucket) else { continue }
            if home == to {
                settled.append(bucket)
            } else if from == nil || from == home {
                steps.append(Step(bucket: bucket, from: home, to: to))
            } else if buckets != nil {
                throw OpsError(.options, "bucket \(bucket) is in shard \(home)", cure: cure)
            }
        }
        return MovePlan(steps: steps, settled: settled)
    }
}

/// "0,3,5-7" as buckets.
struct BucketList: Equatable {
    let buckets: [UInt32]

    /// Nil: not of this form.
    init?(_ text: String) {
        var found: [UInt32] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { UInt32($0) }
            switch (ends.count, ends.first ?? nil, ends.last ?? nil) {
            case (1, let one?, _): found.append(one)
            case (2, let low?, let high?) where low <= high && high - low < 4096: found += low...high
            default: return nil
            }
        }
        buckets = found
    }
}
