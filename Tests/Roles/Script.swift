import Foundation
import RPC
import SwiftProtobuf
import Testing
import Wire

/// A machine and a clock that the test moves; events in, actions out.
struct Script<Machine: RoleMachine> where Machine.Input == Never, Machine.Output == Never {
    var machine: Machine
    var micros: UInt64 = 1_000_000
    private var nextCall: UInt64 = 100

    init(_ machine: Machine) {
        self.machine = machine
        _ = on(.start)
    }

    mutating func on(_ event: RoleEvent<Never>) -> [RoleAction<Never>] {
        machine.on(event, now: Instant(micros: micros, wallMS: 1_700_000_000_000 + micros / 1000))
    }

    /// A call, without the flush behind it.
    mutating func take(_ payload: Payload, deadlineMS: UInt64 = 5000) -> (id: CallID, actions: [RoleAction<Never>]) {
        nextCall += 1
        let id = CallID(nextCall)
        return (id, on(.call(id, payload, deadline: micros + deadlineMS * 1000)))
    }

    mutating func flush() -> [RoleAction<Never>] { on(.flush) }

    /// A call and the flush behind it.
    mutating func call(_ payload: Payload, deadlineMS: UInt64 = 5000) -> (id: CallID, actions: [RoleAction<Never>]) {
        let taken = take(payload, deadlineMS: deadlineMS)
        return (taken.id, taken.actions + flush())
    }

    /// An answer and the flush behind it.
    mutating func answer(_ asked: Asked, _ result: CallResult) -> [RoleAction<Never>] {
        on(.reply(asked.token, result)) + flush()
    }

    mutating func answer(_ asked: Asked, _ payload: Payload) -> [RoleAction<Never>] {
        answer(asked, .answered(payload))
    }

    mutating func pass(ms: UInt64) { micros += ms * 1000 }

    mutating func timer(_ id: UInt64) -> [RoleAction<Never>] { on(.timer(id)) + flush() }
}

/// A call that a machine made.
struct Asked {
    let token: UInt64
    let address: Address
    let payload: Payload
    let timeoutMS: UInt32
}

extension [RoleAction<Never>] {
    var asked: [Asked] {
        compactMap { action in
            guard case .call(let token, let address, let payload, let timeoutMS) = action else { return nil }
            return Asked(token: token, address: address, payload: payload, timeoutMS: timeoutMS)
        }
    }

    /// The first call, which there must be.
    func first() throws -> Asked { try #require(asked.first) }

    func asked(_ address: Address) -> [Asked] { asked.filter { $0.address == address } }

    /// What was told to an address.
    func told(_ address: Address) -> [Payload] {
        compactMap { if case .tell(address, let payload) = $0 { payload } else { nil } }
    }

    func reply(_ id: CallID) -> Payload? {
        for case .reply(id, let payload) in self { return payload }
        return nil
    }

    func refusal(_ id: CallID) -> Failure? {
        for case .refuse(id, let failure) in self { return failure }
        return nil
    }

    func serviceReplies(_ id: CallID) -> [ServiceReply]? {
        guard case .serviceReplies(let replies)? = reply(id) else { return nil }
        return replies.replies
    }

    var timers: [UInt64] { compactMap { if case .timer(let id, _) = $0 { id } else { nil } } }
    var traces: [String] { compactMap { if case .trace(let id, let hop) = $0 { "\(id) \(hop)" } else { nil } } }
    var warnings: Int { count { if case .warn = $0 { true } else { false } } }
}

/// Shorthands for what tests say often.
func serviceCall(
    _ svid: UInt32, _ method: UInt32, user: String = "alice", session: String = "s1", key: String = "",
    body: some SwiftProtobuf.Message = Empty(), app: String = "demo", trace: String = ""
) -> ServiceCall {
    var call = ServiceCall()
    call.svid = svid
    call.method = method
    call.caller.appID = app
    call.caller.userID = user
    call.caller.sessionID = session
    call.caller.deviceID = "d-\(session)"
    call.orderKey = key
    call.body = (try? body.serializedData()) ?? Data()
    call.traceID = trace
    return call
}

func serviceCalls(_ calls: ServiceCall...) -> Payload {
    .serviceCalls(.with { $0.calls = calls })
}

func body<T: SwiftProtobuf.Message>(_ reply: ServiceReply?, _ type: T.Type) throws -> T {
    let reply = try #require(reply)
    #expect(!reply.hasFailure, "\(reply.failure.reason): \(reply.failure.message)")
    return try T(serializedBytes: reply.body)
}

func key(_ user: String, app: String = "demo") -> UserKey {
    .with {
        $0.appID = app
        $0.userID = user
    }
}

let refused = CallResult.refused(Failure(.serviceUnavailable, "nobody there"))
let timedOut = CallResult.unknown(Failure(.deadlineExceeded, "silence"))
