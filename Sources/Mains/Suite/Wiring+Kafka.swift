import KafkaLog
import Logging
import Ports
import RPC
import Runtime

/// The logs of a process that live in Kafka. Each process has its own view of them: its log roles are found by its own
/// roles only, and are not announced to others.
struct KafkaLogs {
    private let logs: [KafkaLog]

    /// Opens the named logs and puts them on the lane of the roles that use them. Blocks until the brokers were asked.
    init(_ settings: LogSettings, logs names: [String], on wiring: Wiring, lane: Lane, instance: String) throws {
        var logs: [KafkaLog] = []
        for name in names {
            let settings = try settings.kafka(name)
            do {
                let log = try KafkaLog.open(settings, logger: wiring.logger)
                if name == "push" {
                    try Self.host(KafkaPushLogMachine(log.machine()), log, on: wiring, lane: lane, instance: instance)
                } else {
                    try Self.host(log.machine(), log, on: wiring, lane: lane, instance: instance)
                }
                logs.append(log)
            } catch let error as StoreOpenError {
                throw StartError(error.message, cure: "Look at the log's address and at the Kafka cluster behind it")
            }
        }
        self.logs = logs
    }

    private static func host<Machine: RoleMachine>(
        _ machine: Machine, _ log: KafkaLog, on wiring: Wiring, lane: Lane, instance: String
    ) throws where Machine.Input == KafkaEvent, Machine.Output == KafkaCommand {
        let host = RoleHost(
            machine, instance: "\(Machine.role)-\(instance)", lane: lane, directory: wiring.directory,
            logger: wiring.logger, output: { log.perform($0) })
        try log.begin { event in lane.run { host.input(event) } }
        host.start()
    }

    /// Leaves the groups and waits for what was appended; a few seconds at most.
    func stop() { for log in logs { log.stop() } }
}
