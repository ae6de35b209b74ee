import Foundation
import Logging
import MySQLStore
import Ports
import TestKit
import Testing

/// The promises of the ports, kept over a real MariaDB: by a store alone, and by the machine over its shards.
@Suite(.serialized) struct ContractServerTests {
    private static let server = Result { try MariaDB() }

    private func run<Port>(_ cases: [ContractCase<Port>], _ make: () throws -> Port) {
        for contract in cases {
            do { try contract.run(try make()) } catch { Issue.record("\(contract.name): \(error)") }
        }
    }

    @Test func recentStoreAlone() throws {
        let server = try Self.server.get()
        run(RecentStoreContract.cases) {
            let config = try server.fresh()
            return MySQLRecentStore(config.addresses[0], config)
        }
    }

    @Test func recentMachineOverOneShard() throws {
        let server = try Self.server.get()
        run(RecentStoreContract.cases) {
            DrivenRecent(try MySQLShards(server.fresh(), map: nil, buckets: 8, logger: Logger(label: "test")))
        }
    }

    /// Everything is in the second of two shards, and the first is down.
    @Test func recentMachineOverTheOtherShard() throws {
        let server = try Self.server.get()
        run(RecentStoreContract.cases.filter { $0.name != "dead letters are kept" }) {
            let relational = try server.fresh()
            var config = try server.fresh()
            let other = try server.fresh()
            config.addresses += other.addresses
            _ = try MySQLShards(config, map: relational, buckets: 32, logger: Logger(label: "test"))
            try server.sql("UPDATE shard_map SET shard = 1, version = 2", database: relational.addresses[0].database)
            let store = DrivenRecent(
                try MySQLShards(config, map: relational, buckets: 32, logger: Logger(label: "test")))
            try server.sql("DROP DATABASE \(config.addresses[0].database)")
            return store
        }
    }

    @Test func userStore() throws {
        let server = try Self.server.get()
        run(UserStoreContract.cases) {
            let config = try server.fresh()
            return MySQLUserStore(config.addresses[0], config)
        }
    }
}
