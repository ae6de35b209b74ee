import Identity
import Machinery
import RPC
import Wire

/// One history of any set of machines: one thread, one clock, one seed. What the hosts and connections of a real
/// suite may do to a call, this bus does: delay it, lose it or its answer (the caller hears `.unknown`), refuse it
/// before it left, deliver calls of different pairs in any order. It never delivers a call twice and never turns two
/// calls of one pair round, because connections do not either.
///
/// Isolation: none; a simulation belongs to whoever runs it.
public final class Simulation {
    /// When the simulated clock starts: 2025-01-01, and some uptime.
    public static let epochWallMS: UInt64 = 1_735_689_600_000
    private static let epochMicros: UInt64 = 1_000_000_000

    public let seed: UInt64
    /// May be changed while running, for example to end a storm.
    public var faults: BusFaults
    /// The event log, when it is kept: one line per event that a machine saw and per crash.
    public private(set) var lines: [String] = []
    /// A hash over the time, place, kind and number of every event; `lines` has the hashes of what they carried too.
    public private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325
    /// What went wrong and how often: "crash ROLE", "pause", "lost call" and so on.
    public private(set) var faultCounts: [String: Int] = [:]
    /// Events that machines saw.
    public private(set) var events = 0
    /// What machines wanted a person to see, in order.
    public private(set) var warnings: [String] = []

    private let keepsLines: Bool
    /// Whether the lines say what events carry in words too: long, for people.
    public var explains = false
    private var random: SeededRandom
    private var micros: UInt64 = 0
    private var agenda = Agenda()
    private var hosts: [SimulatedHost] = []
    private var places: [String: Int] = [:]
    private var byRole: [RoleName: [SimulatedHost]] = [:]
    private var lastArrival: [UInt64: UInt64] = [:]

    /// - Parameter keepsLines: whether `lines` is filled; `digest` always is.
    public init(seed: UInt64, faults: BusFaults, keepsLines: Bool = false) {
        self.seed = seed
        self.faults = faults
        self.keepsLines = keepsLines
        self.random = SeededRandom(seed: seed)
    }

    // MARK: Setting up

    /// Adds a machine and starts it.
    ///
    /// - Parameter make: makes the machine; after a crash it is called with the dead one, from which a store takes what
    ///   is durable and everybody else nothing.
    public func add<Machine: RoleMachine>(
        _ instance: String, output: @escaping (Machine.Output) -> Void = { _ in },
        make: @escaping (_ crashed: Machine?) -> Machine
    ) {
        let host = MachineHost(instance: instance, number: hosts.count, output: output, make: make)
        precondition(places[host.name] == nil, "\(host.name) was added twice")
        places[host.name] = hosts.count
        hosts.append(host)
        byRole[Machine.role, default: []].append(host)
        post(.start, to: host)
    }

    /// A copy of a machine's state; nil when there is no such machine.
    public func machine<Machine: RoleMachine>(_ type: Machine.Type, _ instance: String) -> Machine? {
        (host(Machine.role, instance) as? MachineHost<Machine>)?.machine
    }

    /// Changes a machine's state from outside, between its turns: to end a store's trouble, to plant an entry.
    public func change<Machine: RoleMachine>(
        _ type: Machine.Type, _ instance: String, _ work: (inout Machine) -> Void
    ) {
        (host(Machine.role, instance) as? MachineHost<Machine>)?.change(work)
    }

    /// An event from outside the suite. Ignored while the machine is down.
    public func input<Machine: RoleMachine>(_ value: Machine.Input, to type: Machine.Type, _ instance: String)
    where Machine.Input: SimulatedInput {
        guard let host = host(Machine.role, instance) as? MachineHost<Machine>, host.isUp else { return }
        host.inputs.append(value)
        post(.input, to: host)
    }

    private func host(_ role: RoleName, _ instance: String) -> SimulatedHost? {
        places[Self.name(role, instance)].map { hosts[$0] }
    }

    private static func name(_ role: RoleName, _ instance: String) -> String { "\(role)/\(instance)" }

    /// Whether a machine runs at this moment.
    public func isUp(_ role: RoleName, _ instance: String) -> Bool { host(role, instance)?.isUp ?? false }

    /// How much each running machine holds, by "role/instance".
    public var footprints: [String: Footprint] {
        var found: [String: Footprint] = [:]
        for host in hosts where host.isUp { found[host.name] = host.footprint() }
        return found
    }

    // MARK: Time

    public var now: Instant {
        Instant(micros: Self.epochMicros + micros, wallMS: Self.epochWallMS + micros / 1000)
    }

    public var nowMS: UInt64 { micros / 1000 }

