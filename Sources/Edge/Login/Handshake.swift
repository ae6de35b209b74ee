import Identity
import Wire

/// From the first byte to AUTHENTICATED: HELLO, WELCOME, AUTHENTICATE, then the app's keys, then the registration.
struct Handshake: Sendable {
    enum Step: Sendable, Equatable {
        case hello
        case token
        /// Waits for the keys of the token's app.
        case keys
        /// Waits for Online.
        case registration
    }

    /// What a frame leads to.
    enum Reaction: Sendable, Equatable {
        case welcome(version: UInt32)
        case authenticate(Authenticate)
        case pong
        case bye
        case refuse(Failure)
    }

    /// The one version of the protocol that there is.
    static let version: UInt32 = 1

    let openedMicros: UInt64
    private(set) var step = Step.hello
    private var frames = 0
    /// The token, taken apart; its claims are believed from `.registration` on.
    var token: UnverifiedToken?
    /// Whether its app's keys were asked for anew for this token.
    var refreshed = false
    var deviceID = ""
    var platform = ""
    var sessionID = ""
    /// When WELCOME was written: `Registration.welcomedUs`.
    var welcomedUS: UInt64 = 0
    /// The app allows several sessions per platform.
    var keepsOthers = false

    init(openedMicros: UInt64) { self.openedMicros = openedMicros }

    mutating func on(_ frame: Frame, config: LoginConfig) -> Reaction {
        frames += 1
        guard frames <= config.maxFramesBeforeLogin else {
            return .refuse(Failure(.unexpectedFrame, "more than \(config.maxFramesBeforeLogin) frames before login"))
        }
        switch frame {
        case .ping: return .pong
        case .bye: return .bye
        case .hello(let body):
            guard step == .hello else { return .refuse(Failure(.unexpectedFrame, "a second HELLO")) }
            guard let hello = Hello(body: body) else {
                return .refuse(Failure(.malformedFrame, "HELLO does not decode"))
            }
            guard hello.version >= Self.version else {
                return .refuse(Failure(.unsupportedVersion, "this server speaks version \(Self.version)"))
            }
            step = .token
            return .welcome(version: Self.version)
        case .authenticate(let body):
            guard step == .token else {
                let why = step == .hello ? "HELLO comes first" : "a second AUTHENTICATE"
                return .refuse(Failure(.unexpectedFrame, why))
            }
            guard let request = Authenticate(body: body) else {
                return .refuse(Failure(.malformedFrame, "AUTHENTICATE does not decode"))
            }
            step = .keys
            return .authenticate(request)
        case .welcome, .authenticated, .pong, .request, .orderedRequest, .response, .failure, .push, .pushAck,
            .seqNotice, .kick, .redirect, .syncNeeded, .error, .event:
            return .refuse(Failure(.unexpectedFrame, "\(frame.type) before login"))
        }
    }

    /// The token is good: wait for Online.
    mutating func register(as sessionID: String) {
        precondition(step == .keys, "registered in step \(step)")
        step = .registration
        self.sessionID = sessionID
    }

    /// Takes the token and the device's names; the failure that the client is told, or nil.
    mutating func take(_ request: Authenticate) -> Failure? {
        guard NameRule.isUser(request.deviceID) else {
            return Failure(.badDevice, "device_id must be \(NameRule.userForm)")
        }
        guard NameRule.isUser(request.platform) else {
            return Failure(.badDevice, "platform must be \(NameRule.userForm)")
        }
        do {
            token = try UnverifiedToken(request.token)
        } catch {
            return Failure(error)
        }
        deviceID = request.deviceID
        platform = request.platform
        return nil
    }
}

extension Failure {
    /// What a client is told about its token. Nothing in it helps to guess a secret.
    init(_ error: TokenError) {
        switch error {
        case .malformed(let why): self.init(.tokenMalformed, why)
        case .wrongAlgorithm(let name): self.init(.tokenWrongAlgorithm, "tokens are signed with HS256, not \(name)")
        case .unknownKey(let kid): self.init(.tokenUnknownKey, "the app has no key \(kid)")
        case .badSignature: self.init(.tokenBadSignature, "the signature does not match")
        case .expired: self.init(.tokenExpired, "get a new token from your app's server")
        case .notYetValid: self.init(.tokenNotYetValid, "the token is of the future: are the clocks right?")
        }
    }
}
