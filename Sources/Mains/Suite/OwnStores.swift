import Logging
import MySQLStore
import RPC
import RedisStore
import Runtime

/// The stores that a process reaches by itself, with clients of its own, because they are shared by nature: databases
/// always, Redis and the rest when nothing is in a data folder and no martlet-store runs.
struct OwnStores {
    private let kafka: KafkaLogs?
    private let redis: RedisClients?
    private let databases: MySQLBackends?
    private let presence: Lane?

    /// What each role asks of the stores.
    static let uses: [String: Set<String>] = [
        "msgproxy": ["msg"], "msgwriter": ["msg", "hot", "recent"], "msgreader": ["hot", "recent"],
        "pushproxy": ["push"], "pushserver": ["push"], "user": ["relational"], "online": ["presence"],
    ]

    /// Opens what the service needs and puts it beside it. Blocks until the brokers and databases were asked.
    init(_ setup: ServiceSetup, on wiring: Wiring, lane: Lane) async throws {
        let uses = Self.uses[setup.role] ?? []
        let settings = setup.settings
        let logs = ["msg", "push"].filter(uses.contains)
        kafka =
            try logs.isEmpty
            ? nil : settings.log.map { try KafkaLogs($0, logs: logs, on: wiring, lane: lane, instance: setup.name) }
        databases = try Self.databases(setup, uses, on: wiring, lane: lane)
        guard settings.isAllReal, !uses.isDisjoint(with: ["hot", "presence"]) else {
            (redis, presence) = (nil, nil)
            return
        }
        var places = RedisSettings()
        if uses.contains("hot") { places.hot = settings.redis.hot }
        if uses.contains("presence") { places.presence = settings.redis.presence }
        try await RedisClients.check(places)
        let clients = try RedisClients(places, logger: wiring.logger)
        redis = clients
        if let client = clients.hot {
            wiring.host(RedisHotMachine(), "hot@\(setup.name)", on: lane, client, announced: false)
        }
        guard let client = clients.presence, let place = settings.mysql.relational else {
            presence = nil
            return
        }
        // Token epochs are asked of the database, which may block: a thread of its own.
        let thread = Lane.thread(name: "presence")
        presence = thread
        let config = try place.config()
        let tokens = MySQLTokenEpochs(config.addresses[0], config)
        wiring.host(
            RedisPresenceMachine(tokens: tokens), "presence@\(setup.name)", on: thread, client, announced: false)
    }

    private static func databases(
        _ setup: ServiceSetup, _ uses: Set<String>, on wiring: Wiring, lane: Lane
    ) throws -> MySQLBackends? {
        let (recent, relational) = (uses.contains("recent"), uses.contains("relational"))
        guard recent || relational else { return nil }
        let databases = try MySQLBackends(
            setup.settings.mysql, recent: recent, relational: relational, logger: wiring.logger)
        if let shards = databases.recent { wiring.host(shards, "recent@\(setup.name)", on: lane) }
        databases.hostUsers(on: wiring, prefix: "\(setup.name)-")
        return databases
    }

    /// Leaves the logs' groups before the connections end.
    func stop() async {
        kafka?.stop()
        await redis?.stop()
        databases?.stop()
        presence?.stop()
    }
}
