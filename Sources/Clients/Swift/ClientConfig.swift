/// Who the client is and the numbers it works with. Every limit is here.
public struct ClientConfig: Sendable, Equatable {
    /// The JWT that the app's server issued for this user.
    public var token: String
    /// Stable per installation, 1 to 64 bytes.
    public var deviceID: String
    /// "terminal", "desktop" ...: by default one session per platform and user.
    public var platform: String
    /// Free text for the server's logs.
    public var client: String

    /// Messages that may wait to be accepted; more are failed with `limit_exceeded`.
    public var outboxLimit = 1_000
    /// Items of one send request, and their content together: the frame stays under the server's 128 KiB.
    public var batchItems = 64
    public var batchBytes = 96 * 1024
    /// Send requests in flight for one conversation, and requests of every kind together (the server takes 64).
    public var sendsPerConversation = 8
    public var requestsInFlight = 56
    /// Wait before a broken conversation is sent again; doubles up to the most.
    public var resendFirstMS: UInt64 = 300
    public var resendMostMS: UInt64 = 5_000
    /// A reconnect waits between half of this and all of it, doubling up to the most.
    public var reconnectFirstMS: UInt64 = 300
    public var reconnectMostMS: UInt64 = 5_000
    /// From the connection's start to AUTHENTICATED, and from a request to its answer; past it the connection is
    /// given up.
    public var handshakeMS: UInt64 = 10_000
    public var answerMS: UInt64 = 10_000
    /// How long a hole in a conversation may fill by itself before history is asked; up to `gapJitterMS` is added.
    public var gapMS: UInt64 = 300
    public var gapJitterMS: UInt64 = 200
    /// Wait before a history or sync request that failed is repeated.
    public var repeatMS: UInt64 = 1_000
    /// Out-of-order messages kept per conversation; what is beyond is fetched again later.
    public var waitingLimit = 1_000
    /// Newest messages that are shown of a conversation met for the first time, at most 200.
    public var firstPage: UInt64 = 50
    /// Full sync every so often even when nothing asks for it.
    public var syncEveryMS: UInt64 = 600_000
    /// Read and delivered positions gather this long before they are reported.
    public var stateMS: UInt64 = 500

    /// - Parameters:
    ///   - token: see `token`.
    ///   - deviceID: see `deviceID`.
    ///   - platform: see `platform`.
    public init(token: String, deviceID: String, platform: String = "terminal", client: String = "martlet-swift/0.1") {
        self.token = token
        self.deviceID = deviceID
        self.platform = platform
        self.client = client
    }
}
