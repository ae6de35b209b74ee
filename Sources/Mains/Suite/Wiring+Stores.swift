import EmbeddedStore
import Logging
import Ports
import RPC
import RedisStore
import Runtime

/// The stores of a data folder, those that are in Redis or a database instead, and the lanes that they live on.
struct EmbeddedStores {
    private let backends: EmbeddedBackends
    private let redis: RedisClients
    private let mysql: MySQLBackends
    private let hasRecent: Bool
    private let hasUsers: Bool
    private let lanes = (log: Lane.thread(name: "log"), users: Lane.thread(name: "relational"))

    /// - Parameters:
    ///   - mysql: which stores are in databases.
    ///   - hostsDatabases: this process serves those too; otherwise whoever needs one has its own way there.
    init(
        folder: String, files: any FileLayer, pushLog: EmbeddedBackends.PushLog, redis: RedisClients,
        mysql settings: MySQLSettings, hostsDatabases: Bool, logger: Logger
    ) throws {
        self.redis = redis
        mysql = try MySQLBackends(
            settings, recent: hostsDatabases, relational: hostsDatabases, logger: logger)
        hasRecent = settings.recent == nil
        hasUsers = settings.relational == nil
        do {
            backends = try EmbeddedBackends.open(
                folder: folder, files: files, pushLog: pushLog, wallMS: { SystemClock.now().wallMS })
        } catch {
            throw StartError(error.message, cure: "The data folder was left as it is")
        }
    }

    /// The log and the relational store wait for the disk, so each has its own thread; the others share `storage` with
    /// the roles that use them most.
    ///
    /// - Parameter logs: those that are served from here; others live elsewhere.
    func host(on wiring: Wiring, storage: Lane, logs: Set<String> = ["msg", "push"]) {
        if logs.contains("msg") { wiring.host(backends.logMachine(), "log", on: lanes.log) }
        if logs.contains("push") { wiring.host(backends.pushLogMachine(), "pushlog", on: storage) }
        if hasRecent {
            wiring.host(backends.recentMachine(), "recent", on: storage)
        } else if let shards = mysql.recent {
            wiring.host(shards, "recent", on: storage)
        }
        if let client = redis.hot {
            wiring.host(RedisHotMachine(), "hot", on: storage, client)
        } else {
            wiring.host(backends.hotMachine(), "hot", on: storage)
        }
        if let client = redis.presence {
            wiring.host(RedisPresenceMachine(tokens: backends.tokens), "presence", on: storage, client)
        } else {
            wiring.host(backends.presenceMachine(), "presence", on: storage)
        }
        if hasUsers { wiring.host(backends.userMachine(), "relational", on: lanes.users) }
        mysql.hostUsers(on: wiring, prefix: "")
    }

    /// A thread that nothing of this folder uses while log "msg" lives elsewhere.
    var logLane: Lane { lanes.log }

    func stop() async {
        await redis.stop()
        mysql.stop()
        lanes.log.stop()
        lanes.users.stop()
    }
}
