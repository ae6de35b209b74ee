import Foundation
import Ports

/// The map in its database. Isolation: one thread's.
final class MapStore {
    let session: MySQLSession

    init(_ address: MySQLAddress, _ config: MySQLConfig) {
        session = MySQLSession(address, config) { (connection) throws(MySQLError) in
            try Migrations.apply(RelationalSchema.family, RelationalSchema.steps, on: connection)
        }
    }

    /// The map; nil when none was made yet.
    func load() throws(MySQLError) -> ShardMap? {
        try session.reading { (connection) throws(MySQLError) in try Self.load(connection) }
    }

    static func load(_ connection: MySQLConnection) throws(MySQLError) -> ShardMap? {
        var shards: [Int] = []
        var version: UInt64 = 0
        var isDense = true
        try connection.query("SELECT bucket, shard, version FROM shard_map ORDER BY bucket") { row in
            isDense = isDense && row.uint(0) == UInt64(shards.count)
            shards.append(Int(row.uint(1)))
            version = max(version, row.uint(2))
        }
        if shards.isEmpty { return nil }
        guard isDense else { throw MySQLError(.refused, "the map of the buckets has holes") }
        return ShardMap(version: version, shards: shards)
    }

    /// The deployment's own name, made when there is none: by it a shard is known as ours.
    func deployment() throws(MySQLError) -> String {
        try session.reading { (connection) throws(MySQLError) in
            var values = MySQLValues()
            values.add(UUID().uuidString)
            try connection.execute("INSERT IGNORE INTO deployment(one, id) VALUES(1, ?)", values)
            var name = ""
            try connection.query("SELECT id FROM deployment WHERE one = 1") { name = $0.text(0) }
            return name
        }
    }

    /// Makes the map when there is none, and checks that it is one of these shards and buckets.
    func settle(buckets: Int, shards: [MySQLRecentStore]) throws(MySQLError) -> ShardMap {
        let name = try deployment()
        for (number, shard) in shards.enumerated() { try Self.introduce(shard, number, name) }
        if try load() == nil {
            var found: [Set<UInt32>] = []
            for shard in shards { found.append(try Self.buckets(of: shard)) }
            guard let filled = ShardMap.filling(buckets: buckets, found: found) else {
                throw MySQLError(
                    .refused, "a bucket has rows in two shards, and there is no map that says which counts")
            }
            let connection = try session.connected()
            try Migrations.locked("martlet.map", waitS: 10, on: connection) { () throws(MySQLError) in
                try MySQLRecentStore.insert(
                    "INSERT IGNORE INTO shard_map(bucket, shard, version) VALUES ", 3, Array(filled.enumerated()),
                    connection
                ) { item, values in
                    values.add(UInt64(item.offset))
                    values.add(UInt64(item.element))
                    values.add(UInt64(1))
                }
            }
        }
        guard let map = try load() else { throw MySQLError(.refused, "the map of the buckets cannot be made") }
        guard map.shards.count == buckets else {
            throw MySQLError(.refused, "the map has \(map.shards.count) buckets, and the log has \(buckets)")
        }
        try Self.check(map, shards: shards.count)
        return map
    }

    /// A bucket on a shard that this process was not told of cannot be asked for.
    static func check(_ map: ShardMap, shards: Int) throws(MySQLError) {
        guard let most = map.shards.max(), most < shards else {
            throw MySQLError(.refused, "the map names more shards than were given: name all of them, in their order")
        }
    }

    /// Tells a shard whose and which one it is, or finds out that it is another.
    static func introduce(_ shard: MySQLRecentStore, _ number: Int, _ deployment: String) throws(MySQLError) {
        try shard.session.reading { (connection) throws(MySQLError) in
            var values = MySQLValues()
            values.add(deployment)
            values.add(UInt64(number))
            try connection.execute("INSERT IGNORE INTO shard_self(one, deployment, number) VALUES(1, ?, ?)", values)
            var isSame = false
            try connection.query("SELECT deployment, number FROM shard_self WHERE one = 1") { row in
                isSame = row.text(0) == deployment && row.uint(1) == UInt64(number)
            }
            guard isSame else {
                throw MySQLError(
                    .refused, "\(shard.session.address) is not shard \(number) of this deployment: keep the order")
            }
        }
    }

    private static func buckets(of shard: MySQLRecentStore) throws(MySQLError) -> Set<UInt32> {
        try shard.session.reading { (connection) throws(MySQLError) in
            var found: Set<UInt32> = []
            try connection.query("SELECT bucket FROM buckets WHERE state < 2") { found.insert(UInt32($0.uint(0))) }
            return found
        }
    }
}
