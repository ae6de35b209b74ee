import Foundation
import Identity
import IMRole
import Machinery
import MsgProxyRole
import MsgWriterRole
import RPC
import Wire

/// Clients, IM, MsgProxy, log, MsgWriter and the stores behind it: two of each role that may be doubled, through one
/// storm of losses, delays, crashes, pauses and failing stores, and the calm after it.
public struct StorageScenario {
    public var seed: UInt64
    /// Whether anything goes wrong besides the injected faults.
    public var storm = true
    public var keepsLines = false
    public var imFault = FaultHook()
    public var proxyFault = FaultHook()
    public var writerFault = FaultHook()
    public var conversations = 3
    public var messagesPerDevice = 15
    /// Whether the log is written a second time into empty stores and the rows compared.
    public var checksReplay = true
    public var buckets: UInt32 = 4

    public init(seed: UInt64) { self.seed = seed }

    /// What happened.
    public struct Outcome {
        public let violations: [Violation]
        public let digest: UInt64
        public let lines: [String]
        public let warnings: [String]
        public let rows: [String: [StoredRow]]
        public let accepted: Int
        public let endMS: UInt64
    }

    private static let stormEndMS: UInt64 = 7000
    private static let patienceMS: UInt64 = 90_000
    private static let crashable: [(RoleName, String)] = [
        (.im, "1"), (.im, "2"), (.msgProxy, "1"), (.msgProxy, "2"), (.msgWriter, "1"), (.msgWriter, "2"),
        (.messageLog, "log"), (.recentStore, "recent"), (.hotStore, "hot"), (.pushProxy, "push"), (.user, "user"),
        (.msgReader, "reader"),
    ]

    /// Runs the history and checks every promise.
    public func run() -> Outcome {
        let simulation = Simulation(seed: seed, faults: storm ? .storm : .calm, keepsLines: keepsLines)
        build(simulation)
        let watch = DeliveryWatch(buckets: buckets)
        simulation.observer = { [unowned simulation] in watch.see($0, simulation) }
        if storm { schedule(simulation) }
        simulation.run(untilMS: Self.stormEndMS)
        while simulation.nowMS < Self.patienceMS, !isQuiet(simulation) {
            simulation.run(untilMS: simulation.nowMS + 500)
        }
        var violations = watch.violations
        let lanes = simulation.machine(ScriptedClients.self, "clients")?.lanes ?? []
        if let recent = simulation.machine(FakeRecent.self, "recent") {
            var promises = Promises(clients: lanes, recent: recent)
            violations += promises.check()
            if !isQuiet(simulation) { violations.append(Violation(.stuck, "the log is not delivered to its end")) }
            if checksReplay { violations += replayDiffers(simulation, from: recent) }
        }
        return Outcome(
            violations: violations, digest: simulation.digest, lines: simulation.lines,
            warnings: simulation.warnings, rows: simulation.machine(FakeRecent.self, "recent")?.rows ?? [:],
            accepted: lanes.reduce(0) { $0 + $1.sent.filter { $0.state == .accepted }.count },
            endMS: simulation.nowMS)
    }

    // MARK: The suite

    private func build(_ simulation: Simulation) {
        let trouble = storm ? 0.03 : 0
        let (log, recent) = (seed &+ 1, seed &+ 2)
        let buckets = buckets
        simulation.add("log") { $0?.restarted() ?? FakeLog(logs: ["msg": buckets], seed: log, trouble: trouble) }
        simulation.add("recent") { $0 ?? FakeRecent(seed: recent, trouble: trouble) }
        addTiers(simulation, trouble: trouble)
        for instance in ["1", "2"] {
            var im = IMConfig(instance: instance)
            im.fault = instance == "1" ? imFault : FaultHook()
            simulation.add(instance) { (_: IMMachine?) in IMMachine(config: im) }
            var proxy = MsgProxyConfig(instance: instance)
            proxy.buckets = buckets
            proxy.fault = instance == "1" ? proxyFault : FaultHook()
            simulation.add(instance) { (_: MsgProxyMachine?) in MsgProxyMachine(config: proxy) }
            var writer = MsgWriterConfig(instance: instance, seed: seed &+ 3)
            writer.shardOfBucket = (0..<buckets).map { $0 % 2 }
            writer.recordsPerRound = 16
            writer.fault = instance == "1" ? writerFault : FaultHook()
            simulation.add(instance) { (_: MsgWriterMachine?) in MsgWriterMachine(config: writer) }
        }
        let clients = ScriptedClients(
            devices: devices, messages: messagesPerDevice, seed: seed &+ 4, losesAnswers: storm)
        simulation.add("clients") { $0 ?? clients }
    }

    private func addTiers(_ simulation: Simulation, trouble: Double) {
        let seed = seed
        simulation.add("hot") { $0 ?? FakeHot(seed: seed &+ 5, trouble: trouble) }
        simulation.add("push") {
            $0 ?? FakePushProxy(seed: seed &+ 6, trouble: trouble, audience: ScriptedClients.role)
        }
        simulation.add("user") { $0 ?? FakeUser(seed: seed &+ 7, trouble: trouble) }
        simulation.add("reader") { (_: FakeReader?) in FakeReader() }
    }

