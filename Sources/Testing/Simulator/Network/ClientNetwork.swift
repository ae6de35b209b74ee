import LoginRole
import Machinery
import RPC
import Wire

/// The connections between devices and Logins: ordered and reliable until they end, and then the last frames may be
/// lost and each end learns of it in its own time, or has to find out. Also does what the gateway does around a
/// machine: gathers writes until the flush, pauses reading, says when a device does not read.
///
/// Isolation: none; a simulation has one thread.
final class ClientNetwork {
    /// What may happen to connections. Chances are 0 to 1.
    struct Faults {
        /// The connection is cut while the answer to a request is on its way down ...
        var lostAnswers = 0.0
        /// ... or a PUSH_ACK is on its way up.
        var lostAcks = 0.0
        var delayMicros: UInt64 = 2000
        var slow = 0.0
        var slowMicros: UInt64 = 300_000
    }

    /// Unread bytes after which a device counts as stuck, below which it does not any more, and after which the
    /// connection is too much for a Login: the gateway's own, smaller.
    private static let highBytes = 6000
    private static let lowBytes = 1000
    private static let mostBytes = 200_000

    var faults = Faults()
    /// The Login that answers at each place; nil while none does.
    private(set) var places: [String?]
    private unowned let simulation: Simulation
    private var random: SeededRandom
    private var wires: [UInt64: ClientWire] = [:]
    private var nextWire: UInt64 = 1
    /// Wires with something gathered, by Login, in the order of the first write.
    private var dirty: [String: [UInt64]] = [:]

    init(_ simulation: Simulation, places: Int, seed: UInt64) {
        self.simulation = simulation
        self.places = Array(repeating: nil, count: places)
        self.random = SeededRandom(seed: seed)
    }

    /// Connections that somebody still believes in.
    var openWires: Int { wires.count }

    func setPlace(_ place: Int, _ login: String?) { places[place] = login }

    /// Every connection of a device, oldest first.
    func wires(of device: String) -> [UInt64] { wires.filter { $0.value.device == device }.keys.sorted() }

    // MARK: The devices' side

    func perform(_ output: DeviceOutput, of device: String) {
        switch output {
        case .connect(let number, let place): connect(device, number, places[place % places.count])
        case .write(let number, let frame): if let id = find(device, number) { sendUp(id, frame) }
        case .close(let number):
            guard let id = find(device, number) else { return }
            wires[id]?.deviceKnows = true
            if wires[id]?.isSilent == false { tellLogin(id, after: delay()) }
            forgetIfOver(id)
        }
    }

    private var numbers: [String: [UInt64: UInt64]] = [:]

    private func find(_ device: String, _ number: UInt64) -> UInt64? { numbers[device]?[number] }

    private func connect(_ device: String, _ number: UInt64, _ login: String?) {
        guard let login, simulation.isUp(.login, login) else {
            later(delay()) { $0.input(.closed(number), to: DeviceMachine.self, device) }
            return
        }
        let id = nextWire
        nextWire += 1
        wires[id] = ClientWire(device: device, number: number, login: login)
        numbers[device, default: [:]][number] = id
        let arrival = arrive(id, \.up)
        simulation.at(micros: arrival) { [weak self] simulation in
            guard let wire = self?.wires[id], !wire.isCut else { return }
            simulation.input(.opened(ConnectionID(id)), to: LoginMachine.self, login)
        }
        // The handshake of TCP: the device may write once Login's kernel has it.
        _ = arrive(id, \.down, after: arrival)
        simulation.at(micros: wires[id]?.down.lastArrival ?? arrival) { [weak self] simulation in
            guard let wire = self?.wires[id], !wire.isCut, !wire.deviceKnows else { return }
            simulation.input(.opened(number), to: DeviceMachine.self, device)
        }
    }

    private func sendUp(_ id: UInt64, _ frame: Frame) {
        guard let wire = wires[id], !wire.isCut, !wire.deviceKnows else { return }
        if case .pushAck = frame, random.chance(faults.lostAcks) { return cut(id) }
        simulation.at(micros: arrive(id, \.up)) { [weak self] _ in
            guard let self, let wire = wires[id], !wire.isCut, !wire.loginKnows else { return }
            wires[id]?.up.waiting.append(frame)
            if wire.loginReads { drainUp(id) }
        }
    }

    private func drainUp(_ id: UInt64) {
        guard let wire = wires[id], !wire.loginKnows else { return }
        for frame in wire.up.waiting {
            simulation.input(.frame(ConnectionID(id), frame), to: LoginMachine.self, wire.login)
        }
        wires[id]?.up.waiting = []
    }

    // MARK: The Logins' side

    func perform(_ output: LoginOutput, of login: String, drained: () -> Void) {
        switch output {
        case .write(let id, let frame):
            guard wires[id.value] != nil else { return }
            if wires[id.value]?.gathered.isEmpty == true { dirty[login, default: []].append(id.value) }
            wires[id.value]?.gathered.append(frame)
        case .flush:
            for id in dirty.removeValue(forKey: login) ?? [] { flush(id) }
        case .finish(let id):
            guard wires[id.value] != nil else { return }
            if wires[id.value]?.gathered.isEmpty == true { dirty[login, default: []].append(id.value) }
            wires[id.value]?.finishing = true
        case .reading(let id, let reads):
            wires[id.value]?.loginReads = reads
            if reads { drainUp(id.value) }
        case .abort(let id):
            tellLogin(id.value, after: 1)
            if wires[id.value]?.isSilent == false { tellDevice(id.value, after: delay()) }
        case .frameLimit: break
        case .drained: drained()
        }
    }

