import Wire

/// Where the connection stands.
enum Phase: Equatable {
    case idle
    case waiting(untilMS: UInt64)
    case connecting(sinceMS: UInt64)
    case greeting(sinceMS: UInt64)
    case authenticating(sinceMS: UInt64)
    case ready
    case ended
}

/// A request whose answer is awaited.
struct OpenRequest {
    enum Purpose {
        case app(handle: UInt64)
        case send(conversation: String, turn: UInt16, handles: [UInt64])
        case sync
        case history([String])
        case state([String: PositionChange])
        case watch
    }

    var purpose: Purpose
    var sentMS: UInt64
}

/// Positions to report; both are max-merged, here and by the server.
struct PositionChange: Equatable {
    var read: UInt64 = 0
    var delivered: UInt64 = 0

    mutating func merge(_ other: PositionChange) {
        read = max(read, other.read)
        delivered = max(delivered, other.delivered)
    }
}

/// A message on its way.
struct PendingMessage {
    var outgoing: OutgoingMessage
    /// Made when it is first written, from the server's clock.
    var id: [UInt8] = []
    var written = false
}

/// One conversation as this device has it.
struct LocalConversation {
    var state: ConversationState
    /// The floor is known: what is below `shown` is never shown by itself.
    var anchored = false
    /// Everything up to here was shown.
    var shown: UInt64 = 0
    /// The highest seq heard of.
    var head: UInt64 = 0
    /// As of which head `state.unread` was exact.
    var syncedHead: UInt64 = 0
    /// Received above a hole.
    var waiting: [UInt64: PushedMessage] = [:]
    var repairing = false
    /// In the order of sending, until accepted or refused.
    var outbox: [PendingMessage] = []
    /// Accepted, place unknown.
    var unplaced: [PendingMessage] = []
    var turn: UInt16 = 0
    var sendsInFlight = 0
    var breaks = 0
    /// The order is broken and frames of the turn are still unanswered: the longest wait that the server asked for.
    var brokenWaitMS: UInt64?

    init(_ conversation: String) { state = ConversationState(conversation: conversation) }
}
