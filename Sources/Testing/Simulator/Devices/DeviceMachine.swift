import Foundation
import Identity
import Machinery
import NIOCore
import RPC
import Wire

/// A device that speaks the client protocol to a Login and keeps the client's rules of Protocols/README.md: it connects
/// and connects again, syncs, sends and resends in turns, acknowledges, shows the dense prefix, repairs holes, tells
/// what was read. One tick looks at everything that is due.
public struct DeviceMachine: RoleMachine {
    public static let role = RoleName(rawValue: "device")
    public typealias Input = DeviceInput
    public typealias Output = DeviceOutput
    typealias Action = RoleAction<DeviceOutput>

    enum Phase: Sendable, Equatable {
        case offline
        case connecting
        /// HELLO is sent.
        case greeting
        /// AUTHENTICATE is sent.
        case authenticating
        case ready
        /// The server said that coming back is no use.
        case ended
    }

    public let config: DeviceConfig
    private(set) var phase = Phase.offline
    /// Why it will not come back, when it will not.
    public private(set) var ending: String?
    public internal(set) var conversations: [String: DeviceConversation] = [:]
    /// Every entry that a sync ever brought.
    public internal(set) var synced: [ConversationEntry] = []
    public internal(set) var audit: DeviceAudit?
    /// Connections that came as far as AUTHENTICATED, and syncs that ended.
    public internal(set) var logins = 0
    public internal(set) var syncs = 0

    var random: SeededRandom
    var nowMS: UInt64 = 0
    var startedMS: UInt64?
    /// Its own clock, Unix milliseconds.
    var clockMS: UInt64 = 0
    /// What WELCOME said: the server's clock minus our own.
    var serverOffMS: Int64 = 0
    var heartbeatMS: UInt64 = 30_000
    var ackEvery = 32
    var ackMS: UInt64 = 200
    private var connection: UInt64 = 0
    private var retryAtMS: UInt64 = 0
    private var retries: UInt64 = 0
    private var phaseSinceMS: UInt64 = 0
    private var heardMS: UInt64 = 0
    private var spokeMS: UInt64 = 0
    var requests: [UInt32: DeviceRequest] = [:]
    private var nextRequest: UInt32 = 1
    var syncToken = Data()
    var syncing = false
    var syncAgain = false
    /// When a page that failed is asked for again.
    var syncAtMS: UInt64?
    /// Push ids: the end of the unbroken run, what came early, and since when something is unacknowledged.
    var unbroken: UInt32 = 0
    var early: Set<UInt32> = []
    var unacked = 0
    var ackAtMS: UInt64?
    var stating = false
    var stateAtMS: UInt64 = 0
    private var out: [Action] = []

    public init(config: DeviceConfig) {
        self.config = config
        self.random = SeededRandom(seed: config.seed)
        for name in config.conversations {
            conversations[name] = DeviceConversation(name: name, toMake: config.messages)
        }
    }

    /// Conversations in a fixed order.
    var names: [String] { conversations.keys.sorted() }

    /// It has been told that it is.
    var isOnline: Bool { phase == .ready }

    /// Online, everything sent is settled, nothing known is missing, everything read is told.
    public var isSettled: Bool {
        phase == .ready && !syncing && !syncAgain && syncAtMS == nil && requests.isEmpty
            && conversations.values.allSatisfy(\.isSettled)
    }

    /// For whoever wonders why a run does not end.
    public var whyUnsettled: String {
        let open = conversations.values.filter { !$0.isSettled }.sorted { $0.name < $1.name }.map { conversation in
            let pending = conversation.sent.filter { $0.state == .pending }.count
            return "\(conversation.name): \(conversation.toMake) to make, \(pending) pending, shown "
                + "\(conversation.lastShown) of \(conversation.head), read \(conversation.read) told "
                + "\(conversation.readConfirmed), delivered told \(conversation.deliveredConfirmed)"
        }
        let sync = syncing || syncAgain || syncAtMS != nil ? ", syncs" : ""
        return "is \(phase)\(sync), \(requests.count) requests; " + open.joined(separator: "; ")
    }

    /// Asks the server for everything there is, to be compared with what the device shows.
    public mutating func startAudit() { audit = DeviceAudit(left: names) }

    public mutating func on(_ event: RoleEvent<DeviceInput>, now: Instant) -> [RoleAction<DeviceOutput>] {
        nowMS = now.micros / 1000
        clockMS = UInt64(Int64(now.wallMS) + config.clockOffMS)
        switch event {
        case .start:
            startedMS = nowMS
            retryAtMS = nowMS + UInt64.random(in: 0...config.firstLoginByMS, using: &random)
            out.append(.timer(1, afterMS: DeviceConfig.tickMS))
        case .timer:
            out.append(.timer(1, afterMS: DeviceConfig.tickMS))
            tick()
        case .input(let input): take(input)
        case .call(let id, _, _): out.append(.refuse(id, Failure(.noSuchMethod, "devices are not called")))
        case .reply: break
        case .flush: flush()
        }
        defer { out = [] }
        return out
    }

    // MARK: The connection

    private mutating func take(_ input: DeviceInput) {
        switch input {
        case .opened(let number):
            guard number == connection, phase == .connecting else { return }
            enter(.greeting)
            var hello = Hello()
            hello.version = 1
            hello.client = "simulated"
            write(.hello(hello.buffer))
        case .frame(let number, let frame):
            guard number == connection else { return }
            heardMS = nowMS
            self.frame(frame)
        case .closed(let number):
            guard number == connection else { return }
            lost()
        }
    }

