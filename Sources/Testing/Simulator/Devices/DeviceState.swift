import Foundation
import Wire

/// A message as its sender has it.
public struct OwnMessage: Sendable {
    public enum State: Sendable, Equatable {
        case pending
        case accepted
        case refused(String)
    }

    public internal(set) var item: SendItem
    public internal(set) var state = State.pending
    /// Some attempt may have been carried out without the sender hearing of it.
    public internal(set) var everUnknown = false
}

/// A message as a device shows it.
public struct ShownMessage: Sendable, Equatable {
    public let seq: UInt64
    public let n: UInt64
    public let timeMS: UInt64
    public let sender: String
    public let device: String
    public let clientMsgID: Data
    /// How it came.
    public let source: Source

    public enum Source: Sendable, Equatable {
        case push, notice, history, sync
    }
}

/// A device's view of one conversation. It stays whole over lost connections.
public struct DeviceConversation: Sendable {
    public let name: String
    /// Everything that the device has sent here, in the order in which it made it.
    public internal(set) var sent: [OwnMessage] = []
    /// What the device has shown, in the order in which it did.
    public internal(set) var shown: [ShownMessage] = []
    /// Pushes that the device knew already.
    public internal(set) var redelivered = 0
    /// The furthest that the device has said it has read.
    public internal(set) var read: UInt64 = 0
    var toMake: Int
    var turn: UInt16 = 0
    /// The next message to send in this turn.
    var next = 0
    /// Requests under way, with the messages that they carry.
    var onTheWay: [UInt32: [Int]] = [:]
    /// Something of this turn has to come again: nothing is sent until the turn is over.
    var stopped = false
    var resendAt: UInt64?
    var failures: UInt64 = 0
    /// In hand and not shown, by seq.
    var waiting: [UInt64: ShownMessage] = [:]
    /// The highest seq that is known to exist.
    var head: UInt64 = 0
    var holeAt: UInt64?
    var repairing = false
    var readConfirmed: UInt64 = 0
    var deliveredConfirmed: UInt64 = 0

    init(name: String, toMake: Int) {
        self.name = name
        self.toMake = toMake
    }

    var lastShown: UInt64 { shown.last?.seq ?? 0 }
    var hasHole: Bool { lastShown < head }
    var firstPending: Int? { sent.firstIndex { $0.state == .pending } }
    /// The end of what others have written and this device has shown.
    var delivered: UInt64 { lastShown }

    /// Nothing of it waits for anything.
    public var isSettled: Bool {
        toMake == 0 && firstPending == nil && onTheWay.isEmpty && !hasHole && waiting.isEmpty
            && read <= readConfirmed && delivered <= deliveredConfirmed
    }
}

/// What a device asked and has no answer to.
struct DeviceRequest: Sendable {
    enum Purpose: Sendable {
        case send(String)
        case sync
        case history([String])
        case state([String: StateWish])
        case audit
        case auditPage(String)
        case other
    }

    struct StateWish: Sendable {
        var read: UInt64
        var delivered: UInt64
    }

    let purpose: Purpose
    let deadlineMS: UInt64
}

/// What the server says at the end to a device that asks for everything.
public struct DeviceAudit: Sendable {
    /// Entries of a sync without a token.
    public internal(set) var entries: [ConversationEntry] = []
    /// Every page of every conversation's history, from the first seq on.
    public internal(set) var history: [String: [PushedMessage]] = [:]
    public internal(set) var isDone = false
    var token = Data()
    var isSynced = false
    /// Conversations whose history is still to be read.
    var left: [String]
    /// Not before, after a failure.
    var notBefore: UInt64 = 0
}
