/// What a gateway listens on and how much it takes.
public struct GatewayConfig: Sendable {
    /// Where to listen, in order; `GatewayServer.ports` has the bound ports in the same order.
    public var listeners: [GatewayListener]
    /// For the secure listeners; required when there is one.
    public var tls: GatewayTLS?
    /// The machine's own limits.
    public var login: LoginConfig

    /// Connections per listener; lowered at the start when the process may not open so many files.
    public var maxConnections = 20_000
    /// Files left to the rest of the process.
    public var reservedFiles = 512
    /// Accepted connections that wait to be taken.
    public var backlog: Int32 = 1024
    /// Unsent bytes after which a connection counts as stuck, and below which it does not any more.
    public var highWaterBytes = 128 * 1024
    public var lowWaterBytes = 32 * 1024
    /// Unsent bytes after which a connection is cut.
    public var maxOutboundBytes = 1024 * 1024
    /// The most that is read from a connection in one go. Connections without TLS share a buffer of this size.
    public var maxReceiveBytes = 16 * 1024
    /// Receive buffers under TLS start small, because an idle connection keeps one, and grow where much comes.
    public var minReceiveBytes = 512
    /// Bytes of HTTP before the WebSocket upgrade.
    public var maxUpgradeBytes = 8 * 1024

    public init(listeners: [GatewayListener], tls: GatewayTLS? = nil, login: LoginConfig = LoginConfig()) {
        self.listeners = listeners
        self.tls = tls
        self.login = login
    }
}

/// One place to listen on.
public struct GatewayListener: Sendable, Equatable {
    public enum Transport: Sendable, Equatable {
        /// Length-prefixed frames.
        case tcp
        /// One frame per binary message, at the path `/ws`.
        case webSocket
    }

    public var transport: Transport
    public var host: String
    /// 0: any free port.
    public var port: Int
    /// Behind TLS.
    public var secure: Bool

    public init(_ transport: Transport, host: String, port: Int, secure: Bool = false) {
        self.transport = transport
        self.host = host
        self.port = port
        self.secure = secure
    }
}

/// PEM files: the certificate chain, the server's own first, and its private key.
public struct GatewayTLS: Sendable, Equatable {
    public var certificatePath: String
    public var keyPath: String

    public init(certificatePath: String, keyPath: String) {
        self.certificatePath = certificatePath
        self.keyPath = keyPath
    }
}

/// Why a gateway does not start; each text says what to do.
public struct GatewayError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
