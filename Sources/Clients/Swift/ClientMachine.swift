import Identity
import Machinery
import NIOCore
import Wire

/// The rules of a client (Protocols/README.md) as a value: no clock, socket or task. Times are milliseconds of any
/// clock that only goes forward. What it wants written gathers until `.flush`.
public struct ClientMachine: Sendable {
    public let config: ClientConfig
    /// Set by AUTHENTICATED.
    public internal(set) var userID = ""
    /// Messages that came again after they were known: normal after a reconnect.
    public internal(set) var redelivered = 0

    var random: SeededRandom
    var phase = Phase.idle
    var out: [Frame] = []
    var actions: [ClientAction] = []
    var conversations: [String: LocalConversation] = [:]
    var openRequests: [UInt32: OpenRequest] = [:]
    var nextRequestID: UInt32 = 1
    var outboxCount = 0
    /// Conversations whose outbox has something that is not written on this connection.
    var unwritten: Set<String> = []
    var watched: [String] = []

    // The connection.
    var serverAheadMS: Int64 = 0
    var heartbeatMS: UInt64 = 30_000
    var lastWrittenMS: UInt64 = 0
    var lastHeardMS: UInt64 = 0
    var reconnect: Backoff
    var redirect: String?

    // Push acks of this connection.
    var contiguousPush: UInt32 = 0
    var earlyPushes: Set<UInt32> = []
    var unackedPushes = 0
    var ackDueMS: UInt64?
    var ackEvery = 32
    var ackMS: UInt64 = 200

    // Sync.
    var syncToken: [UInt8] = []
    var synced = false
    /// From its first page until its last has come.
    var syncRunning = false
    var syncAgain = false
    var syncDueMS: UInt64?

    // Things due later, by conversation.
    var gapDueMS: [String: UInt64] = [:]
    var resendDueMS: [String: UInt64] = [:]
    var positions: [String: PositionChange] = [:]
    var positionsDueMS: UInt64?
    var positionsRunning = false

    /// - Parameters:
    ///   - config: who and how.
    ///   - seed: of every random choice: jitter and message ids. Never the same twice in production.
    public init(config: ClientConfig, seed: UInt64) {
        self.config = config
        random = SeededRandom(seed: seed)
        reconnect = Backoff(firstMS: config.reconnectFirstMS, mostMS: config.reconnectMostMS)
    }

    /// Tells the machine what happened and returns what is to be done, in order.
    public mutating func on(_ event: ClientEvent, nowMS: UInt64) -> [ClientAction] {
        guard phase != .ended else { return refuse(event) }
        handle(event, nowMS)
        runDue(nowMS)
        if event == .flush { flush(nowMS) }
        defer { actions.removeAll(keepingCapacity: true) }
        return actions
    }

    private mutating func handle(_ event: ClientEvent, _ nowMS: UInt64) {
        switch event {
        case .start: if phase == .idle { connect(nowMS) }
        case .stop: stop()
        case .connected: greet(nowMS)
        case .disconnected(let why): lost(why, nowMS)
        case .received(let frame): received(frame, nowMS)
        case .send(let message): enqueue(message)
        case .request(let handle, let svid, let method, let body):
            appRequest(handle, svid, method, body, nowMS)
        case .read(let conversation, let seq): markRead(conversation, seq, nowMS)
        case .watch(let users):
            watched = Array(users.prefix(500))
            if phase == .ready { sendWatch(nowMS) }
        case .sync: requestSync(nowMS)
        case .flush: break
        }
    }

    /// After the end nothing is pending for ever: sends and requests are answered at once.
    private func refuse(_ event: ClientEvent) -> [ClientAction] {
        let failure = Failure(.goingAway, "the client is closed")
        switch event {
        case .send(let message): return [.notify(.failed(handle: message.handle, failure))]
        case .request(let handle, _, _, _): return [.notify(.answer(handle: handle, .failed(failure)))]
        default: return []
        }
    }

    /// When `.flush` is wanted next though nothing happens; nil when nothing is due.
    public var nextWakeMS: UInt64? {
        var soonest: UInt64?
        func consider(_ time: UInt64?) {
            guard let time else { return }
            soonest = min(soonest ?? time, time)
        }
        switch phase {
        case .idle, .ended: return nil
        case .waiting(let until): return until
        case .connecting(let since), .greeting(let since), .authenticating(let since):
            return since + config.handshakeMS
        case .ready: break
        }
        consider(lastWrittenMS + heartbeatMS)
        consider(lastHeardMS + 2 * heartbeatMS)
        consider(ackDueMS)
        consider(syncDueMS)
        if !positionsRunning { consider(positionsDueMS) }
        consider(gapDueMS.values.min())
        consider(resendDueMS.values.min())
        consider(openRequests.values.lazy.map(\.sentMS).min().map { $0 + config.answerMS })
        return soonest
    }

    private mutating func runDue(_ nowMS: UInt64) {
        switch phase {
        case .idle, .ended: return
        case .waiting(let until): if nowMS >= until { connect(nowMS) }
        case .connecting(let since), .greeting(let since), .authenticating(let since):
            if nowMS >= since + config.handshakeMS { dropConnection("the server did not answer in time", nowMS) }
        case .ready: runDueWhileReady(nowMS)
        }
    }

    private mutating func runDueWhileReady(_ nowMS: UInt64) {
        if nowMS >= lastHeardMS + 2 * heartbeatMS { return dropConnection("the server fell silent", nowMS) }
        if let oldest = openRequests.values.lazy.map(\.sentMS).min(), nowMS >= oldest + config.answerMS {
            return dropConnection("a request was not answered", nowMS)
        }
        if let due = syncDueMS, nowMS >= due { syncIsDue(nowMS) }
        if let due = positionsDueMS, nowMS >= due { sendPositions(nowMS) }
        repairGaps(nowMS)
        for key in resendDueMS.filter({ nowMS >= $0.value }).keys { resendDueMS[key] = nil }
    }

    /// Server time now, Unix milliseconds.
    func serverTimeMS(_ nowMS: UInt64) -> UInt64 { UInt64(max(0, Int64(clamping: nowMS) + serverAheadMS)) }

    func after(_ waitMS: UInt64, jitterMS: UInt64, _ nowMS: UInt64, _ random: inout SeededRandom) -> UInt64 {
        nowMS + waitMS + UInt64.random(in: 0...jitterMS, using: &random)
    }
}
