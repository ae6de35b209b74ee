import IMRole
import Identity
import LoginRole
import Machinery
import MsgProxyRole
import MsgReaderRole
import MsgWriterRole
import OnlineRole
import Ports
import PushProxyRole
import PushServerRole
import PushWorkerRole
import RPC
import RouteRole
import UserRole
import Wire

/// Every role of the message path, its stores, the devices and the network between them, in one simulation.
final class SuiteWorld {
    static let app = "app"
    private static let key = TokenKey(id: "app.1", secret: Array("a secret of thirty-two bytes, 32".utf8))

    let simulation: Simulation
    let network: ClientNetwork
    let stores: SuiteStores
    let options: SuiteOptions
    private let knobs: SuiteKnobs
    /// Roles that are one process each, without Login, by role and instance.
    private(set) var services: [(role: RoleName, instance: String)] = []
    /// The Login at each place, and how many have stood there.
    private var logins: [(instance: String, lives: Int)] = []
    private(set) var devices: [String] = []
    /// Machines made so far: seeds differ between the lives of one.
    private var made: UInt64 = 0

    /// - Parameter log: what log "msg" holds already; nil for an empty one.
    init(_ options: SuiteOptions, keepsLines: Bool, log: SimulatedLogStore? = nil) {
        self.options = options
        knobs = options.smallLimits ? SuiteKnobs(seed: options.seed) : SuiteKnobs()
        simulation = Simulation(seed: options.seed, faults: .calm, keepsLines: keepsLines)
        network = ClientNetwork(simulation, places: options.logins, seed: options.seed &+ 11)
        stores = SuiteStores(seed: options.seed &+ 12, buckets: options.buckets, log: log)
        options.change?(stores)
        stores.add(to: simulation)
        addEdge()
        addChat()
        addStorage()
        addPush()
        addDevices()
    }

    func machines(of devices: [String]) -> [DeviceMachine] {
        devices.compactMap { simulation.machine(DeviceMachine.self, $0) }
    }

    private func newSeed() -> UInt64 {
        made += 1
        return StableHash.mix(options.seed &+ 13 &+ made << 20)
    }

    /// Adds one role in so many processes.
    private func add<Machine: RoleMachine>(_ count: Int, _ make: @escaping (_ instance: String) -> Machine) {
        for number in 1...max(1, count) {
            let instance = "\(Machine.role)-\(number)"
            services.append((Machine.role, instance))
            simulation.add(instance) { (_: Machine?) in make(instance) }
        }
    }

    // MARK: Roles

    private func addEdge() {
        let wide = options.isWide
        add(wide ? 2 : 1) { OnlineMachine(instance: $0) }
        add(wide ? 2 : 1) { RouteMachine(instance: $0) }
        for place in 0..<options.logins {
            logins.append(("login-\(place)", 1))
            addLogin(place)
        }
    }

    private func addLogin(_ place: Int) {
        let instance = logins[place].instance
        network.setPlace(place, instance)
        simulation.add(
            instance,
            output: { [unowned self] (output: LoginOutput) in
                network.perform(output, of: instance) { self.loginDrained(instance) }
            },
            make: { [unowned self] (_: LoginMachine?) in
                var config = knobs.login
                config.heartbeatMS = options.heartbeatMS
                config.testFault = options.loginFault
                return LoginMachine(
                    config: config, loginID: instance, random: SeededRandom(seed: newSeed()))
            })
    }

    private func addChat() {
        let (wide, options) = (options.isWide, options)
        add(options.ims) { [knobs] name in
            var config = knobs.im(name)
            if name.hasSuffix("-1") { config.fault = options.imFault }
            return IMMachine(config: config)
        }
        add(wide ? 2 : 1) { [knobs] in UserMachine(instance: $0, config: knobs.user) }
    }

    private func addStorage() {
        let options = options
        add(2) { [knobs] name in
            var config = knobs.msgProxy(name)
            config.buckets = options.buckets
            if name.hasSuffix("-1") { config.fault = options.proxyFault }
            return MsgProxyMachine(config: config)
        }
        add(2) { [unowned self] name in
            var config = knobs.msgWriter(name, newSeed())
            config.shardOfBucket = (0..<options.buckets).map { $0 % 2 }
            if name.hasSuffix("-1") { config.fault = options.writerFault }
            return MsgWriterMachine(config: config)
        }
        add(options.isWide ? 2 : 1) { [knobs] in MsgReaderMachine(instance: $0, config: knobs.msgReader) }
    }

    private func addPush() {
        let (wide, options) = (options.isWide, options)
        add(wide ? 2 : 1) { [knobs] _ in
            var config = knobs.pushProxy
            config.dropOnce = options.pushProxyDrop
            return PushProxyMachine(config: config)
        }
        add(wide ? 2 : 1) { [knobs] name in
            var config = knobs.pushServer(name)
            config.dropOnce = options.pushServerDrop
            return PushServerMachine(config: config)
        }
        add(wide ? 2 : 1) { [knobs] _ in
            var config = knobs.pushWorker
            config.dropOnce = options.pushWorkerDrop
            return PushWorkerMachine(config: config)
        }
    }

