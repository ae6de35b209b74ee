import Identity
import RPC
import Wire

/// Who asked: the host, which of its lives, its number for the call.
struct CallOrigin {
    let host: Int
    let life: UInt64
    let id: UInt64
}

/// What a host hands to its machine; inputs wait beside it because their type is the machine's.
enum HostEvent {
    case start
    case call(CallID, Payload, deadline: UInt64)
    case reply(UInt64, CallResult)
    case timer(UInt64)
    case input
    case flush

    /// For the event log: what it is, and a hash of the bytes it carries.
    var text: String {
        switch self {
        case .start: "start"
        case .call(let id, let payload, _): "call \(payload.name) #\(id.value) \(payload.hashText)"
        case .reply(let token, .answered(let payload)): "answered \(payload.name) #\(token) \(payload.hashText)"
        case .reply(let token, .refused(let failure)): "refused \(failure.reason) #\(token)"
        case .reply(let token, .unknown(let failure)): "unknown \(failure.reason) #\(token)"
        case .timer(let id): "timer \(id)"
        case .input: "input"
        case .flush: "flush"
        }
    }

    /// What it carries, for people; empty when it carries nothing.
    var explanation: String {
        switch self {
        case .call(_, let payload, _), .reply(_, .answered(let payload)): LogText.line(payload)
        case .reply(_, .refused(let failure)), .reply(_, .unknown(let failure)): failure.message
        case .start, .timer, .input, .flush: ""
        }
    }

    /// Two numbers that say which event it is, for the digest.
    var numbers: (UInt64, UInt64) {
        switch self {
        case .start: (1, 0)
        case .call(let id, let payload, _): (2 << 16 | UInt64(payload.kind), id.value)
        case .reply(let token, .answered(let payload)): (3 << 16 | UInt64(payload.kind), token)
        case .reply(let token, .refused(let failure)): (4 << 16 | UInt64(failure.code), token)
        case .reply(let token, .unknown(let failure)): (5 << 16 | UInt64(failure.code), token)
        case .timer(let id): (6, id)
        case .input: (7, 0)
        case .flush: (8, 0)
        }
    }
}

/// An input that the event log can tell: what it is, and a number that changes when it does.
public protocol SimulatedInput {
    var logText: String { get }
    var logNumber: UInt64 { get }
    /// What it carries, for people.
    var logExplanation: String { get }
}

/// A machine's action without its output type.
enum HostAction {
    case call(UInt64, Address, Payload, timeoutMS: UInt32)
    case tell(Address, Payload)
    case reply(CallID, CallResult)
    case timer(UInt64, afterMS: UInt32)
    case warn(String, [String: String])
}

extension Payload {
    /// The case's name.
    var name: String { Mirror(reflecting: self).children.first?.label ?? "?" }

    /// FNV-1a of the encoded body.
    var hashText: String { LogHash.text((try? encodedBody()) ?? []) }
}

/// A machine's place in a simulation; the part that does not know the machine's type.
class SimulatedHost {
    let role: RoleName
    let instance: String
    let number: Int
    var life: UInt64 = 1
    var isUp = true
    var pausedUntil: UInt64 = 0
    var mailbox: [HostEvent] = []
    var turnIsSet = false
    var incoming: [UInt64: CallOrigin] = [:]
    var outgoing: [UInt64: UInt64] = [:]
    private var nextID: UInt64 = 1

    var name: String { "\(role)/\(instance)" }

    init(role: RoleName, instance: String, number: Int) {
        self.role = role
        self.instance = instance
        self.number = number
    }

    func handle(_ event: HostEvent, now: Instant) -> [HostAction] { [] }

    /// What the next input is, for the event log.
    var nextInput: (any SimulatedInput)? { nil }

    /// How many elements each collection of the machine holds.
    func footprint() -> Footprint { Footprint() }

    func take(_ origin: CallOrigin?) -> CallID {
        defer { nextID += 1 }
        if let origin { incoming[nextID] = origin }
        return CallID(nextID)
    }

    func ask(_ token: UInt64) -> CallOrigin {
        defer { nextID += 1 }
        outgoing[nextID] = token
        return CallOrigin(host: number, life: life, id: nextID)
    }

    func stop() {
        isUp = false
        life += 1
        mailbox = []
        turnIsSet = false
        incoming = [:]
        outgoing = [:]
        pausedUntil = 0
    }

    func restart() { isUp = true }
}

/// A machine in a simulation.
final class MachineHost<Machine: RoleMachine>: SimulatedHost {
    private(set) var machine: Machine
    var inputs: [Machine.Input] = []
    private let output: (Machine.Output) -> Void
    private let make: (Machine?) -> Machine

    init(
        instance: String, number: Int, output: @escaping (Machine.Output) -> Void,
        make: @escaping (Machine?) -> Machine
    ) {
        self.machine = make(nil)
        self.output = output
        self.make = make
        super.init(role: Machine.role, instance: instance, number: number)
    }

    func change(_ work: (inout Machine) -> Void) { work(&machine) }

    override var nextInput: (any SimulatedInput)? { inputs.first as? any SimulatedInput }

    override func footprint() -> Footprint { Footprint(of: machine) }

    override func restart() {
        machine = make(machine)
        inputs = []
        super.restart()
    }

    override func handle(_ event: HostEvent, now: Instant) -> [HostAction] {
        let actions: [RoleAction<Machine.Output>]
        switch event {
        case .start: actions = machine.on(.start, now: now)
        case .call(let id, let payload, let deadline):
            actions = machine.on(.call(id, payload, deadline: deadline), now: now)
        case .reply(let token, let result): actions = machine.on(.reply(token, result), now: now)
        case .timer(let id): actions = machine.on(.timer(id), now: now)
        case .input: actions = inputs.isEmpty ? [] : machine.on(.input(inputs.removeFirst()), now: now)
        case .flush: actions = machine.on(.flush, now: now)
        }
        return actions.compactMap(plain)
    }

    private func plain(_ action: RoleAction<Machine.Output>) -> HostAction? {
        switch action {
        case .call(let token, let address, let payload, let timeoutMS):
            return .call(token, address, payload, timeoutMS: timeoutMS)
        case .tell(let address, let payload): return .tell(address, payload)
        case .reply(let id, let payload): return .reply(id, .answered(payload))
        case .refuse(let id, let failure): return .reply(id, .refused(failure))
        case .timer(let id, let afterMS): return .timer(id, afterMS: afterMS)
        case .warn(let text, let values): return .warn(text, values)
        case .trace: return nil
        case .output(let value):
            output(value)
            return nil
        }
    }
}

/// Values as one line of text.
enum LogText {
    private static let longest = 1500

    static func line(_ value: Any) -> String {
        let words = "\(value)".split { $0 == "\n" || $0 == " " }.joined(separator: " ")
        return words.count > longest ? words.prefix(longest) + " ..." : words
    }
}

/// Hashes for the event log.
enum LogHash {
    /// FNV-1a, in base 16.
    static func text(_ bytes: some Sequence<UInt8>) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
