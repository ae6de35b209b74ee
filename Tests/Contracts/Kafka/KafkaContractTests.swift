import EmbeddedStore
import Foundation
import KafkaLog
import Ports
import RPC
import TestKit
import Testing

/// The port role `log`, asked by its users: the embedded logs and the one in Kafka keep the same promises.
@Suite(.serialized) struct LogPortContracts {
    @Test(arguments: LogPortContract.cases) func memoryLog(_ contract: LogPortContract.Case) async throws {
        let store = MemoryLog(partitions: 4, incarnation: 7, limit: 4 << 20)
        let hosted = try HostedLog(LogMachine(logs: ["msg": store]))
        defer { hosted.stop() }
        try await contract.run(hosted.port)
    }

    @Test(arguments: LogPortContract.cases) func segmentLog(_ contract: LogPortContract.Case) async throws {
        var config = EmbeddedConfig()
        config.partitions = 4
        let store = try SegmentLog.open(
            folder: "data", files: SimulatedDisk(), config: config, incarnation: 7, wallMS: { 1_760_000_000_000 })
        let hosted = try HostedLog(LogMachine(logs: ["msg": store], writeEveryMS: 2))
        defer { hosted.stop() }
        try await contract.run(hosted.port)
    }

    /// All cases at once, each on a cluster of its own: a group's first member waits for three seconds at the mock.
    @Test func kafkaMock() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for contract in LogPortContract.cases {
                group.addTask {
                    let mock = try MockKafka(brokers: 1)
                    do {
                        try await HostedKafka.with(mock.settings()) { try await contract.run($0.port) }
                    } catch { Issue.record("\(contract): \(error)") }
                    withExtendedLifetime(mock) {}
                }
            }
            try await group.waitForAll()
        }
    }
}
