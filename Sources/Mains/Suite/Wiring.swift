import IMRole
import Identity
import Logging
import LoginRole
import Machinery
import MsgProxyRole
import MsgReaderRole
import MsgWriterRole
import MySQLStore
import OnlineRole
import PushProxyRole
import PushServerRole
import PushWorkerRole
import RPC
import RedisStore
import RouteRole
import Synchronization
import UserRole

/// Puts roles on lanes: one small function a role, and the only place that knows how each is made. Stores are wired in
/// Wiring+Stores.swift, Login and API in the suites, because they listen.
final class Wiring: Sendable {
    let directory = Directory()
    let logger: Logger
    let faults: InjectedFaults
    private let hosted = Mutex<[(RoleName, String)]>([])

    init(logger: Logger, faults: InjectedFaults) {
        self.logger = logger
        self.faults = faults
    }

    /// Role and instance of everything that this process hosts.
    var hostedRoles: [(RoleName, String)] { hosted.withLock { $0 } }

    func host<Machine: RoleMachine>(_ machine: Machine, _ instance: String, on lane: Lane) {
        let host = RoleHost(machine, instance: instance, lane: lane, directory: directory, logger: logger)
        hosted.withLock { $0.append((Machine.role, instance)) }
        host.start()
    }

    /// The same of a machine over Redis.
    ///
    /// - Parameter announced: whether other processes may call it.
    func host<Machine: RoleMachine>(
        _ machine: Machine, _ instance: String, on lane: Lane, _ client: RedisClient, announced: Bool = true
    ) where Machine.Input == RedisResponse, Machine.Output == RedisRequest {
        if announced { hosted.withLock { $0.append((Machine.role, instance)) } }
        RedisHost.start(
            machine, instance: instance, lane: lane, directory: directory, client: client, logger: logger)
    }

    /// Port role `recent` over shards.
    func host(_ shards: MySQLShards, _ instance: String, on lane: Lane) {
        hosted.withLock { $0.append((.recentStore, instance)) }
        MySQLHost.start(shards, instance: instance, lane: lane, directory: directory, logger: logger)
    }

    /// Names hosted elsewhere, such as the gateway's Logins, that peers may call.
    func announce(_ role: RoleName, _ instances: [String]) {
        hosted.withLock { hosted in hosted += instances.map { (role, $0) } }
    }

    func route(_ name: String, on lane: Lane) { host(RouteMachine(instance: name), name, on: lane) }

    func im(_ name: String, on lane: Lane) {
        host(IMMachine(config: IMConfig(instance: name)), name, on: lane)
    }

    func msgProxy(_ name: String, on lane: Lane) {
        host(MsgProxyMachine(config: MsgProxyConfig(instance: name)), name, on: lane)
    }

    /// - Parameter apart: each bucket has a round of its own, so that none waits for another's shard; the store makes
    ///   one transaction of what waits.
    func msgWriter(_ name: String, on lane: Lane, apart: Bool) {
        var config = MsgWriterConfig(instance: name, seed: UInt64.random(in: .min ... .max))
        if apart { config.shardOfBucket = (0..<UInt32(MySQLSettings.buckets)).map { $0 } }
        config.fault = faults.msgWriter
        host(MsgWriterMachine(config: config), name, on: lane)
    }

    func msgReader(_ name: String, on lane: Lane) {
        var config = MsgReaderConfig()
        config.fault = faults.msgReader
        host(MsgReaderMachine(instance: name, config: config), name, on: lane)
    }

    func online(_ name: String, on lane: Lane) { host(OnlineMachine(instance: name), name, on: lane) }

    func user(_ name: String, on lane: Lane) { host(UserMachine(instance: name), name, on: lane) }

    func pushProxy(_ name: String, on lane: Lane) {
        var config = PushProxyConfig()
        config.dropOnce = faults.pushProxyDrop
        host(PushProxyMachine(config: config), name, on: lane)
    }

    func pushServer(_ name: String, on lane: Lane) {
        var config = PushServerConfig(member: name)
        config.dropOnce = faults.pushServerDrop
        host(PushServerMachine(config: config), name, on: lane)
    }

    func pushWorker(_ name: String, on lane: Lane) {
        var config = PushWorkerConfig()
        config.dropOnce = faults.pushWorkerDrop
        host(PushWorkerMachine(config: config), name, on: lane)
    }
}