    private func flush(_ id: UInt64) {
        guard let wire = wires[id] else { return }
        wires[id]?.gathered = []
        for frame in wire.gathered { sendDown(id, frame) }
        guard wire.finishing, wires[id]?.isCut == false else { return }
        // Our side is closed: the device reads to the end, closes its own, and Login hears of that.
        let arrival = arrive(id, \.down)
        simulation.at(micros: arrival) { [weak self] _ in
            guard let self, wires[id]?.isCut == false else { return }
            tellDevice(id, after: 0)
            tellLogin(id, after: delay())
        }
    }

    private func sendDown(_ id: UInt64, _ frame: Frame) {
        guard let wire = wires[id], !wire.isCut else { return }
        if case .response = frame, random.chance(faults.lostAnswers) { return cut(id) }
        simulation.at(micros: arrive(id, \.down)) { [weak self] _ in
            guard let self, let wire = wires[id], !wire.isCut, !wire.deviceKnows else { return }
            wires[id]?.down.waiting.append(frame)
            wires[id]?.down.bytes += FrameCodec.payloadBytes(frame)
            if wire.deviceReads { drainDown(id) } else { press(id) }
        }
    }

    private func drainDown(_ id: UInt64) {
        guard let wire = wires[id], !wire.deviceKnows else { return }
        for frame in wire.down.waiting {
            simulation.input(.frame(wire.number, frame), to: DeviceMachine.self, wire.device)
        }
        wires[id]?.down.waiting = []
        wires[id]?.down.bytes = 0
    }

    /// Tells Login how full the way down is.
    private func press(_ id: UInt64) {
        guard let wire = wires[id], !wire.loginKnows else { return }
        if wire.down.bytes > Self.mostBytes {
            simulation.input(.overflow(ConnectionID(id)), to: LoginMachine.self, wire.login)
        } else if wire.down.bytes > Self.highBytes, !wire.isStuck {
            wires[id]?.isStuck = true
            simulation.input(.writable(ConnectionID(id), false), to: LoginMachine.self, wire.login)
        } else if wire.down.bytes < Self.lowBytes, wire.isStuck {
            wires[id]?.isStuck = false
            simulation.input(.writable(ConnectionID(id), true), to: LoginMachine.self, wire.login)
        }
    }

    // MARK: Faults

    /// Ends a connection: what is on its way is lost, and each end is told some time later.
    func cut(_ id: UInt64) {
        guard wires[id]?.isCut == false else { return }
        simulation.note("cut \(id)", "network")
        simulation.countFault("cut")
        wires[id]?.isCut = true
        tellLogin(id, after: delay())
        tellDevice(id, after: delay())
    }

    /// From now on nothing passes and nobody is told: a cable pulled out.
    func silence(_ id: UInt64) {
        guard wires[id]?.isCut == false else { return }
        simulation.note("silence \(id)", "network")
        simulation.countFault("silence")
        wires[id]?.isCut = true
        wires[id]?.isSilent = true
    }

    /// The device reads nothing for a while.
    func stall(_ id: UInt64, forMS: UInt64) {
        guard wires[id]?.isCut == false else { return }
        simulation.note("stall \(id) for \(forMS) ms", "network")
        simulation.countFault("stall")
        wires[id]?.deviceReads = false
        simulation.at(ms: simulation.nowMS + forMS) { [weak self] _ in
            guard let self, wires[id] != nil else { return }
            wires[id]?.deviceReads = true
            drainDown(id)
            press(id)
        }
    }

    /// A Login's process has ended: its kernel closes every connection.
    func loginCrashed(_ login: String) {
        dirty[login] = nil
        for id in wires.filter({ $0.value.login == login }).keys.sorted() {
            wires[id]?.isCut = true
            wires[id]?.loginKnows = true
            if wires[id]?.isSilent == false { tellDevice(id, after: delay()) }
            forgetIfOver(id)
        }
    }

    // MARK: Ends

    private func tellLogin(_ id: UInt64, after: UInt64) {
        later(after) { [weak self] simulation in
            guard let self, let wire = wires[id], !wire.loginKnows else { return }
            wires[id]?.loginKnows = true
            simulation.input(.closed(ConnectionID(id)), to: LoginMachine.self, wire.login)
            forgetIfOver(id)
        }
    }

    private func tellDevice(_ id: UInt64, after: UInt64) {
        later(after) { [weak self] simulation in
            guard let self, let wire = wires[id], !wire.deviceKnows else { return }
            wires[id]?.deviceKnows = true
            simulation.input(.closed(wire.number), to: DeviceMachine.self, wire.device)
            forgetIfOver(id)
        }
    }

    private func forgetIfOver(_ id: UInt64) {
        guard let wire = wires[id], wire.isOver else { return }
        numbers[wire.device]?[wire.number] = nil
        wires[id] = nil
    }

    // MARK: Time

    private func later(_ micros: UInt64, _ work: @escaping (Simulation) -> Void) {
        simulation.at(micros: simulation.nowMicros + micros, work)
    }

    private func delay() -> UInt64 {
        let most = random.chance(faults.slow) ? faults.slowMicros : faults.delayMicros
        return UInt64.random(in: 50...max(51, most), using: &random)
    }

    /// When something that is sent now, or at `after`, arrives: never before what was sent earlier.
    private func arrive(
        _ id: UInt64, _ pipe: WritableKeyPath<ClientWire, ClientWire.Pipe>, after: UInt64 = 0
    ) -> UInt64 {
        let last = wires[id]?[keyPath: pipe].lastArrival ?? 0
        let time = max(max(simulation.nowMicros, after) + delay(), last + 1)
        wires[id]?[keyPath: pipe].lastArrival = time
        return time
    }
}
