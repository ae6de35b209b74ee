/// A device of a user, what it does in a run, and how well it keeps the client's rules.
public struct DeviceConfig: Sendable {
    public var app: String
    public var user: String
    public var device: String
    public var platform: String
    public var token: String
    /// Pairs that the user writes in.
    public var conversations: [String]
    /// Messages that it makes in each of them, one after the other between these moments after its start.
    public var messages = 8
    public var writesFromMS: UInt64 = 400
    public var writesUntilMS: UInt64 = 5500
    /// How far its clock is from the server's, in milliseconds.
    public var clockOffMS: Int64 = 0
    /// How many places there are to connect to.
    public var places = 2
    /// It logs in for the first time some time between its start and then.
    public var firstLoginByMS: UInt64 = 800
    public var seed: UInt64
    public var rules = Rules()

    /// The client's rules of Protocols/README.md that a test breaks on purpose.
    public struct Rules: Sendable {
        /// Sync after every AUTHENTICATED and on SYNC_NEEDED.
        public var syncs = true
        /// Ask the history for holes.
        public var repairsHoles = true
        /// A resend carries the id of the first copy.
        public var keepsMessageIDs = true
        /// Wait for what is missing before showing what comes behind.
        public var showsDensePrefix = true
        /// Ignore a seq that is shown already.
        public var ignoresKnownSeqs = true
        /// Resend everything from the first failure on, in order.
        public var resendsInOrder = true
        /// Acknowledge what was never sent up to; a session that does not is closed after 10 s.
        public var acknowledges = true

        public init() {}
    }

    // How often things are looked at, and the waits of Protocols/README.md, in milliseconds.
    static let tickMS: UInt32 = 40
    static let handshakeMS: UInt64 = 10_000
    static let requestMS: UInt64 = 10_000
    static let retryFirstMS: UInt64 = 300
    static let retryMostMS: UInt64 = 5000
    static let holeMS: UInt64 = 300
    static let holeJitterMS: UInt64 = 200
    static let stateMS: UInt64 = 1000
    /// Frames of one conversation, and requests of all, on their way.
    static let framesPerKey = 6
    static let requestsInFlight = 64

    public init(
        app: String, user: String, device: String, platform: String, token: String, conversations: [String],
        seed: UInt64
    ) {
        self.app = app
        self.user = user
        self.device = device
        self.platform = platform
        self.token = token
        self.conversations = conversations
        self.seed = seed
    }
}
