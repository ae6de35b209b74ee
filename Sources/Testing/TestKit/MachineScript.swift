import RPC
import Wire

/// Drives one machine by hand: events in, actions out, on a clock that only the test moves.
public struct MachineScript<Machine: RoleMachine> {
    public var machine: Machine
    public private(set) var now: Instant
    private var nextCall: UInt64 = 1

    public init(_ machine: Machine, wallMS: UInt64 = 1_760_000_000_000) {
        self.machine = machine
        now = Instant(micros: 1_000_000, wallMS: wallMS)
    }

    public mutating func advance(ms: UInt64) {
        now.micros += ms * 1000
        now.wallMS += ms
    }

    /// The wall clock is set; no time passes.
    public mutating func setWall(aheadMS: UInt64) { now.wallMS += aheadMS }

    public mutating func event(_ event: RoleEvent<Machine.Input>) -> [RoleAction<Machine.Output>] {
        machine.on(event, now: now)
    }

    /// Makes a call; the answer may be among the actions of this or of a later event.
    public mutating func call(_ payload: Payload) -> (id: CallID, actions: [RoleAction<Machine.Output>]) {
        let id = CallID(nextCall)
        nextCall += 1
        return (id, machine.on(.call(id, payload, deadline: now.micros + 5_000_000), now: now))
    }

    /// Makes a call, flushes, and gives its answer: nil when there is none yet, or more than one.
    public mutating func ask(_ payload: Payload) -> CallResult? {
        let (id, actions) = call(payload)
        return Self.answer(to: id, in: actions + event(.flush))
    }

    /// The answer to a call among actions; nil when there is none, or more than one.
    public static func answer(to id: CallID, in actions: [RoleAction<Machine.Output>]) -> CallResult? {
        let answers: [CallResult] = actions.compactMap { action in
            switch action {
            case .reply(id, let payload): .answered(payload)
            case .refuse(id, let failure): .refused(failure)
            default: nil
            }
        }
        return answers.count == 1 ? answers[0] : nil
    }
}
