import Foundation
import Identity
import Machinery
import NIOCore
import RPC
import Testing
import Wire

@testable import LoginRole

/// Drives one LoginMachine by hand: events in, actions out, a clock that moves when told.
struct LoginScript {
    typealias Action = RoleAction<LoginOutput>

    struct Made: Equatable {
        var token: UInt64
        var role: RoleName
        var payload: Payload
    }

    static let secret = [UInt8](repeating: 7, count: 32)
    static let startMS: UInt64 = 1_730_000_000_000

    var machine: LoginMachine
    var now = Instant(micros: 5_000_000, wallMS: startMS)
    /// Calls made and not taken yet.
    var calls: [Made] = []
    /// What was written and not taken yet.
    var written: [(id: ConnectionID, frame: Frame)] = []
    /// Every other output, in order, not taken yet.
    var outputs: [LoginOutput] = []
    var replies: [(id: UInt64, payload: Payload)] = []
    var traces: [String] = []
    /// What it has told the Routes.
    var announced: [LoginAnnounce] = []
    private var nextCall: UInt64 = 1

    init(_ change: (inout LoginConfig) -> Void = { _ in }) {
        var config = LoginConfig()
        change(&config)
        machine = LoginMachine(config: config, loginID: "login-0", random: SeededRandom(seed: 1))
        on(.start)
        on(.flush)
    }

    mutating func on(_ event: RoleEvent<LoginInput>) {
        for action in machine.on(event, now: now) {
            switch action {
            case .call(let token, .any(let role), let payload, _):
                calls.append(Made(token: token, role: role, payload: payload))
            case .output(.write(let id, let frame)): written.append((id, frame))
            case .output(let value): outputs.append(value)
            case .reply(let id, let payload): replies.append((id.value, payload))
            case .trace(let id, _): traces.append(id)
            case .timer: break
            case .tell(.all(.route), .loginAnnounce(let announce)): announced.append(announce)
            case .call, .tell, .refuse, .warn: Issue.record("unexpected \(action)")
            }
        }
    }

    mutating func input(_ value: LoginInput) { on(.input(value)) }

    mutating func frame(_ id: UInt64, _ frame: Frame) { on(.input(.frame(ConnectionID(id), frame))) }

    mutating func flush() { on(.flush) }

    /// Lets time pass, tick by tick.
    mutating func advance(ms: UInt64) {
        for _ in 0..<ms / 100 {
            now.micros += 100_000
            now.wallMS += 100
            on(.timer(1))
            on(.flush)
            // Leases are answered at once, by a store that has what it should, unless a test looks at them.
            if answersLeases {
                for call in takeCalls(.online, where: { if case .leaseRequest = $0 { true } else { false } }) {
                    var response = LeaseResponse()
                    response.life = life
                    response.slices = machine.presence.slices.sums
                    answer(call, .leaseResponse(response))
                }
            }
        }
    }

    var answersLeases = true
    /// Of the lease, in the answers to leases and registrations.
    var life: UInt64 = 1

    mutating func answer(_ call: Made, _ payload: Payload) {
        on(.reply(call.token, .answered(payload)))
        on(.flush)
    }

    mutating func fail(_ call: Made, _ result: CallResult) {
        on(.reply(call.token, result))
        on(.flush)
    }

    mutating func takeCalls(_ role: RoleName, where test: (Payload) -> Bool = { _ in true }) -> [Made] {
        let taken = calls.filter { $0.role == role && test($0.payload) }
        calls.removeAll { $0.role == role && test($0.payload) }
        return taken
    }

    /// The only call to a role that is waiting.
    mutating func takeCall(_ role: RoleName, _ location: SourceLocation = #_sourceLocation) throws -> Made {
        let taken = takeCalls(role) { if case .leaseRequest = $0 { false } else { true } }
        try #require(taken.count == 1, "calls to \(role): \(taken)", sourceLocation: location)
        return taken[0]
    }

    mutating func takeFrames(_ id: UInt64) -> [Frame] {
        let taken = written.filter { $0.id == ConnectionID(id) }.map(\.frame)
        written.removeAll { $0.id == ConnectionID(id) }
        return taken
    }

    mutating func takeOutputs() -> [LoginOutput] {
        defer { outputs = [] }
        return outputs.filter { $0 != .flush }
    }

    /// The one failure that a connection was told before it was finished.
    mutating func takeError(_ id: UInt64, _ location: SourceLocation = #_sourceLocation) throws -> Failure {
        let frames = takeFrames(id)
        guard case .error(let body)? = frames.last, let failure = Failure(body: body) else {
            Issue.record("no ERROR in \(frames)", sourceLocation: location)
            return Failure()
        }
        #expect(takeOutputs().contains(.finish(ConnectionID(id))), sourceLocation: location)
        return failure
    }

    // MARK: - Logging in

    static var issuer: TokenIssuer { TokenIssuer(appID: "demo", key: TokenKey(id: "k1", secret: secret)) }

    static func app(_ change: (inout App) -> Void = { _ in }) -> App {
        var key = AppKey()
        key.keyID = "k1"
        key.secret = Data(secret)
        var app = App()
        app.appID = "demo"
        app.exists = true
        app.keys = [key]
        change(&app)
        return app
    }

    static func hello(version: UInt32 = 1) -> Frame {
        var hello = Hello()
        hello.version = version
        return .hello(hello.buffer)
    }

    static func authenticate(_ token: String, device: String = "phone", platform: String = "ios") -> Frame {
        var request = Authenticate()
        request.token = token
        request.deviceID = device
        request.platform = platform
        return .authenticate(request.buffer)
    }

    func token(_ user: String) throws -> String {
        try Self.issuer.issue(userID: user, lifetimeSeconds: 3600, nowMS: now.wallMS)
    }

