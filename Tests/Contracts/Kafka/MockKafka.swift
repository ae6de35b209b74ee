import CRdKafka
import Foundation
import KafkaLog
import Logging
import Ports
import RPC
import TestKit
import Wire

/// Kinds of requests that a mock broker can be told to answer with an error: Kafka's API keys.
enum KafkaAPI: Int16, CaseIterable {
    case produce = 0
    case fetch = 1
    case listOffsets = 2
    case metadata = 3
    case offsetCommit = 8
    case offsetFetch = 9
    case findCoordinator = 10
    case joinGroup = 11
    case heartbeat = 12
    case leaveGroup = 13
    case syncGroup = 14
    case initProducer = 22
}

/// librdkafka's mock cluster: brokers on loopback, in memory, that answer what they are told to.
final class MockKafka: @unchecked Sendable {
    // @unchecked: two pointers that never change, to objects that lock for themselves.
    private let client: OpaquePointer
    private let cluster: OpaquePointer
    let brokers: Int32

    init(brokers: Int32 = 3, topics: [String: Int32] = ["msg": 4]) throws {
        var text = [CChar](repeating: 0, count: 512)
        let conf = rd_kafka_conf_new()
        rd_kafka_conf_set(conf, "log_level", "2", &text, text.count)
        guard let client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, &text, text.count),
            let cluster = rd_kafka_mock_cluster_new(client, brokers)
        else { throw StoreOpenError(.other, "no mock cluster") }
        self.client = client
        self.cluster = cluster
        self.brokers = brokers
        for (name, partitions) in topics {
            rd_kafka_mock_topic_create(cluster, name, partitions, min(3, brokers))
            rd_kafka_mock_topic_create(cluster, name + ".identity", 1, min(3, brokers))
        }
    }

    deinit {
        rd_kafka_mock_cluster_destroy(cluster)
        rd_kafka_destroy(client)
    }

    var addresses: String { String(cString: rd_kafka_mock_cluster_bootstraps(cluster)) }

    /// Settings of a log on these brokers, quick enough for tests.
    func settings(_ log: String = "msg", partitions: UInt32 = 4) -> KafkaSettings {
        var settings = KafkaSettings(brokers: addresses, log: log)
        settings.partitions = partitions
        settings.development = true
        // Members of tests leave for good, and others wait for what they had.
        settings.lastingMembers = false
        settings.limits.sessionMS = 6000
        settings.limits.heartbeatMS = 200
        settings.limits.askMS = 700
        settings.limits.openMS = 15_000
        // What librdkafka says of itself, with MARTLET_KAFKA_LOG: "cgrp,fetch,consumer" and the like.
        settings.properties["debug"] = ProcessInfo.processInfo.environment["MARTLET_KAFKA_DEBUG"]
        return settings
    }

    /// The next requests of that kind, at whichever broker, are answered with these errors.
    func fail(_ api: KafkaAPI, _ errors: [rd_kafka_resp_err_t]) {
        var errors = errors
        rd_kafka_mock_push_request_errors_array(cluster, api.rawValue, errors.count, &errors)
    }

    func clear() { for api in KafkaAPI.allCases { rd_kafka_mock_clear_request_errors(cluster, api.rawValue) } }
    func setDelay(_ broker: Int32, milliseconds: Int32) {
        rd_kafka_mock_broker_set_rtt(cluster, broker, milliseconds)
    }
    func setDown(_ broker: Int32) { rd_kafka_mock_broker_set_down(cluster, broker) }
    func setUp(_ broker: Int32) { rd_kafka_mock_broker_set_up(cluster, broker) }
    func lead(_ topic: String, _ partition: Int32, by broker: Int32) {
        rd_kafka_mock_partition_set_leader(cluster, topic, partition, broker)
    }
    func coordinate(_ group: String, by broker: Int32) {
        rd_kafka_mock_coordinator_set(cluster, "group", "msg." + group, broker)
    }
}

/// A log's machine on a lane of its own, asked from tests.
final class HostedLog<Machine: RoleMachine>: Sendable {
    private let lane: Lane
    private let caller: RoleCaller
    private let address: Address

    /// - Parameter output: gets the host's outputs, on the lane.
    init(
        _ machine: Machine, output: @escaping @Sendable (Machine.Output) -> Void = { _ in },
        start: (RoleHost<Machine>, Lane) throws -> Void = { _, _ in }
    ) throws {
        let lane = Lane.thread(name: "log")
        let directory = Directory()
        let host = RoleHost(
            machine, instance: "log", lane: lane, directory: directory, logger: Logger(label: "test"), output: output)
        try start(host, lane)
        host.start()
        self.lane = lane
        caller = RoleCaller(directory: directory, lane: lane)
        address = .any(Machine.role)
    }

    var port: LogPort {
        LogPort { [self] payload in
            var timeout: UInt32 = 15_000
            if case .logFetch(let fetch) = payload { timeout += fetch.waitMs }
            return await caller.call(address, payload, timeoutMS: timeout)
        }
    }

    func stop() { lane.stop() }
}

/// A log in Kafka, opened and hosted: what a process has of it.
final class HostedKafka: Sendable {
    let log: KafkaLog
    private let hosted: HostedLog<KafkaLogMachine>

    /// Opens on a thread of its own: it blocks, and tests share few.
    static func open(_ settings: KafkaSettings) async throws -> HostedKafka {
        try await withCheckedThrowingContinuation { continuation in
            OwnedThread.start(name: "open") {
                continuation.resume(with: Result { try HostedKafka(settings) })
            }
        }
    }

    private init(_ settings: KafkaSettings) throws {
        var logger = Logger(label: "kafka")
        logger.logLevel = ProcessInfo.processInfo.environment["MARTLET_KAFKA_LOG"] == nil ? .critical : .debug
        let log = try KafkaLog.open(settings, logger: logger)
        self.log = log
        hosted = try HostedLog(log.machine(), output: { log.perform($0) }) { host, lane in
            try log.begin { event in lane.run { host.input(event) } }
        }
    }

    var port: LogPort { hosted.port }

    /// Stops on a thread of its own, for the same reason.
    func stop() async {
        await withCheckedContinuation { continuation in
            OwnedThread.start(name: "stop") { [self] in
                log.stop()
                hosted.stop()
                continuation.resume()
            }
        }
    }

    /// Opens, runs the body, stops whatever happens.
    static func with<T: Sendable>(
        _ settings: KafkaSettings, _ body: (HostedKafka) async throws -> T
    ) async throws -> T {
        let hosted = try await open(settings)
        do {
            let result = try await body(hosted)
            await hosted.stop()
            return result
        } catch {
            await hosted.stop()
            throw error
        }
    }
}
