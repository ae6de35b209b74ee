import Foundation
import Ports
import RedisStore
import TestKit
import Testing

/// The promises of the ports, kept over real servers: one, two that share the slots, a cluster of three. Started once.
@Suite(.serialized) final class ContractServerTests {
    enum Kind: String, CaseIterable, Sendable {
        case one
        case shards
        case cluster
    }

    private final class Servers: Sendable {
        let servers: [RedisServer]
        let cluster: RedisCluster?
        let client: TestClient

        init(_ kind: Kind) throws {
            switch kind {
            case .one:
                servers = [try RedisServer()]
                cluster = nil
                client = try TestClient(RedisConfig(servers[0].address))
            case .shards:
                servers = [try RedisServer(), try RedisServer()]
                cluster = nil
                client = try TestClient(RedisConfig(.shards(RedisShard.even(servers.map { .address($0.address) }))))
            case .cluster:
                servers = []
                let three = try RedisCluster()
                cluster = three
                client = try TestClient(three.config)
            }
        }

        var all: [RedisServer] { cluster?.nodes ?? servers }
    }

    private func run<Port>(_ cases: [ContractCase<Port>], on servers: Servers, _ make: (String) throws -> Port) {
        for contract in cases {
            do { try contract.run(try make("\(UUID().uuidString.prefix(8)):")) } catch {
                Issue.record("\(contract.name): \(error)")
            }
        }
    }

    @Test(arguments: Kind.allCases) func contracts(_ kind: Kind) throws {
        let servers = try Servers(kind)
        run(PresenceStoreContract.cases, on: servers) { try DrivenPresence(servers.client, prefix: $0) }
        run(HotStoreContract.cases, on: servers) { DrivenHot(servers.client, prefix: $0) }
        // All of them were used, and nobody was asked for what is another's.
        for server in servers.all {
            let keys = try server.cli("DBSIZE")
            #expect(Int(keys.trimmingCharacters(in: .whitespacesAndNewlines)).map { $0 > 10 } == true, "\(keys)")
        }
    }
}
