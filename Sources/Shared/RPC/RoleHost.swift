import Foundation
import Logging
import Synchronization
import Wire

/// A machine on a lane: turns parcels into events and actions into posts. It decides nothing.
///
/// Isolation: everything but `accept` and `reply`, which only post, runs on the lane.
public final class RoleHost<Machine: RoleMachine>: LaneResident, CallTarget, ReplySink, @unchecked Sendable {
    // @unchecked: the mutable state below is touched on the lane only. @exclusivity(unchecked): for the same reason,
    // and because no machine calls back into its host.
    public let instance: String
    private let home: Lane
    private let directory: Directory
    private let logger: Logger
    private let clock: @Sendable () -> Instant
    private let output: (Machine.Output) -> Void
    @exclusivity(unchecked) private var machine: Machine
    @exclusivity(unchecked) private var dirty = false
    @exclusivity(unchecked) private var nextID: UInt64 = 1
    /// Calls made to us that we have not answered.
    @exclusivity(unchecked) private var incoming: [UInt64: (id: UInt64, origin: any ReplySink)] = [:]
    /// Calls that we made: our number -> the machine's token and when it is over.
    @exclusivity(unchecked) private var outgoing: [UInt64: (token: UInt64, deadline: UInt64)] = [:]
    /// How often deadlines are looked at; a time-out is late by at most this.
    private static var sweepMS: UInt32 { 50 }
    /// How long a `tell` is worth carrying out.
    private static var tellMicros: UInt64 { 10_000_000 }
    private let queued = Atomic<Int>(0)
    /// Parcels that may wait for one host; more are refused with `overloaded`.
    public static var maxQueued: Int { 65_536 }

    public init(
        _ machine: Machine, instance: String, lane: Lane, directory: Directory, logger: Logger,
        clock: @escaping @Sendable () -> Instant = SystemClock.now,
        output: @escaping (Machine.Output) -> Void = { _ in }
    ) {
        self.machine = machine
        self.instance = instance
        self.home = lane
        self.directory = directory
        self.logger = logger
        self.clock = clock
        self.output = output
    }

    public var lane: Lane? { home }

    /// Makes the machine reachable and starts it.
    public func start() {
        directory.add(Machine.role, instance, self)
        home.post(.parcel(self, .start))
        home.post(.parcel(self, .sweep), afterMS: Self.sweepMS)
    }

    /// Takes the machine out of the directory: nobody finds it any more.
    public func withdraw() { directory.remove(Machine.role, instance, self) }

    public func accept(_ call: IncomingCall) -> Failure? {
        if queued.wrappingAdd(1, ordering: .relaxed).newValue > Self.maxQueued {
            queued.wrappingSubtract(1, ordering: .relaxed)
            return Failure(.overloaded, "\(Machine.role) has \(Self.maxQueued) calls waiting; slow down and retry")
        }
        home.post(.parcel(self, .call(call)))
        return nil
    }

    public func reply(_ id: UInt64, _ result: CallResult) { home.post(.parcel(self, .reply(id, result))) }

    /// An event from the outside world. On the lane only.
    public func input(_ value: Machine.Input) {
        perform(machine.on(.input(value), now: clock()))
        if !dirty {
            dirty = true
            home.post(.work { [self] in flush() })
        }
    }

    /// Looks at the machine, on the lane: for metrics and tests.
    public func inspect<T>(_ look: (borrowing Machine) -> T) -> T { look(machine) }

    public func receive(_ parcel: Parcel) -> Bool {
        let first = !dirty
        dirty = true
        switch parcel {
        case .start: perform(machine.on(.start, now: clock()))
        case .timer(let id): perform(machine.on(.timer(id), now: clock()))
        case .sweep: sweep()
        case .reply(let id, let result):
            guard let call = outgoing.removeValue(forKey: id) else { return first }
            perform(machine.on(.reply(call.token, result), now: clock()))
        case .call(let call):
            queued.wrappingSubtract(1, ordering: .relaxed)
            let id = nextID
            nextID += 1
            if let origin = call.origin { incoming[id] = (call.id, origin) }
            perform(machine.on(.call(CallID(id), call.payload, deadline: call.deadline), now: clock()))
        }
        return first
    }

    public func flush() {
        dirty = false
        perform(machine.on(.flush, now: clock()))
    }

    private func sweep() {
        home.post(.parcel(self, .sweep), afterMS: Self.sweepMS)
        guard !outgoing.isEmpty else { return }
        let now = clock()
        for (id, call) in outgoing.filter({ $0.value.deadline <= now.micros }).sorted(by: { $0.key < $1.key }) {
            outgoing[id] = nil
            let failure = Failure(.deadlineExceeded, "no answer within the deadline")
            perform(machine.on(.reply(call.token, .unknown(failure)), now: now))
        }
    }

    private func perform(_ actions: [RoleAction<Machine.Output>]) {
        for action in actions {
            switch action {
            case .call(let token, let address, let payload, let timeoutMS): call(token, address, payload, timeoutMS)
            case .tell(let address, let payload):
                let call = IncomingCall(
                    id: 0, origin: nil, payload: payload, deadline: clock().micros + Self.tellMicros)
                if case .all(let role) = address {
                    for target in directory.targets(of: role) { _ = target.accept(call) }
                } else {
                    _ = directory.resolve(address, near: home)?.accept(call)
                }
            case .reply(let id, let payload):
                if let call = incoming.removeValue(forKey: id.value) { call.origin.reply(call.id, .answered(payload)) }
            case .refuse(let id, let failure):
                if let call = incoming.removeValue(forKey: id.value) { call.origin.reply(call.id, .refused(failure)) }
            case .timer(let id, let afterMS): home.post(.parcel(self, .timer(id)), afterMS: afterMS)
            case .trace(let id, let hop):
                // The monotonic clock is one for all processes of a machine: it puts their lines in order.
                let values = ["trace": id, "hop": hop, "service": "\(Machine.role)", "at_us": "\(clock().micros)"]
                logger.info("trace", metadata: values.mapValues { "\($0)" })
            case .warn(let text, let values):
                logger.warning("\(text)", metadata: values.mapValues { "\($0)" })
            case .output(let value): output(value)
            }
        }
    }

    private func call(_ token: UInt64, _ address: Address, _ payload: Payload, _ timeoutMS: UInt32) {
        let id = nextID
        nextID += 1
        let deadline = clock().micros + UInt64(timeoutMS) * 1000
        outgoing[id] = (token, deadline)
        let failure: Failure?
        if let target = directory.resolve(address, near: home) {
            failure = target.accept(IncomingCall(id: id, origin: self, payload: payload, deadline: deadline))
        } else {
            failure = Failure(.serviceUnavailable, "no instance of \(address) is reachable")
        }
        // Posted, not performed: a machine never sees an event inside the handling of another.
        if let failure { reply(id, .refused(failure)) }
    }
}

/// The real time.
public enum SystemClock {
    @Sendable public static func now() -> Instant {
        var monotonic = timespec()
        clock_gettime(CLOCK_MONOTONIC, &monotonic)
        var wall = timespec()
        clock_gettime(CLOCK_REALTIME, &wall)
        return Instant(
            micros: UInt64(monotonic.tv_sec) * 1_000_000 + UInt64(monotonic.tv_nsec) / 1000,
            wallMS: UInt64(wall.tv_sec) * 1000 + UInt64(wall.tv_nsec) / 1_000_000)
    }
}
