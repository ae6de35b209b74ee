import Machinery
import RPC
import Wire

/// The whole message path through one storm and the calm after it: devices at two Logins, every role, every store.
public struct SuiteScenario {
    public var seed: UInt64
    /// Whether anything goes wrong besides what `options` asks for.
    public var storm = true
    public var keepsLines = false
    /// Whether log "msg" is consumed a second time into empty stores and the rows compared.
    public var checksReplay = true
    /// Whether the lines say what events carry in words too.
    public var explains = false
    var options: SuiteOptions

    public init(seed: UInt64) {
        self.seed = seed
        options = SuiteOptions(seed: seed)
        // One seed in four has two of everything.
        options.isWide = seed % 4 == 3
        options.ims = seed % 2 == 1 ? 2 : 1
        options.smallLimits = true
        if seed % 5 == 0 {
            // Many conversations with a message or two, and hardly anybody there from the start: nothing later
            // reveals what went missing.
            options.users.append("dora")
            options.messages = 1
            options.latecomers = 0.8
        }
    }

    /// What happened.
    public struct Outcome {
        public internal(set) var violations: [Violation] = []
        public internal(set) var digest: UInt64 = 0
        public internal(set) var lines: [String] = []
        public internal(set) var warnings: [String] = []
        /// Messages that were accepted, and rows.
        public internal(set) var accepted = 0
        public internal(set) var rows = 0
        /// Logins and finished syncs of all devices.
        public internal(set) var logins = 0
        public internal(set) var syncs = 0
        /// How devices got what they show.
        public internal(set) var shown: [String: Int] = [:]
        /// From the end of the storm until everything was where it belongs, in virtual milliseconds.
        public internal(set) var settledAfterMS: UInt64 = 0
        /// What machines hold when nothing happens any more.
        public internal(set) var residue: [String: Footprint] = [:]
        public internal(set) var events = 0
        /// What went wrong on purpose, and how often.
        public internal(set) var faults: [String: Int] = [:]
    }

    static let stormEndMS: UInt64 = 6000
    /// Longest that anything may take to settle: a stopped MsgWriter stands still for up to 15.5 s, its group waits
    /// 10 s for it, a session without acknowledgements 10 s, retries 5 s.
    public static let patienceMS: UInt64 = 45_000
    /// After everything has settled: until kept sessions, windows and waits are over.
    private static let afterglowMS: UInt64 = 16_000

    /// Runs the history and checks every promise.
    public func run() -> Outcome {
        let world = SuiteWorld(options, keepsLines: keepsLines)
        world.simulation.explains = explains
        let watch = DeliveryWatch(world.stores)
        if storm { begin(world) }
        let simulation = world.simulation
        simulation.run(untilMS: Self.stormEndMS)
        if storm { end(world) }
        while simulation.nowMS < Self.stormEndMS + Self.patienceMS, !isQuiet(world) {
            simulation.run(untilMS: simulation.nowMS + 250)
        }
        var outcome = Outcome()
        outcome.settledAfterMS = simulation.nowMS - Self.stormEndMS
        var violations = watch.violations + check(world)
        if violations.isEmpty {
            simulation.run(untilMS: simulation.nowMS + Self.afterglowMS)
            violations += watch.violations + check(world) + registrations(world)
            outcome.residue = residue(world)
            violations += LeftOvers.check(outcome.residue)
            violations += audit(world)
            if checksReplay { violations += replay(world) }
        }
        summarize(world, &outcome)
        outcome.violations = violations
        return outcome
    }

    private func begin(_ world: SuiteWorld) {
        var storm = SuiteStorm(seed: seed, endMS: Self.stormEndMS)
        let faults = storm.faults()
        world.simulation.faults = faults.bus
        world.network.faults = faults.network
        world.stores.trouble.share = faults.trouble
        storm.schedule(on: world)
    }

    private func end(_ world: SuiteWorld) {
        world.simulation.faults = .calm
        world.network.faults = .init()
        world.stores.trouble.share = 0
    }

    // MARK: The end

    /// Devices have nothing to do, the logs are consumed, and every device shows every row.
    private func isQuiet(_ world: SuiteWorld) -> Bool {
        guard world.stores.log.isConsumed(by: "msgwriter"), world.stores.pushLog.isConsumed(by: "pushserver") else {
            return false
        }
        return world.machines(of: world.devices).allSatisfy { device in
            device.ending != nil
                || device.isSettled
                    && device.conversations.values.allSatisfy { conversation in
                        let name = SimulatedRecentStore.Name(device.config.app, conversation.name)
                        return conversation.shown.count >= world.stores.recent.rows[name]?.count ?? 0
                    }
        }
    }