    /// Lets time pass until the given moment, in milliseconds since the start.
    public func run(untilMS end: UInt64) {
        while let next = agenda.next, next <= end * 1000 {
            guard let (time, event) = agenda.take() else { break }
            micros = max(micros, time)
            carryOut(event)
        }
        micros = max(micros, end * 1000)
    }

    /// Does something at a moment.
    public func at(ms: UInt64, _ work: @escaping (Simulation) -> Void) { agenda.add(ms * 1000, .work(work)) }

    /// Microseconds since the start.
    var nowMicros: UInt64 { micros }

    func at(micros time: UInt64, _ work: @escaping (Simulation) -> Void) { agenda.add(time, .work(work)) }

    // MARK: Crashes

    /// Ends a machine as kill -9 would. What it was asked and had not answered is unknown to the askers.
    public func crash(_ role: RoleName, _ instance: String) {
        guard let host = host(role, instance), host.isUp else { return }
        note("crash", host)
        countFault("crash \(role)")
        for (_, call) in host.incoming.sorted(by: { $0.key < $1.key }) { breakOff(call) }
        host.stop()
    }

    /// Starts a crashed machine again.
    public func restart(_ role: RoleName, _ instance: String) {
        guard let host = host(role, instance), !host.isUp else { return }
        note("restart", host)
        host.restart()
        post(.start, to: host)
    }

    /// Lets a machine see nothing for a while, as a stopped process or a swapped-out one would.
    public func pause(_ role: RoleName, _ instance: String, forMS: UInt64) {
        guard let host = host(role, instance) else { return }
        note("pause for \(forMS) ms", host)
        countFault("pause")
        host.pausedUntil = micros + forMS * 1000
    }

    /// The asker of a call whose connection broke.
    private func breakOff(_ call: CallOrigin) {
        let failure = Failure(.outcomeUnknown, "the connection broke")
        agenda.add(micros + delay(), .reply(call, .unknown(failure)))
    }

    // MARK: Events

    private func carryOut(_ event: AgendaEvent) {
        switch event {
        case .work(let work): work(self)
        case .turn(let number, let life): turn(hosts[number], life)
        case .timer(let number, let life, let id):
            if hosts[number].life == life { post(.timer(id), to: hosts[number]) }
        case .reply(let call, let result): deliver(call, result)
        case .call(let number, let life, let origin, let payload, let deadline):
            let host = hosts[number]
            guard host.isUp, host.life == life else {
                if let origin { breakOff(origin) }
                return
            }
            post(.call(host.take(origin), payload, deadline: deadline), to: host)
        }
    }

    /// A call ends once: by its answer, its broken connection or its deadline, whichever comes first.
    private func deliver(_ call: CallOrigin, _ result: CallResult) {
        let host = hosts[call.host]
        guard host.life == call.life, let token = host.outgoing.removeValue(forKey: call.id) else { return }
        post(.reply(token, result), to: host)
    }

    private func post(_ event: HostEvent, to host: SimulatedHost) {
        host.mailbox.append(event)
        guard !host.turnIsSet else { return }
        host.turnIsSet = true
        let jitter = UInt64.random(in: 0...faults.turnMicros, using: &random)
        agenda.add(micros + jitter, .turn(host.number, host.life))
    }

    /// A host empties its mailbox and flushes, as on a lane.
    private func turn(_ host: SimulatedHost, _ life: UInt64) {
        guard host.life == life, host.isUp else { return }
        if host.pausedUntil > micros {
            agenda.add(host.pausedUntil, .turn(host.number, life))
            return
        }
        host.turnIsSet = false
        let events = host.mailbox
        host.mailbox = []
        for event in events {
            record(event, host)
            for action in host.handle(event, now: now) { perform(action, of: host) }
        }
        for action in host.handle(.flush, now: now) { perform(action, of: host) }
    }

    // MARK: Actions

