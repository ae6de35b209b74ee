import Machinery
import RPC

/// What goes wrong in a run, from its seed: which kinds at all (a seed with few kinds goes deeper into each), and when.
struct SuiteStorm {
    enum Kind: CaseIterable {
        /// A process dies and comes back.
        case crash
        /// A process stands still for a while, ...
        case pause
        /// ... a MsgWriter for so long that others take its buckets.
        case zombie
        /// One store dies; hot and presence come back empty.
        case storeCrash
        /// The process that has all the stores dies.
        case storesCrash
        /// Everything but the devices dies, and log "push" with it.
        case powerCut
        case loginCrash
        case loginDrain
        /// A device's connection breaks, ...
        case cut
        /// ... is cut without anybody being told, ...
        case silence
        /// ... or its device reads nothing for a while.
        case stall
    }

    let kinds: [Kind]
    let endMS: UInt64
    private var random: SeededRandom
    private let gapMS: ClosedRange<UInt64>

    init(seed: UInt64, endMS: UInt64) {
        self.endMS = endMS
        var random = SeededRandom(seed: seed ^ 0x5eed)
        let share: Double = [0.3, 0.6, 1.0].randomElement(using: &random) ?? 1
        kinds = Kind.allCases.filter { _ in random.chance(share) }
        gapMS = [100...500, 200...1000, 400...2000].randomElement(using: &random) ?? 200...1000
        self.random = random
    }

    /// Chances of the bus and the network, by seed too.
    mutating func faults() -> (bus: BusFaults, network: ClientNetwork.Faults, trouble: Double) {
        var bus = BusFaults()
        let weights = [0, 0.003, 0.01, 0.02]
        bus.lostCalls = weights.randomElement(using: &random) ?? 0
        bus.lostReplies = weights.randomElement(using: &random) ?? 0
        bus.refusals = weights.randomElement(using: &random) ?? 0
        bus.slow = [0, 0.05, 0.2].randomElement(using: &random) ?? 0
        bus.slowMicros = [20_000, 200_000, 1_500_000].randomElement(using: &random) ?? 20_000
        var network = ClientNetwork.Faults()
        network.lostAnswers = [0, 0.02, 0.06].randomElement(using: &random) ?? 0
        network.lostAcks = [0, 0.02, 0.06].randomElement(using: &random) ?? 0
        network.slow = [0, 0.1, 0.3].randomElement(using: &random) ?? 0
        return (bus, network, [0, 0.01, 0.03].randomElement(using: &random) ?? 0)
    }

    /// Puts every fault of the run into the agenda.
    mutating func schedule(on world: SuiteWorld) {
        guard !kinds.isEmpty else { return }
        var time: UInt64 = 200
        while true {
            time += UInt64.random(in: gapMS, using: &random)
            guard time < endMS, let kind = kinds.randomElement(using: &random) else { return }
            schedule(kind, at: time, on: world)
        }
    }

    private mutating func schedule(_ kind: Kind, at time: UInt64, on world: SuiteWorld) {
        let ms = UInt64.random(in: 20...2500, using: &random)
        let place = Int.random(in: 0..<world.loginCount, using: &random)
        switch kind {
        case .crash:
            guard let (role, instance) = world.services.randomElement(using: &random) else { return }
            crash(role, instance, at: time, forMS: ms, on: world)
        case .pause:
            guard let (role, instance) = pausable(world, place) else { return }
            world.simulation.at(ms: time) { $0.pause(role, instance, forMS: ms) }
        case .zombie:
            // Once a run: the other writer must be there to take over.
            let pause = 10_500 + ms * 2
            world.simulation.at(ms: min(time, 1500)) { $0.pause(.msgWriter, "msgwriter-1", forMS: pause) }
        case .storeCrash:
            guard let (role, instance) = SuiteWorld.storeRoles.randomElement(using: &random) else { return }
            crash(role, instance, at: time, forMS: ms, on: world)
        case .storesCrash:
            world.simulation.at(ms: time) { [unowned world] _ in world.crashStores() }
            world.simulation.at(ms: time + ms) { [unowned world] _ in world.restartStores() }
        case .powerCut:
            guard random.chance(0.3) else { return }
            world.simulation.at(ms: time) { [unowned world] _ in world.cutPower() }
            world.simulation.at(ms: time + ms) { [unowned world] _ in world.restartAll() }
        case .loginCrash:
            let keepsName = random.chance(0.5)
            world.simulation.at(ms: time) { [unowned world] _ in world.crashLogin(place) }
            world.simulation.at(ms: time + ms) { [unowned world] _ in world.restartLogin(place, keepsName: keepsName) }
        case .loginDrain: world.simulation.at(ms: time) { [unowned world] _ in world.drainLogin(place) }
        case .cut, .silence, .stall: disturbDevice(kind, at: time, forMS: ms, on: world)
        }
    }

    private func crash(
        _ role: RoleName, _ instance: String, at time: UInt64, forMS: UInt64, on world: SuiteWorld
    ) {
        world.simulation.at(ms: time) { $0.crash(role, instance) }
        world.simulation.at(ms: time + forMS) { $0.restart(role, instance) }
    }

    private mutating func pausable(_ world: SuiteWorld, _ place: Int) -> (RoleName, String)? {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: SuiteWorld.storeRoles.randomElement(using: &random).map { ($0.role, $0.instance) }
        case 1: (.login, world.login(place))
        default: world.services.randomElement(using: &random).map { ($0.role, $0.instance) }
        }
    }

    private mutating func disturbDevice(_ kind: Kind, at time: UInt64, forMS: UInt64, on world: SuiteWorld) {
        guard let device = world.devices.randomElement(using: &random) else { return }
        world.simulation.at(ms: time) { [unowned world] _ in
            guard let wire = world.network.wires(of: device).last else { return }
            switch kind {
            case .cut: world.network.cut(wire)
            case .silence: world.network.silence(wire)
            default: world.network.stall(wire, forMS: forMS)
            }
        }
    }
}