    private func check(_ world: SuiteWorld) -> [Violation] {
        let devices = world.machines(of: world.devices)
        let lanes = devices.flatMap { device in
            device.names.map { name in
                let conversation = device.conversations[name]
                return SentLane(
                    name: .init(device.config.app, name), user: device.config.user, device: device.config.device,
                    messages: conversation?.sent ?? [], isSettled: conversation?.firstPending == nil)
            }
        }
        let rows = world.stores.recent.rows
        var rowPromises = RowPromises(lanes: lanes, rows: rows)
        var devicePromises = DevicePromises(devices: devices, rows: rows)
        var violations = rowPromises.check() + devicePromises.check()
        if !world.stores.log.isConsumed(by: "msgwriter") {
            violations.append(Violation(.stuck, "log msg is not consumed to its end"))
        }
        if !world.stores.pushLog.isConsumed(by: "pushserver") {
            violations.append(Violation(.stuck, "log push is not consumed to its end"))
        }
        let letters = (try? world.stores.recent.deadLetters(limit: 10)) ?? []
        if !letters.isEmpty { violations.append(Violation(.lost, "\(letters.count) dead letters")) }
        return violations
    }

    /// Every device that is online is registered, once.
    private func registrations(_ world: SuiteWorld) -> [Violation] {
        let registered = world.stores.presence.registrations
        return world.machines(of: world.devices).filter(\.isOnline).compactMap { device in
            let mine = registered.filter { $0.deviceID == device.config.device }
            guard mine.count != 1 else { return nil }
            return Violation(.unregistered, "\(device.config.device) has \(mine.count) registrations")
        }
    }

    /// What every machine held at each of several looks.
    private func residue(_ world: SuiteWorld) -> [String: Footprint] {
        var least = world.simulation.footprints
        for _ in 0..<7 {
            world.simulation.run(untilMS: world.simulation.nowMS + 170)
            let now = world.simulation.footprints
            least = least.merging(now) { $0.least($1) }
        }
        return least
    }

    /// Every device asks for everything there is.
    private func audit(_ world: SuiteWorld) -> [Violation] {
        for device in world.devices { world.simulation.change(DeviceMachine.self, device) { $0.startAudit() } }
        let end = world.simulation.nowMS + 10_000
        while world.simulation.nowMS < end,
            !world.machines(of: world.devices).allSatisfy({ $0.audit?.isDone == true })
        {
            world.simulation.run(untilMS: world.simulation.nowMS + 100)
        }
        var promises = DevicePromises(devices: world.machines(of: world.devices), rows: world.stores.recent.rows)
        return promises.checkAudits()
    }

    /// The same log, in other batches and into empty stores, gives the same rows.
    private func replay(_ world: SuiteWorld) -> [Violation] {
        var options = options
        options.seed = ~seed
        options.users = []
        let again = SuiteWorld(options, keepsLines: false, log: world.stores.log.forReplay())
        // With limits of one and a second's wait for each read seq a short log takes minutes.
        let end = again.simulation.nowMS + 300_000
        while again.simulation.nowMS < end, !again.stores.log.isConsumed(by: "msgwriter") {
            again.simulation.run(untilMS: again.simulation.nowMS + 100)
        }
        guard again.stores.recent.rows != world.stores.recent.rows else { return [] }
        let isDone = again.stores.log.isConsumed(by: "msgwriter")
        return [Violation(.replayDiffers, isDone ? "the same log gave other rows" : "the replay does not end")]
    }

    private func summarize(_ world: SuiteWorld, _ outcome: inout Outcome) {
        outcome.digest = world.simulation.digest
        outcome.lines = world.simulation.lines
        outcome.warnings = world.simulation.warnings
        outcome.events = world.simulation.events
        outcome.faults = world.simulation.faultCounts
        outcome.rows = world.stores.recent.rows.values.reduce(0) { $0 + $1.count }
        for device in world.machines(of: world.devices) {
            outcome.logins += device.logins
            outcome.syncs += device.syncs
            for conversation in device.conversations.values {
                outcome.accepted += conversation.sent.filter { $0.state == .accepted }.count
                for message in conversation.shown { outcome.shown["\(message.source)", default: 0] += 1 }
            }
        }
    }
}
