import Ports
import Wire

/// What has to be done so that a deployment has the shards that are named, decided from what each says of itself.
public enum ShardAddition: Equatable, Sendable {
    /// The numbers of the shards that are new; none when all are known.
    case add([Int])
    /// One sentence.
    case refuse(String)

    /// What a database says of itself.
    public struct Found: Equatable, Sendable {
        /// The deployment that it belongs to, and its number there; nil: to none yet.
        public let deployment: String?
        public let number: Int
        /// It has buckets of its own.
        public let hasBuckets: Bool

        public init(deployment: String?, number: Int, hasBuckets: Bool) {
            self.deployment = deployment
            self.number = number
            self.hasBuckets = hasBuckets
        }
    }

    /// - Parameters:
    ///   - deployment: its own name.
    ///   - mapped: how many shards the map of the buckets names.
    ///   - found: the databases in the order in which they are named.
    public static func of(deployment: String, mapped: Int, found: [Found]) -> ShardAddition {
        guard found.count >= mapped else {
            return .refuse(
                "the map names \(mapped) shards and \(found.count) are given: name all of them, new ones last")
        }
        var new: [Int] = []
        for (number, database) in found.enumerated() {
            if let owner = database.deployment {
                guard owner == deployment else { return .refuse("database \(number) belongs to another deployment") }
                guard database.number == number else {
                    return .refuse("database \(number) is shard \(database.number): keep the order, new ones last")
                }
                guard new.isEmpty else {
                    return .refuse("database \(new[0]) is new and shard \(number) is not: new ones come last")
                }
            } else {
                guard !database.hasBuckets else {
                    return .refuse("database \(number) has messages of its own: a new shard is empty")
                }
                new.append(number)
            }
        }
        return .add(new)
    }
}

/// Adds shards to a deployment. Blocks; any thread, one at a time.
public struct ShardAdding {
    private let shards: MySQLConfig
    private let relational: MySQLConfig

    /// - Parameters:
    ///   - shards: all of them, the new ones last.
    ///   - relational: the database with the map.
    public init(shards: MySQLConfig, relational: MySQLConfig) {
        self.shards = shards
        self.relational = relational
    }

    /// Looks and changes nothing but the layout of the relational database, which every service makes as well.
    ///
    /// - Throws: `forbidden` with why it cannot be, `storeUnavailable` when a database is away.
    public func plan() throws(Failure) -> [Int] {
        do throws(MySQLError) {
            let map = MapStore(relational.addresses[0], relational)
            guard let known = try map.load() else {
                throw MySQLError(
                    .refused, "there is no map of the buckets yet: the first start of the services makes it")
            }
            var found: [ShardAddition.Found] = []
            for address in shards.addresses { found.append(try Self.look(address, shards)) }
            let mapped = (known.shards.max() ?? 0) + 1
            switch ShardAddition.of(deployment: try map.deployment(), mapped: mapped, found: found) {
            case .add(let new): return new
            case .refuse(let why): throw MySQLError(.refused, why)
            }
        } catch { throw error.kind == .refused ? Failure(.forbidden, error.message) : error.failure }
    }

    /// Makes the tables of a new shard and tells it whose and which one it is. It gets no buckets by itself.
    public func add(_ number: Int) throws(Failure) {
        let store = MySQLRecentStore(shards.addresses[number], shards)
        do throws(MySQLError) {
            let name = try MapStore(relational.addresses[0], relational).deployment()
            try MapStore.introduce(store, number, name)
        } catch { throw error.kind == .refused ? Failure(.forbidden, error.message) : error.failure }
    }

    private static func look(_ address: MySQLAddress, _ config: MySQLConfig) throws(MySQLError) -> ShardAddition.Found {
        let session = MySQLSession(address, config)
        return try session.reading { (connection) throws(MySQLError) in
            let there = try connection.number(
                """
                SELECT count(*) FROM information_schema.tables
                WHERE table_schema = database() AND table_name IN ('shard_self', 'buckets')
                """)
            guard there == 2 else { return ShardAddition.Found(deployment: nil, number: 0, hasBuckets: false) }
            var owner: (deployment: String, number: Int)?
            try connection.query("SELECT deployment, number FROM shard_self WHERE one = 1") { row in
                owner = (row.text(0), Int(row.uint(1)))
            }
            let buckets = try connection.number("SELECT count(*) FROM buckets") ?? 0
            return ShardAddition.Found(
                deployment: owner?.deployment, number: owner?.number ?? 0, hasBuckets: buckets > 0)
        }
    }
}