    private mutating func enter(_ phase: Phase) {
        self.phase = phase
        phaseSinceMS = nowMS
        heardMS = nowMS
    }

    /// Leaves the connection and comes back later.
    mutating func leave() {
        out.append(.output(.close(connection)))
        lost()
    }

    private mutating func lost() {
        guard phase != .offline, phase != .ended else { return }
        connection += 1
        enter(.offline)
        let most = min(DeviceConfig.retryMostMS, DeviceConfig.retryFirstMS << min(retries, 8))
        retries += 1
        retryAtMS = nowMS + most / 2 + UInt64.random(in: 0...most / 2, using: &random)
        requests = [:]
        syncing = false
        syncAgain = false
        syncAtMS = nil
        stating = false
        (unbroken, early, unacked, ackAtMS) = (0, [], 0, nil)
        for name in names { connectionLost(name) }
        if audit?.isDone == false { audit = DeviceAudit(left: names) }
    }

    /// The server does not want it back.
    private mutating func end(_ why: String) {
        leave()
        phase = .ended
        ending = why
    }

    private mutating func frame(_ frame: Frame) {
        switch frame {
        case .welcome(let body):
            guard phase == .greeting, let welcome = Welcome(body: body) else { return leave() }
            serverOffMS = Int64(welcome.serverTimeMs) - Int64(clockMS)
            heartbeatMS = UInt64(welcome.heartbeatMs)
            ackEvery = Int(welcome.pushAckEvery)
            ackMS = UInt64(welcome.pushAckMs)
            enter(.authenticating)
            var request = Authenticate()
            request.token = config.token
            request.deviceID = config.device
            request.platform = config.platform
            write(.authenticate(request.buffer))
        case .authenticated:
            guard phase == .authenticating else { return leave() }
            enter(.ready)
            retries = 0
            logins += 1
            wantSync()
            // The sync may not name a conversation whose hole was seen over an earlier connection.
            for name in names { watchHole(name) }
        case .error(let body), .kick(let body):
            let code = Failure(body: body)?.code ?? 0
            let reason = Failure(body: body)?.reason ?? "?"
            if code == ErrorCode.unsupportedVersion.number || (200..<300).contains(code) {
                end(reason)
            } else {
                leave()
            }
        case .response(let id, let body): answered(id, .success(Data(body.readableBytesView)))
        case .failure(let id, let body): answered(id, .failure(Failure(body: body) ?? Failure(.internalError, "?")))
        case .push(let id, let body): pushed(id, body)
        case .seqNotice(let id, let body): noticed(id, body)
        case .syncNeeded: wantSync()
        case .ping: write(.pong)
        case .pong, .event, .redirect: break
        case .hello, .authenticate, .request, .orderedRequest, .pushAck, .bye: leave()
        }
    }

    // MARK: The tick

    private mutating func tick() {
        makeMessages()
        readSomething()
        switch phase {
        case .ended: return
        case .offline:
            guard nowMS >= retryAtMS else { return }
            connection += 1
            enter(.connecting)
            let place = Int.random(in: 0..<config.places, using: &random)
            out.append(.output(.connect(connection, place: place)))
        case .connecting, .greeting, .authenticating:
            if nowMS >= phaseSinceMS + DeviceConfig.handshakeMS { leave() }
        case .ready:
            if nowMS >= heardMS + 2 * heartbeatMS { return leave() }
            endOverdue()
            if let due = syncAtMS, due <= nowMS { askSync() }
            for name in names { resendIfDue(name) }
            repairHoles()
            tellState()
            goOnWithAudit()
        }
    }

    private mutating func endOverdue() {
        for id in requests.filter({ $0.value.deadlineMS <= nowMS }).keys.sorted() {
            answered(id, .failure(Failure(.deadlineExceeded, "no answer in time")))
        }
    }

    private mutating func flush() {
        guard phase == .ready else { return }
        for name in names { pump(name) }
        if unacked >= ackEvery || ackAtMS.map({ $0 <= nowMS }) ?? false { acknowledge() }
        if nowMS >= spokeMS + heartbeatMS { write(.ping) }
    }

    private mutating func acknowledge() {
        (unacked, ackAtMS) = (0, nil)
        if config.rules.acknowledges, unbroken > 0 { write(.pushAck(pushID: unbroken)) }
    }

    // MARK: Requests

    mutating func write(_ frame: Frame) {
        spokeMS = nowMS
        out.append(.output(.write(connection, frame)))
    }

    /// The number of a request that is about to be written.
    mutating func open(_ purpose: DeviceRequest.Purpose) -> UInt32 {
        defer { nextRequest += 1 }
        requests[nextRequest] = DeviceRequest(purpose: purpose, deadlineMS: nowMS + DeviceConfig.requestMS)
        return nextRequest
    }

    mutating func ask(_ svid: UInt32, _ method: UInt16, _ body: ByteBuffer, _ purpose: DeviceRequest.Purpose) {
        let header = Frame.RequestHeader(svid: UInt16(svid), method: method, requestID: open(purpose))
        write(.request(header, body))
    }

    private mutating func answered(_ id: UInt32, _ answer: Result<Data, Failure>) {
        guard let request = requests.removeValue(forKey: id) else { return }
        switch request.purpose {
        case .send(let name): sendAnswered(name, id, answer)
        case .sync: syncAnswered(answer)
        case .history(let names): historyAnswered(names, answer)
        case .state(let wishes): stateAnswered(wishes, answer)
        case .audit: auditAnswered(answer)
        case .auditPage(let name): auditPageAnswered(name, answer)
        case .other: break
        }
    }
}