    // MARK: Devices

    private func addDevices() {
        var batch = UserBatch()
        var app = App()
        app.appID = Self.app
        var key = AppKey()
        key.keyID = Self.key.id
        key.secret = .init(Self.key.secret)
        app.keys = [key]
        batch.apps = [app]
        batch.users = options.users.map { user in
            var put = UserPut()
            put.appID = Self.app
            put.profile.userID = user
            put.profile.exists = true
            return put
        }
        precondition((try? stores.users.apply(batch)) != nil, "the stores fail before anything has begun")
        var random = SeededRandom(seed: options.seed &+ 14)
        for user in options.users {
            let peers = options.users.filter { $0 != user }
            for platform in options.platforms {
                var config = DeviceConfig(
                    app: Self.app, user: user, device: "\(user)-\(platform)", platform: platform, token: token(user),
                    conversations: peers.map { ConversationName.pair(of: user, and: $0).id }, seed: newSeed())
                config.messages = options.messages
                config.writesFromMS = options.writesFromMS
                config.writesUntilMS = options.writesUntilMS
                config.places = options.logins
                if random.chance(options.latecomers) { config.firstLoginByMS = options.writesUntilMS }
                config.clockOffMS = Int64.random(in: -3_600_000...3_600_000, using: &random)
                options.tune?(&config)
                addDevice(config)
            }
        }
    }

    private func token(_ user: String) -> String {
        let issuer = TokenIssuer(appID: Self.app, key: Self.key)
        return (try? issuer.issue(userID: user, lifetimeSeconds: 86_400, nowMS: Simulation.epochWallMS)) ?? ""
    }

    private func addDevice(_ config: DeviceConfig) {
        devices.append(config.device)
        simulation.add(
            config.device,
            output: { [unowned self] (output: DeviceOutput) in network.perform(output, of: config.device) },
            make: { (crashed: DeviceMachine?) in crashed ?? DeviceMachine(config: config) })
    }

    // MARK: Faults

    func crash(_ role: RoleName, _ instance: String) { simulation.crash(role, instance) }

    /// The Login at a place dies as by kill -9.
    func crashLogin(_ place: Int) {
        let instance = logins[place].instance
        guard simulation.isUp(.login, instance) else { return }
        network.setPlace(place, nil)
        simulation.crash(.login, instance)
        network.loginCrashed(instance)
    }

    /// A Login stands at the place again: a supervisor keeps its name, a scheduler of containers gives a new one.
    func restartLogin(_ place: Int, keepsName: Bool) {
        let instance = logins[place].instance
        guard !simulation.isUp(.login, instance) else { return }
        if keepsName {
            simulation.restart(.login, instance)
            network.setPlace(place, instance)
        } else {
            logins[place].lives += 1
            logins[place].instance = "login-\(place).\(logins[place].lives)"
            addLogin(place)
        }
    }

    /// Asks the Login at a place to say goodbye; it is started again when it has.
    func drainLogin(_ place: Int) {
        let instance = logins[place].instance
        guard simulation.isUp(.login, instance) else { return }
        simulation.countFault("drain")
        network.setPlace(place, nil)
        simulation.input(.drain, to: LoginMachine.self, instance)
    }

    private func loginDrained(_ instance: String) {
        guard let place = logins.firstIndex(where: { $0.instance == instance }) else { return }
        simulation.at(micros: simulation.nowMicros + 1000) { [unowned self] simulation in
            guard logins[place].instance == instance, simulation.isUp(.login, instance) else { return }
            crashLogin(place)
        }
        simulation.at(micros: simulation.nowMicros + 400_000) { [unowned self] _ in
            restartLogin(place, keepsName: true)
        }
    }

    /// The process with all the stores dies. One that dies alone is another kind of store, which keeps what it took:
    /// only the log's death tells the writers to look where the recent store is.
    func crashStores() {
        for (role, instance) in Self.storeRoles { simulation.crash(role, instance) }
        stores.recent.crash()
    }

    func restartStores() {
        for (role, instance) in Self.storeRoles { simulation.restart(role, instance) }
    }

    /// Crashes everything but the devices; log "push" lived in memory.
    func cutPower() {
        for place in logins.indices { crashLogin(place) }
        for (role, instance) in services { simulation.crash(role, instance) }
        crashStores()
        stores.recent.cutPower()
        stores.pushLog.startAnew()
    }

    /// Starts whatever is down.
    func restartAll() {
        restartStores()
        for (role, instance) in services { simulation.restart(role, instance) }
        for place in logins.indices { restartLogin(place, keepsName: true) }
    }

    static let storeRoles: [(role: RoleName, instance: String)] = [
        (.messageLog, "log"), (.pushLog, "pushlog"), (.recentStore, "recent"), (.hotStore, "hot"),
        (.presenceStore, "presence"), (.userStore, "relational"),
    ]

    var loginCount: Int { logins.count }

    func login(_ place: Int) -> String { logins[place].instance }
}