    /// Three devices per conversation, two of one user and one of the other.
    private var devices: [ScriptedClients.Device] {
        (0..<conversations).flatMap { number in
            let (one, other) = ("a\(number)", "b\(number)")
            let conversation = ConversationName.pair(of: one, and: other).id
            return [(one, "phone"), (one, "desk"), (other, "phone")].map { user, device in
                ScriptedClients.Device(
                    app: "app", user: user, device: "\(user)-\(device)", conversation: conversation)
            }
        }
    }

    private func schedule(_ simulation: Simulation) {
        var random = SeededRandom(seed: seed ^ 0x5eed)
        var time: UInt64 = 300
        while time < Self.stormEndMS - 500 {
            time += UInt64.random(in: 200...1500, using: &random)
            let (role, instance) = Self.crashable[Int.random(in: 0..<Self.crashable.count, using: &random)]
            let ms = UInt64.random(in: 20...2500, using: &random)
            if random.chance(0.3) {
                let pause = role == .msgWriter ? ms * 6 : ms
                simulation.at(ms: time) { $0.pause(role, instance, forMS: pause) }
            } else {
                simulation.at(ms: time) { $0.crash(role, instance) }
                simulation.at(ms: time + ms) { $0.restart(role, instance) }
            }
        }
        simulation.at(ms: Self.stormEndMS) { simulation in
            simulation.faults = .calm
            simulation.change(FakeLog.self, "log") { $0.trouble = 0 }
            simulation.change(FakeRecent.self, "recent") { $0.trouble = 0 }
            simulation.change(FakeHot.self, "hot") { $0.trouble = 0 }
            simulation.change(FakePushProxy.self, "push") { $0.trouble = 0 }
            simulation.change(FakeUser.self, "user") { $0.trouble = 0 }
        }
    }

    /// All answers are there and the log is delivered to its end.
    private func isQuiet(_ simulation: Simulation) -> Bool {
        guard simulation.machine(ScriptedClients.self, "clients")?.isSettled == true,
            let log = simulation.machine(FakeLog.self, "log")
        else { return false }
        let committed = log.topics["msg"]?.groups["msgwriter"]?.committed ?? [:]
        return (0..<buckets).allSatisfy { (committed[$0] ?? 0) == UInt64(log.entries("msg", $0).count) }
    }

    // MARK: Replay

    /// The same log, written again into empty stores in other batches, gives the same rows.
    private func replayDiffers(_ simulation: Simulation, from recent: FakeRecent) -> [Violation] {
        guard let log = simulation.machine(FakeLog.self, "log")?.forReplay(seed: seed) else { return [] }
        let again = Simulation(seed: seed &+ 99, faults: .calm)
        again.add("log") { $0 ?? log }
        again.add("recent") { $0 ?? FakeRecent(seed: 1) }
        addTiers(again, trouble: 0)
        var config = MsgWriterConfig(instance: "replay", seed: 1)
        config.recordsPerRound = 5
        config.fault = writerFault
        again.add("1") { (_: MsgWriterMachine?) in MsgWriterMachine(config: config) }
        again.run(untilMS: 3000)
        let rows = again.machine(FakeRecent.self, "recent")?.rows ?? [:]
        if rows == recent.rows || writerFault.isArmed { return [] }
        return [Violation(.replayDiffers, "the same log gave other rows")]
    }
}

/// Watches the group offset: what it passes must be in every tier, in log "push" and in the user index.
final class DeliveryWatch {
    private(set) var violations: [Violation] = []
    private let buckets: UInt32
    private var checked: [UInt32: UInt64] = [:]

    init(buckets: UInt32) { self.buckets = buckets }

    func see(_ observation: Observation, _ simulation: Simulation) {
        guard observation.role == .messageLog, case .logCommit(let body) = observation.call,
            let log = simulation.machine(FakeLog.self, "log"),
            let recent = simulation.machine(FakeRecent.self, "recent")
        else { return }
        for position in body.positions {
            let first = checked[position.partition] ?? 0
            guard position.offset > first else { continue }
            let entries = log.entries(body.log, position.partition)
            for offset in first..<min(position.offset, UInt64(entries.count)) {
                check(entries[Int(offset)], position.partition, recent, simulation)
            }
            checked[position.partition] = position.offset
        }
    }

    private func check(_ entry: Data, _ partition: UInt32, _ recent: FakeRecent, _ simulation: Simulation) {
        guard let record = try? LogRecord(serializedBytes: entry),
            case .storable(let key) = record.verdict(partition: partition, partitions: buckets)
        else { return }
        guard let row = recent.row(record.appID, record.conversation, key: key) else {
            violations.append(Violation(.lost, "a record of \(record.conversation) was passed without a row"))
            return
        }
        let name = FakeHot.name(row.appID, row.conversation, row.seq)
        if simulation.machine(FakeHot.self, "hot")?.has.contains(name) != true {
            violations.append(Violation(.deliveredEarly, "\(name) is not in the hot store"))
        }
        if simulation.machine(FakePushProxy.self, "push")?.has.contains(name) != true {
            violations.append(Violation(.deliveredEarly, "\(name) is not in log push"))
        }
        let entries = simulation.machine(FakeUser.self, "user")?.entries ?? [:]
        for member in record.members {
            let index = entries[FakeUser.name(row.appID, member, row.conversation)]
            if index == nil || (member == row.sender && (index?.readSeq ?? 0) < row.seq) {
                violations.append(Violation(.deliveredEarly, "\(name) is not in the index of \(member)"))
            }
        }
    }
}