    /// Opens the connection and says HELLO and AUTHENTICATE; the app's keys are asked for where they are not known.
    mutating func present(_ id: UInt64, token: String, app: App? = LoginScript.app()) {
        input(.opened(ConnectionID(id)))
        frame(id, Self.hello())
        frame(id, Self.authenticate(token))
        flush()
        knowApps(app)
    }

    /// Answers what was asked about the app, and that the accounts asked about exist.
    mutating func knowApps(_ app: App? = LoginScript.app()) {
        for call in takeCalls(.user) {
            guard case .appsGet = call.payload else {
                // The app's keys were known: this is about the account already.
                answer(call, .done(Done()))
                continue
            }
            if let app {
                var got = AppsGot()
                got.apps = [app]
                answer(call, .appsGot(got))
            }
        }
        accountsExist()
    }

    /// Answers that the accounts asked about exist, or were made.
    mutating func accountsExist() {
        for call in takeCalls(.user, where: { if case .usersPut = $0 { true } else { false } }) {
            answer(call, .done(Done()))
        }
    }

    /// A whole login; the session's id.
    @discardableResult
    mutating func login(_ id: UInt64, _ user: String, epoch: UInt64 = 1) throws -> String {
        present(id, token: try token(user))
        let call = try takeCall(.online)
        guard case .registerRequest(let request) = call.payload else {
            Issue.record("\(call)")
            return ""
        }
        var result = RegisterResult()
        result.epoch = epoch
        result.life = life
        var response = RegisterResponse()
        response.results = [result]
        answer(call, .registerResponse(response))
        let frames = takeFrames(id)
        guard case .authenticated(let body)? = frames.last, let authenticated = Authenticated(body: body) else {
            Issue.record("no AUTHENTICATED in \(frames)")
            return ""
        }
        #expect(takeOutputs().contains(.frameLimit(ConnectionID(id), FrameLimits.afterLoginBytes)))
        #expect(request.registrations.map(\.sessionID) == [authenticated.sessionID])
        return authenticated.sessionID
    }

    // MARK: - Requests and deliveries

    mutating func ordered(_ id: UInt64, _ request: UInt32, key: String, turn: UInt16 = 0, body: String = "b") {
        let header = Frame.RequestHeader(svid: 1, method: 1, requestID: request)
        frame(id, .orderedRequest(header, key: key, turn: turn, ByteBuffer(string: body)))
    }

    mutating func request(_ id: UInt64, _ request: UInt32, svid: UInt16 = 6, body: String = "b") {
        frame(id, .request(.init(svid: svid, method: 1, requestID: request), ByteBuffer(string: body)))
    }

    mutating func takeServiceCalls(_ location: SourceLocation = #_sourceLocation) throws -> (Made, ServiceCalls) {
        let call = try takeCall(.route, location)
        guard case .serviceCalls(let calls) = call.payload else {
            Issue.record("\(call)", sourceLocation: location)
            return (call, ServiceCalls())
        }
        return (call, calls)
    }

    mutating func answerCalls(_ call: Made, _ replies: [ServiceReply]) {
        var answer = ServiceReplies()
        answer.replies = replies
        self.answer(call, .serviceReplies(answer))
    }

    static func ok(_ text: String = "ok") -> ServiceReply {
        var reply = ServiceReply()
        reply.body = Data(text.utf8)
        return reply
    }

    static func failed(_ code: ErrorCode) -> ServiceReply {
        var reply = ServiceReply()
        reply.failure = Failure(code, "")
        return reply
    }

    static func ref(_ session: String) -> SessionRef {
        var ref = SessionRef()
        ref.sessionID = session
        ref.appID = "demo"
        ref.userID = "somebody"
        return ref
    }

    static func delivery(_ seq: UInt64, to targets: [String], from senders: [String] = []) -> Delivery {
        var delivery = Delivery()
        delivery.message.conversation = "p:alice|bob"
        delivery.message.seq = seq
        delivery.message.n = seq
        delivery.message.message = Data("m\(seq)".utf8)
        delivery.targets = targets.map(ref)
        delivery.senders = senders.map(ref)
        delivery.clientMsgID = Data("id\(seq)".utf8)
        return delivery
    }

    /// Hands deliveries over and flushes; the call's number.
    @discardableResult
    mutating func deliver(_ deliveries: [Delivery], deadlineMS: UInt64 = 1500) -> UInt64 {
        var request = DeliverRequest()
        request.loginID = "login-0"
        request.deliveries = deliveries
        let id = call(.deliverRequest(request), deadlineMS: deadlineMS)
        flush()
        return id
    }

    mutating func call(_ payload: Payload, deadlineMS: UInt64 = 1500) -> UInt64 {
        defer { nextCall += 1 }
        on(.call(CallID(nextCall), payload, deadline: now.micros + deadlineMS * 1000))
        return nextCall
    }

    mutating func takeHands(_ call: UInt64) -> [DeliveryResult]? {
        guard let index = replies.firstIndex(where: { $0.id == call }) else { return nil }
        guard case .deliverResponse(let response) = replies.remove(at: index).payload else { return nil }
        return response.results
    }
}

extension Frame {
    var failureCode: (request: UInt32, code: UInt32)? {
        guard case .failure(let id, let body) = self, let failure = Failure(body: body) else { return nil }
        return (id, failure.code)
    }

    var responseID: UInt32? {
        if case .response(let id, _) = self { id } else { nil }
    }

    var pushID: UInt32? {
        switch self {
        case .push(let id, _), .seqNotice(let id, _): id
        default: nil
        }
    }

    var seq: UInt64? {
        guard case .push(_, let body) = self else { return nil }
        return PushedMessage(body: body)?.seq
    }
}
