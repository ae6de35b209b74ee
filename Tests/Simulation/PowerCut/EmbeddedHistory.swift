import EmbeddedStore
import Foundation
import IMRole
import Identity
import Machinery
import MsgProxyRole
import MsgReaderRole
import MsgWriterRole
import RPC
import TestKit
import UserRole
import Wire

@testable import Simulator

/// Clients, IM, MsgProxy, MsgWriter, MsgReader and User over the real embedded stores on a simulated disk. The power
/// goes several times, each time at a seeded step of the disk; then everything starts again from what is left, while
/// the clients, who are other machines, wait for their answers.
struct EmbeddedHistory {
    let seed: UInt64
    var faults = SimulatedDisk.Faults()
    var cuts = 4
    /// Whether the disk is full for a while in every life.
    var fillsUp = false

    struct Outcome {
        var violations: [Violation] = []
        var accepted = 0
        var seen = 0
        var cutsAtAStep = 0
        /// Cuts and kills that found rows which were not in the recent store's file yet.
        var cutsBeforeTheFile = 0
        /// Milliseconds for which the disk was full.
        var fullMS: UInt64 = 0
    }

    private static let conversations = 3
    private static let messagesPerDevice = 40
    private static let buckets: UInt32 = 4
    private static let longestLifeMS: UInt64 = 2000
    private static let patienceMS: UInt64 = 60_000
    private static let servers: [(RoleName, String)] = [
        (.messageLog, "log"), (.recentStore, "recent"), (.hotStore, "hot"), (.userStore, "relational"),
        (.pushProxy, "push"), (.user, "user"), (.msgReader, "reader"), (.msgWriter, "writer"), (.msgProxy, "proxy"),
        (.im, "im"),
    ]

    private var members: [(conversation: String, users: [String])] {
        (0..<Self.conversations).map { number in
            let (one, other) = ("a\(number)", "b\(number)")
            return (ConversationName.pair(of: one, and: other).id, [one, other])
        }
    }

    private var config: EmbeddedConfig {
        var config = EmbeddedConfig()
        config.partitions = Self.buckets
        config.segmentBytes = 8000
        config.indexBlockBytes = 700
        config.tailBytes = seed % 2 == 0 ? 0 : 1 << 20
        config.cachedHeads = seed % 3 == 0 ? 2 : 65_536
        config.recentCacheBytes = 1 << 20
        // So that checkpoints happen, and the power goes in their middle.
        config.checkpointPages = [15, 40, 150, 16_000][Int(seed % 4)]
        return config
    }

    func run() -> Outcome {
        do {
            let stores = try EmbeddedStores(config: config, faults: faults)
            try stores.addUsers(members.flatMap(\.users))
            return live(stores)
        } catch { return Outcome(violations: [Violation(.shownWrong, "the stores did not open: \(error)")]) }
    }

    private func live(_ stores: EmbeddedStores) -> Outcome {
        let simulation = Simulation(seed: seed, faults: .calm)
        build(simulation, stores)
        var outcome = Outcome()
        var random = SeededRandom(seed: seed ^ 0xc07)
        do {
            for _ in 0..<cuts {
                runUntilCut(simulation, stores, &random, &outcome)
                try end(simulation, stores, &random)
                outcome.violations += stores.tokenViolations()
            }
            settle(simulation, stores, &outcome)
            // The last cut finds everything delivered: what was promised with that is checked before anybody writes.
            let rows = stores.rows(members.map(\.conversation))
            try stores.powerCut(using: &random)
            let named = Dictionary(uniqueKeysWithValues: members.map { ($0.conversation, $0.users) })
            outcome.violations += stores.indexViolations(rows, members: named)
            restart(simulation)
            settle(simulation, stores, &outcome)
        } catch {
            outcome.violations.append(Violation(.shownWrong, "the stores did not open: \(error)"))
            return outcome
        }
        check(simulation, stores, &outcome)
        return outcome
    }

    // MARK: The suite

    private func build(_ simulation: Simulation, _ stores: EmbeddedStores) {
        simulation.add("log") { _ in stores.backends.logMachine() }
        simulation.add("recent") { _ in stores.backends.recentMachine() }
        simulation.add("hot") { _ in stores.backends.hotMachine() }
        simulation.add("relational") { _ in stores.backends.userMachine() }
        // In one process log "push" is in memory: it starts empty every time.
        simulation.add("push") { (_: MemoryPushProxy?) in MemoryPushProxy(audience: ScriptedClients.role) }
        simulation.add("user") { (_: UserMachine?) in UserMachine(instance: "user") }
        simulation.add("reader") { (_: MsgReaderMachine?) in MsgReaderMachine(instance: "reader") }
        var writer = MsgWriterConfig(instance: "writer", seed: seed &+ 3)
        writer.recordsPerRound = 16
        simulation.add("writer") { (_: MsgWriterMachine?) in MsgWriterMachine(config: writer) }
        var proxy = MsgProxyConfig(instance: "proxy")
        proxy.buckets = Self.buckets
        simulation.add("proxy") { (_: MsgProxyMachine?) in MsgProxyMachine(config: proxy) }
        simulation.add("im") { (_: IMMachine?) in IMMachine(config: IMConfig(instance: "im")) }
        // Whoever reads makes the recent store write its file, so some histories have nobody who reads often.
        for (name, everyMS) in [("onlooker", [17, 60, 250][Int(seed % 3)]), ("visitor", 1100 as UInt32)] {
            let onlooker = Onlooker(
                app: EmbeddedStores.app, conversations: members.map(\.conversation), everyMS: everyMS)
            simulation.add(name) { $0 ?? onlooker }
        }
        let clients = ScriptedClients(
            devices: devices, messages: Self.messagesPerDevice, seed: seed &+ 4, losesAnswers: true)
        simulation.add("clients") { $0 ?? clients }
    }