    private func perform(_ action: HostAction, of host: SimulatedHost) {
        switch action {
        case .call(let token, let address, let payload, let timeoutMS):
            let origin = host.ask(token)
            let deadline = micros + UInt64(timeoutMS) * 1000
            agenda.add(deadline, .reply(origin, .unknown(Failure(.deadlineExceeded, "no answer in time"))))
            guard let target = resolve(address) else {
                let failure = Failure(.serviceUnavailable, "no instance of \(address) is reachable")
                agenda.add(micros + 1, .reply(origin, .refused(failure)))
                return
            }
            if random.chance(faults.refusals) {
                countFault("refused call")
                agenda.add(micros + 1, .reply(origin, .refused(Failure(.overloaded, "its mailbox is full"))))
                return
            }
            if random.chance(faults.lostCalls) { return countFault("lost call") }
            let event = AgendaEvent.call(
                target.number, target.life, origin, payload, deadline: Self.epochMicros + deadline)
            agenda.add(arrival(from: host, to: target), event)
        case .tell(let address, let payload):
            for target in targets(address) where !random.chance(faults.lostCalls) {
                let deadline = now.micros + 10_000_000
                let event = AgendaEvent.call(target.number, target.life, nil, payload, deadline: deadline)
                agenda.add(arrival(from: host, to: target), event)
            }
        case .reply(let id, let result):
            guard let origin = host.incoming.removeValue(forKey: id.value) else { return }
            if random.chance(faults.lostReplies) { return countFault("lost reply") }
            agenda.add(arrival(from: host, to: hosts[origin.host]), .reply(origin, result))
        case .timer(let id, let afterMS):
            agenda.add(micros + UInt64(afterMS) * 1000, .timer(host.number, host.life, id))
        case .warn(let text, let values):
            let sorted = values.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
            warnings.append("\(host.name): \(text) \(sorted)")
            note("warn \(text)", host)
        }
    }

    private func targets(_ address: Address) -> [SimulatedHost] {
        guard case .all(let role) = address else { return resolve(address).map { [$0] } ?? [] }
        return live(role)
    }

    private func live(_ role: RoleName) -> [SimulatedHost] { byRole[role]?.filter(\.isUp) ?? [] }

    private func resolve(_ address: Address) -> SimulatedHost? {
        switch address {
        case .any(let role): return live(role).randomElement(using: &random)
        case .instance(let role, let instance): return host(role, instance).flatMap { $0.isUp ? $0 : nil }
        case .keyed(let role, let key):
            return live(role).max { one, other in
                StableHash.mix(StableHash.of(one.instance) ^ key) < StableHash.mix(StableHash.of(other.instance) ^ key)
            }
        case .all: return nil
        }
    }

    private func delay() -> UInt64 {
        let most = random.chance(faults.slow) ? faults.slowMicros : faults.delayMicros
        return UInt64.random(in: 20...max(21, most), using: &random)
    }

    /// When something sent now arrives: never before what the same pair sent earlier.
    private func arrival(from: SimulatedHost, to: SimulatedHost) -> UInt64 {
        let pair = UInt64(from.number) << 32 | UInt64(to.number)
        let time = max(micros + delay(), (lastArrival[pair] ?? 0) + 1)
        lastArrival[pair] = time
        return time
    }

    // MARK: The event log

    private func record(_ event: HostEvent, _ host: SimulatedHost) {
        events += 1
        let (kind, number) = event.numbers
        var input: (any SimulatedInput)?
        if case .input = event { input = host.nextInput }
        mix(micros)
        mix(UInt64(host.number))
        mix(kind)
        mix(input?.logNumber ?? number)
        guard keepsLines else { return }
        let more = explains ? " | " + (input?.logExplanation ?? event.explanation) : ""
        lines.append("\(micros) \(host.name) \(input?.logText ?? event.text)\(more)")
    }

    private func note(_ what: String, _ host: SimulatedHost) { note(what, host.name) }

    /// Writes something that is no machine's event into the event log.
    func note(_ what: String, _ whom: String) {
        mix(micros)
        mix(StableHash.of(whom))
        mix(StableHash.of(what))
        if keepsLines { lines.append("\(micros) \(whom) \(what)") }
    }

    /// Something went wrong on purpose.
    func countFault(_ name: String) { faultCounts[name, default: 0] += 1 }

    private func mix(_ word: UInt64) { digest = StableHash.mix(digest ^ word) &* 0x100_0000_01b3 }
}

/// What the bus may do to calls. Chances are 0 to 1, per call.
public struct BusFaults: Sendable {
    /// The call vanishes after it was handed over.
    public var lostCalls = 0.0
    /// The call is carried out, its answer vanishes.
    public var lostReplies = 0.0
    /// The call is refused before it leaves.
    public var refusals = 0.0
    /// Longest delay of most calls, and of the share `slow`.
    public var delayMicros: UInt64 = 300
    public var slowMicros: UInt64 = 20_000
    public var slow = 0.0
    /// Longest time that a mailbox fills before its host looks.
    public var turnMicros: UInt64 = 200

    public init() {}

    /// Nothing goes wrong.
    public static let calm = BusFaults()

    /// A bad day: one call in fifty vanishes, one in ten is slow.
    public static let storm: BusFaults = {
        var faults = BusFaults()
        faults.lostCalls = 0.01
        faults.lostReplies = 0.01
        faults.refusals = 0.01
        faults.slow = 0.1
        return faults
    }()
}
