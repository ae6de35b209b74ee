import Wire

/// What the client machine is told.
public enum ClientEvent: Equatable, Sendable {
    /// The app wants to be connected from now on.
    case start
    /// The app is done: BYE, close, and nothing more.
    case stop
    /// The socket that `ClientAction.connect` asked for is open.
    case connected
    /// It could not be opened, or it is gone.
    case disconnected(String)
    case received(Frame)
    /// A message of the app's; `handle` is the app's own number for it, never used twice.
    case send(OutgoingMessage)
    /// A request to any service, answered by `ClientNotice.answer` with the handle.
    case request(handle: UInt64, svid: UInt16, method: UInt16, body: [UInt8])
    /// The user has read the conversation up to a seq.
    case read(conversation: String, seq: UInt64)
    /// Presence of these users from now on (at most 500); replaces the former list.
    case watch([String])
    /// The app came to the foreground, or wants to be sure: sync now.
    case sync
    /// Everything that came together was told, or `ClientMachine.nextWakeMS` was reached: send what gathered.
    case flush
}

/// What the client machine wants done.
public enum ClientAction: Equatable, Sendable {
    /// Open a socket; `address` is "host:port" when the server redirected, else nil.
    case connect(address: String?)
    case write([Frame])
    case close
    case notify(ClientNotice)
}

/// A message to be sent.
public struct OutgoingMessage: Equatable, Sendable {
    public var handle: UInt64
    public var conversation: String
    public var kind: ContentKind
    public var content: [UInt8]
    public var targetSeq: UInt64

    /// - Parameters:
    ///   - handle: the app's number for the message.
    ///   - conversation: `p:alice|bob`; `ConversationName.pair(of:and:)` makes it.
    ///   - targetSeq: for a recall, the seq of the message meant.
    public init(
        handle: UInt64, conversation: String, kind: ContentKind = .contentText, content: [UInt8], targetSeq: UInt64 = 0
    ) {
        self.handle = handle
        self.conversation = conversation
        self.kind = kind
        self.content = content
        self.targetSeq = targetSeq
    }
}

/// What the app sees. Messages of one conversation come in seq order, each once.
public enum ClientNotice: Equatable, Sendable {
    case connection(ConnectionState)
    case message(ShownMessage)
    /// Durable at the server, its place not known yet.
    case accepted(handle: UInt64)
    /// Certainly not sent; the app decides what now.
    case failed(handle: UInt64, Failure)
    /// A conversation's entry changed: unread, read positions of both sides, pin, mute ...
    case conversation(ConversationState)
    /// A sync is complete: every conversation that changed was reported.
    case synced
    case presence(user: String, online: Bool)
    case event(Event)
    case answer(handle: UInt64, Answer)
    /// The connections are over for good: stopped, kicked, or a token that is refused.
    case ended(Failure?)
}

/// The answer to `ClientEvent.request`.
public enum Answer: Equatable, Sendable {
    case ok([UInt8])
    case failed(Failure)
}

/// The state of the connection, for a status line.
public enum ConnectionState: Equatable, Sendable {
    case connecting
    case online(userID: String, sessionID: String)
    /// Tries again after so many milliseconds.
    case waiting(retryMS: UInt64, reason: String)
}

/// A message at its place.
public struct ShownMessage: Equatable, Sendable {
    public var conversation: String
    public var seq: UInt64
    public var n: UInt64
    /// Unix milliseconds.
    public var timeMS: UInt64
    public var message: ChatMessage
    /// The app's handle when this installation sent it since it started.
    public var handle: UInt64?

    public init(
        conversation: String, seq: UInt64, n: UInt64, timeMS: UInt64, message: ChatMessage, handle: UInt64? = nil
    ) {
        self.conversation = conversation
        self.seq = seq
        self.n = n
        self.timeMS = timeMS
        self.message = message
        self.handle = handle
    }
}

/// What is known of a conversation.
public struct ConversationState: Equatable, Sendable {
    public var conversation: String
    /// The other user of a pair, else "".
    public var peer = ""
    public var headSeq: UInt64 = 0
    public var unread: UInt64 = 0
    public var readSeq: UInt64 = 0
    public var peerReadSeq: UInt64 = 0
    public var peerDeliveredSeq: UInt64 = 0
    public var pinned = false
    public var muted = false
    public var draft = ""

    public init(conversation: String) { self.conversation = conversation }
}