    /// Two devices of one user and one of the other in every conversation.
    private var devices: [ScriptedClients.Device] {
        members.flatMap { conversation, users in
            [(users[0], "phone"), (users[0], "desk"), (users[1], "phone")].map { user, device in
                ScriptedClients.Device(
                    app: EmbeddedStores.app, user: user, device: "\(user)-\(device)", conversation: conversation)
            }
        }
    }

    // MARK: Power cuts

    /// Lets the suite live until the disk has lost power in the middle of something, or its time is up.
    private func runUntilCut(
        _ simulation: Simulation, _ stores: EmbeddedStores, _ random: inout SeededRandom, _ outcome: inout Outcome
    ) {
        let steps = Int.random(in: 1...(random.chance(0.3) ? 60 : 700), using: &random)
        stores.disk.setFaults { $0.stepsToPowerLoss = steps }
        let end = simulation.nowMS + UInt64.random(in: 100...Self.longestLifeMS, using: &random)
        let full = fillsUp ? simulation.nowMS + UInt64.random(in: 50...400, using: &random) : .max
        let freed = fillsUp ? full + UInt64.random(in: 100...800, using: &random) : .max
        while simulation.nowMS < end, !stores.disk.hasLostPower {
            simulation.run(untilMS: simulation.nowMS + 1)
            if simulation.nowMS == full {
                let room = Int.random(in: 0...20_000, using: &random)
                let capacity = stores.disk.usedBytes + room
                stores.disk.setFaults { $0.capacity = capacity }
            }
            if simulation.nowMS == freed { stores.disk.setFaults { $0.capacity = .max } }
            if simulation.nowMS >= full, simulation.nowMS < freed { outcome.fullMS += 1 }
            if random.chance(0.01) { stores.revoke() }
            if random.chance(0.02) { stores.flush(rows: Int.random(in: 1...8, using: &random)) }
        }
        if stores.disk.hasLostPower { outcome.cutsAtAStep += 1 }
        if stores.backends.recent.unflushedRowCount > 0 { outcome.cutsBeforeTheFile += 1 }
    }

    private func end(_ simulation: Simulation, _ stores: EmbeddedStores, _ random: inout SeededRandom) throws {
        for (role, instance) in Self.servers { simulation.crash(role, instance) }
        // Who starts on a full disk is told so and does not start; that is another test.
        stores.disk.setFaults { $0.capacity = .max }
        if random.chance(0.15), !stores.disk.hasLostPower {
            try stores.kill()
        } else {
            try stores.powerCut(using: &random)
        }
        simulation.run(untilMS: simulation.nowMS + UInt64.random(in: 1...300, using: &random))
        for (role, instance) in Self.servers { simulation.restart(role, instance) }
    }

    private func restart(_ simulation: Simulation) {
        for (role, instance) in Self.servers {
            simulation.crash(role, instance)
            simulation.restart(role, instance)
        }
    }

    /// No more troubles: until every client has its answers and the log is delivered to its end.
    private func settle(_ simulation: Simulation, _ stores: EmbeddedStores, _ outcome: inout Outcome) {
        stores.disk.setFaults { $0.stepsToPowerLoss = nil }
        let end = simulation.nowMS + Self.patienceMS
        while simulation.nowMS < end {
            simulation.run(untilMS: simulation.nowMS + 100)
            if simulation.machine(ScriptedClients.self, "clients")?.isSettled == true, stores.isDelivered { return }
        }
        let why = simulation.warnings.suffix(2).joined(separator: "; ")
        outcome.violations.append(Violation(.stuck, "the log is not delivered to its end: \(why)"))
    }

    // MARK: Promises

    private func check(
        _ simulation: Simulation, _ stores: EmbeddedStores, _ outcome: inout Outcome
    ) {
        let clients = simulation.machine(ScriptedClients.self, "clients")
        let (lanes, pushed) = (clients?.lanes ?? [], clients?.seen ?? SeenMessages())
        let rows = stores.rows(members.map(\.conversation))
        var promises = RowPromises(lanes: lanes.map(\.sentLane), rows: rows)
        outcome.violations += promises.check()
        let readers = ["onlooker", "visitor"].compactMap { simulation.machine(Onlooker.self, $0)?.notes }
        for notes in [pushed] + readers {
            outcome.violations += notes.violations
            for (conversation, places) in notes.places.sorted(by: { $0.key < $1.key }) {
                let stored = rows[SimulatedRecentStore.Name(EmbeddedStores.app, conversation)] ?? []
                for (seq, message) in places.sorted(by: { $0.key < $1.key }) {
                    let now = seq <= stored.count ? stored[Int(seq) - 1].message : Data()
                    if now == message { continue }
                    outcome.violations.append(
                        Violation(.lost, "\(conversation) \(seq) had been shown and is another message now"))
                }
            }
        }
        outcome.accepted = lanes.reduce(0) { $0 + $1.sent.filter { $0.state == .accepted }.count }
        outcome.seen = readers.reduce(pushed.count) { $0 + $1.count }
    }
}
