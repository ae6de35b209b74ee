/// What the HTTP server listens on, whom it trusts, and its limits. Read once at start.
public struct APIConfig: Sendable {
    /// Address to listen on.
    public var host: String
    /// Port to listen on; 0 takes a free one (`APIServer.port` tells which).
    public var port: Int
    /// Secret. Bearer key of the routes that manage apps; nil switches those routes off.
    public var adminKey: String?
    /// Password login for the web page; nil switches `/demo/login` off.
    public var demo: DemoLogin?
    /// Folder with the web client (`index.html` and what it loads); nil serves no files.
    public var webFolder: String?
    /// Where clients open their WebSocket.
    public var webSocket: WebSocketAddress
    /// HTTPS when set, and then nothing else.
    public var tls: APITLS?
    /// Roles that `/health` expects to find; a missing one makes the answer `degraded`.
    public var expectedRoles: [String]
    /// Shown by `/health`.
    public var version: String
    /// Header in which the operator's proxy tells the client's address, for example `X-Forwarded-For`; its last entry
    /// counts. Set it only where nobody but that proxy can reach the port. Nil: the socket's address.
    public var forwardedHeader: String?
    public var limits: APILimits

    public init(
        host: String = "127.0.0.1", port: Int = 0, adminKey: String? = nil, demo: DemoLogin? = nil,
        webFolder: String? = nil, webSocket: WebSocketAddress = .samePort, tls: APITLS? = nil,
        expectedRoles: [String] = [], version: String = "0.1", forwardedHeader: String? = nil,
        limits: APILimits = APILimits()
    ) {
        self.host = host
        self.port = port
        self.adminKey = adminKey
        self.demo = demo
        self.webFolder = webFolder
        self.webSocket = webSocket
        self.tls = tls
        self.expectedRoles = expectedRoles
        self.version = version
        self.forwardedHeader = forwardedHeader
        self.limits = limits
    }
}

/// The server's certificate chain and key, both PEM files. Read once, at start.
public struct APITLS: Sendable, Equatable {
    public var certificatePath: String
    public var keyPath: String

    public init(certificatePath: String, keyPath: String) {
        self.certificatePath = certificatePath
        self.keyPath = keyPath
    }
}

/// Users of one app who may log in with a password: for trying Martlet out, never for production.
public struct DemoLogin: Sendable {
    public var appID: String
    /// Secret. User id to password; made afresh by the suite.
    public var passwords: [String: String]

    public init(appID: String, passwords: [String: String]) {
        self.appID = appID
        self.passwords = passwords
    }
}

/// What `/demo/login` tells a browser to connect to.
public enum WebSocketAddress: Sendable, Equatable {
    /// The host and port that the page came from.
    case samePort
    /// The host that the page came from, another port: Login's WebSocket listener.
    case port(Int, tls: Bool)
    /// A full URL, for installations behind a proxy.
    case url(String)
}

/// Every bound of the HTTP server, so that no client can make it hold more.
public struct APILimits: Sendable {
    /// Largest request body in bytes: a batch of 64 messages of 8 KiB, or 20 of the largest, as base64.
    public var bodyBytes = 1024 * 1024
    /// The same before anybody has proved who they are: a name and a password.
    public var strangerBodyBytes = 4096
    /// Requests being answered at once, their bodies being there; more are told `overloaded`.
    public var requestsInFlight = 512
    /// Open HTTP connections; more wait in the kernel's backlog. Once half of them are taken, one address gets no more
    /// than a quarter.
    public var connections = 1024
    /// Seconds after which a connection between requests is closed, and the same while over half of them are taken.
    public var idleSeconds: Int64 = 60
    public var idleSecondsCrowded: Int64 = 5
    /// Milliseconds from the first byte of a request to its last.
    public var requestMS: Int64 = 15_000
    /// Milliseconds for a response to be taken, and the least speed of large ones on top of that.
    public var responseMS: Int64 = 15_000
    public var responseBytesPerSecond: Int64 = 64 * 1024
    /// Requests of one connection that may wait for their answers. Browsers wait for each; a connection that sends
    /// thousands behind one another is closed, because all of them would be answered before others have their turn.
    public var pipelined = 32
    /// Users in one `POST /v1/users`.
    public var usersPerRequest = 500
    /// Messages in one `POST /v1/messages`.
    public var messagesPerRequest = 64
    /// Longest life of a token in seconds: 30 days.
    public var tokenSeconds = 30 * 24 * 3600
    /// Life of a token when the request names none: one day.
    public var tokenDefaultSeconds = 24 * 3600
    /// Milliseconds that a role has for its answer.
    public var roleTimeoutMS: UInt32 = 5000
    /// Milliseconds that each probe of `/health` has.
    public var probeTimeoutMS: UInt32 = 1000
    /// Milliseconds for which an answer of `/health`, and an app's keys, are reused.
    public var cacheMS: UInt64 = 1000
    /// Apps whose keys are remembered.
    public var cachedApps = 4096
    /// Users who are known to exist.
    public var cachedUsers = 65_536
    /// Bytes and files of the web client, which are kept in memory.
    public var staticBytes = 8 * 1024 * 1024
    public var staticFiles = 256
    /// Wrong passwords or keys: at once, and again per second, for one name at one address.
    public var guessesAtOnce = 5.0
    public var guessesPerSecond = 0.2
    /// The same for one address over all names. There is no such limit for a name alone: strangers would use it up, and
    /// lock the app out.
    public var guessesAtOnceWide = 50.0
    public var guessesPerSecondWide = 1.0
    /// Names and addresses that the limiter remembers.
    public var guessersRemembered = 16_384

    /// Largest header field in bytes, and how many fields; all together twice the bytes of one.
    static let headerBytes = 16 * 1024
    static let headers = 64

    public init() {}
}
