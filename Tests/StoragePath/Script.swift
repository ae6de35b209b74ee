import Foundation
import Identity
import Machinery
import RPC
import Testing
import Wire

/// Drives one machine: events in, actions out, on a clock that moves only when told to.
struct Script<Machine: RoleMachine> where Machine.Input == Never, Machine.Output == Never {
    var machine: Machine
    var now = Instant(micros: 1_000_000, wallMS: 1_735_689_600_000)
    private var nextCall: UInt64 = 1

    init(_ machine: Machine) { self.machine = machine }

    mutating func on(_ event: RoleEvent<Never>) -> [RoleAction<Never>] { machine.on(event, now: now) }

    /// A call and the actions that it causes before the flush.
    mutating func call(_ payload: Payload, deadlineMS: UInt64 = 5000) -> (id: CallID, actions: [RoleAction<Never>]) {
        let id = CallID(nextCall)
        nextCall += 1
        return (id, on(.call(id, payload, deadline: now.micros + deadlineMS * 1000)))
    }

    mutating func flush() -> [RoleAction<Never>] { on(.flush) }

    /// A reply and the flush behind it.
    mutating func reply(_ token: UInt64, _ result: CallResult) -> [RoleAction<Never>] {
        on(.reply(token, result)) + on(.flush)
    }

    /// A timer and the flush behind it.
    mutating func timer(_ id: UInt64) -> [RoleAction<Never>] { on(.timer(id)) + on(.flush) }

    mutating func pass(ms: UInt64) {
        now.micros += ms * 1000
        now.wallMS += ms
    }
}

/// A call that a machine made.
struct Made {
    let token: UInt64
    let address: Address
    let payload: Payload
}

extension Array where Element == RoleAction<Never> {
    var calls: [Made] {
        compactMap { action in
            guard case .call(let token, let address, let payload, _) = action else { return nil }
            return Made(token: token, address: address, payload: payload)
        }
    }

    /// The only call to a role.
    func call(to role: RoleName) throws -> Made {
        let mine = calls.filter { $0.address.role == role }
        try #require(mine.count == 1, "\(mine.count) calls to \(role)")
        return try #require(mine.first)
    }

    func hasCall(to role: RoleName) -> Bool { calls.contains { $0.address.role == role } }

    var timers: [UInt64] {
        compactMap { action in
            guard case .timer(let id, _) = action else { return nil }
            return id
        }
    }

    var warnings: [String] {
        compactMap { action in
            guard case .warn(let text, _) = action else { return nil }
            return text
        }
    }

    func answer(to id: CallID) -> Payload? {
        for case .reply(id, let payload) in self { return payload }
        return nil
    }

    func refusal(of id: CallID) -> Failure? {
        for case .refuse(id, let failure) in self { return failure }
        return nil
    }
}

extension Address {
    var role: RoleName {
        switch self {
        case .any(let role), .instance(let role, _), .keyed(let role, _), .all(let role): role
        }
    }
}

/// Messages for tests.
enum Sample {
    static let conversation = "p:alice|bob"

    static func id(_ number: UInt64, timeMS: UInt64 = 1_735_689_600_000) -> Data {
        Data(MessageID.make(timeMS: timeMS, random: (7, number)))
    }

    static func item(_ number: UInt64, _ text: String = "hello") -> SendItem {
        var item = SendItem()
        item.clientMsgID = id(number)
        item.kind = .contentText
        item.content = Data(text.utf8)
        return item
    }

    static func call(
        _ items: [SendItem], conversation: String = conversation, key: String? = nil, device: String = "phone"
    ) throws -> ServiceCall {
        var request = SendRequest()
        request.conversation = conversation
        request.items = items
        var call = ServiceCall()
        call.caller.appID = "app"
        call.caller.userID = "alice"
        call.caller.deviceID = device
        call.caller.sessionID = "s-\(device)"
        call.svid = 1
        call.method = 1
        call.orderKey = key ?? conversation
        call.body = try request.serializedBytes()
        return call
    }

    static func record(
        _ number: UInt64, _ text: String = "hello", conversation: String = conversation, sender: String = "alice",
        timeMS: UInt64 = 1000, control: Bool = false
    ) throws -> LogRecord {
        var message = ChatMessage()
        message.sender = sender
        message.device = "phone"
        message.clientMsgID = id(number)
        message.kind = control ? .contentRecall : .contentText
        message.content = Data(text.utf8)
        message.sentMs = timeMS
        message.control = control
        message.targetSeq = control ? 1 : 0
        var record = LogRecord()
        record.appID = "app"
        record.conversation = conversation
        record.sender = sender
        record.device = "phone"
        record.clientMsgID = id(number)
        record.timeMs = timeMS
        record.control = control
        record.targetSeq = message.targetSeq
        record.message = try message.serializedBytes()
        record.members = ConversationName(conversation)?.members ?? []
        record.sessionID = "s-phone"
        return record
    }

    static func failure(_ code: ErrorCode) -> Failure { Failure(code, "a test's") }
}
