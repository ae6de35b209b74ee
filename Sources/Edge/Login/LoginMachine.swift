import Identity
import Machinery
import NIOCore
import RPC
import Wire

/// The edge: connections in, sessions kept, requests on to Route, pushes out until they are acknowledged. Lifetimes
/// nest: connection > handshake > session > ordered keys and push window. One timer, one wheel.
///
/// Isolation: confined to the lane of its host.
public struct LoginMachine: RoleMachine {
    public static let role = RoleName.login

    typealias Action = RoleAction<LoginOutput>

    /// What a call of ours was about.
    enum Call: Sendable {
        case apps([String])
        case accounts([AccountDesk.Newcomer])
        case register([ConnectionID])
        case registerAgain([ConnectionID])
        case unregister([Registration])
        /// The slices to be compared with its answer.
        case lease([UInt32])
        case requests([RequestTicket])
    }

    private enum TimerID { static let tick: UInt64 = 1 }
    private static let tickMS = UInt32(DeadlineWheel.slotMicros / 1000)

    let config: LoginConfig
    let loginID: String
    var random: SeededRandom
    var now = Instant(micros: 0, wallMS: 0)
    var connections: SlotTable<ConnectionID, Connection> = [:]
    /// Open sessions by id.
    var sessions: [String: ConnectionID] = [:]
    /// Session ids given so far.
    var sessionCount: UInt64 = 0
    /// `Registration.welcomedUs` of the handshake that began last.
    var lastWelcomeUS: UInt64 = 0
    var wheel = DeadlineWheel(nowMicros: 0)
    var apps: AppKeys
    var accounts: AccountDesk
    var presence: PresenceDesk
    var requests = RequestDesk()
    var deliveries = DeliveryDesk()
    /// Since when, and until when, it drains.
    var drainUntilMicros: UInt64?
    var drained = false
    /// Goodbyes per tick, and what is left of them in this one.
    var drainShare = 0
    var drainLeft = 0
    private var announceMicros: UInt64 = 0
    private var calls: [UInt64: Call] = [:]
    private var nextToken: UInt64 = 1
    private var out: [Action] = []
    private var wrote = false

    /// - Parameters:
    ///   - loginID: the host's instance name: it is what Route sends to.
    ///   - random: decides the random part of session ids, so seed it from the system's randomness outside of tests.
    public init(config: LoginConfig, loginID: String, random: SeededRandom) {
        self.config = config
        self.loginID = loginID
        self.random = random
        apps = AppKeys(config: config)
        accounts = AccountDesk(config: config)
        presence = PresenceDesk(config: config)
    }

    public mutating func on(_ event: RoleEvent<LoginInput>, now: Instant) -> [RoleAction<LoginOutput>] {
        self.now = now
        switch event {
        case .input(let input): take(input)
        case .call(let id, let payload, let deadline): called(id, payload, deadline)
        case .reply(let token, let result): replied(token, result)
        case .timer(let id):
            precondition(id == TimerID.tick, "timer \(id)")
            tick()
        case .flush: flush()
        case .start:
            wheel = DeadlineWheel(nowMicros: now.micros)
            emit(.timer(TimerID.tick, afterMS: Self.tickMS))
        }
        defer { out = [] }
        return out
    }

    // MARK: - What comes in

    private mutating func take(_ input: LoginInput) {
        switch input {
        case .frame(let id, let frame): self.frame(id, frame)
        case .opened(let id): opened(id)
        case .closed(let id):
            close(id)
            connections[id] = nil
        case .writable(let id, let writable): self.writable(id, writable)
        case .overflow(let id):
            guard connections[id]?.finished == false else { return }
            close(id)
            output(.abort(id))
        case .malformed(let id, let why):
            switch why {
            case .tooLarge(let text): refuse(id, Failure(.frameTooLarge, text))
            case .notAFrame(let text): refuse(id, Failure(.malformedFrame, text))
            }
        case .drain: drain()
        }
    }

    private mutating func opened(_ id: ConnectionID) {
        precondition(connections[id] == nil, "connection \(id.value) opened twice")
        connections[id] = Connection(nowMicros: now.micros)
        wheel.add(.init(connection: id, kind: .life), atMicros: now.micros + config.handshakeMS * 1000)
        if drainUntilMicros != nil { refuse(id, Failure(.goingAway, "this server is going away")) }
    }

    private mutating func frame(_ id: ConnectionID, _ frame: Frame) {
        let isOpen = connections.change(id) {
            $0.heardMicros = now.micros
            return $0.session != nil
        }
        if isOpen == true {
            sessionFrame(id, frame)
        } else if let reaction = connections[id]?.handshake?.on(frame, config: config) {
            handshake(id, reaction)
        }
    }

    private mutating func sessionFrame(_ id: ConnectionID, _ frame: Frame) {
        switch frame {
        case .orderedRequest(let header, let key, let turn, let body): ordered(id, header, key, turn, body)
        case .request(let header, let body): unordered(id, header, body)
        case .pushAck(let pushID): acknowledged(id, pushID)
        case .ping: write(id, .pong)
        case .pong: break
        case .bye: finish(id)
        case .hello, .welcome, .authenticate, .authenticated, .response, .failure, .push, .seqNotice, .kick, .redirect,
            .syncNeeded, .error, .event:
            refuse(id, Failure(.unexpectedFrame, "\(frame.type) in a session"))
        }
    }

    private mutating func called(_ id: CallID, _ payload: Payload, _ deadline: UInt64) {
        switch payload {
        case .deliverRequest(let request): deliver(id, request, deadline)
        case .kickRequest(let request): kick(id, request)
        case .eventRequest(let request): event(id, request)
        default: emit(.refuse(id, Failure(.noSuchMethod, "Login does not answer payload \(payload.kind)")))
        }
    }

    private mutating func replied(_ token: UInt64, _ result: CallResult) {
        guard let call = calls.removeValue(forKey: token) else { preconditionFailure("a reply nobody waits for") }
        switch call {
        case .requests(let tickets): answered(tickets, result)
        case .apps(let ids): appsAnswered(ids, result)
        case .accounts(let batch): accountsAnswered(batch, result)
        case .register(let ids): registered(ids, result)
        case .registerAgain(let ids): registeredAgain(ids, result)
        case .unregister(let registrations): unregistered(registrations, result)
        case .lease(let slices): leased(slices, result)
        }
    }

    private mutating func flush() {
        askForApps()
        flushAccounts()
        flushPresence()
        flushRequests()
        flushWindows()
        if wrote {
            wrote = false
            emit(.output(.flush))
        }
    }

    private mutating func tick() {
        emit(.timer(TimerID.tick, afterMS: Self.tickMS))
        for entry in wheel.turn(toMicros: now.micros) {
            switch entry.kind {
            case .life: lifeDue(entry.connection)
            case .token: endWithToken(entry.connection)
            case .push: pushDue(entry.connection)
            case .linger: if connections[entry.connection] != nil { output(.abort(entry.connection)) }
            }
        }
        forgetDeliveries()
        presenceTick()
        drainLeft = drainShare
        drainTick()
        if announceMicros <= now.micros, !drained { announce() }
    }

    mutating func announce(leaving: Bool = false) {
        announceMicros = now.micros + config.announceEveryMS * 1000
        var announce = LoginAnnounce()
        announce.loginID = loginID
        announce.site = config.site
        announce.leaving = leaving
        emit(.tell(.all(.route), .loginAnnounce(announce)))
    }

    /// A handshake that takes too long, or a session that has fallen silent.
    private mutating func lifeDue(_ id: ConnectionID) {
        guard let connection = connections[id], !connection.finished else { return }
        var due: UInt64
        if let handshake = connection.handshake {
            due = handshake.openedMicros + config.handshakeMS * 1000
            if due <= now.micros {
                return refuse(id, Failure(.handshakeTimeout, "no login within \(config.handshakeMS) ms"))
            }
        } else {
            guard let session = connection.session, !endWithToken(id) else { return }
            // While we do not read from it, it cannot be heard.
            let heard = connection.paused ? now.micros : connection.heardMicros
            due = heard + config.heartbeatMS * config.missedHeartbeats * 1000
            if due <= now.micros {
                return refuse(id, Failure(.heartbeatTimeout, "nothing heard for \(config.missedHeartbeats) heartbeats"))
            }
            due = min(due, session.endsMicros)
        }
        wheel.add(.init(connection: id, kind: .life), atMicros: due)
    }

    /// A session is not worth more than its token: true when it has ended with it.
    @discardableResult
    private mutating func endWithToken(_ id: ConnectionID) -> Bool {
        guard let session = connections[id]?.session, session.endsMicros <= now.micros else { return false }
        kick(id, code: Failure(.tokenExpired, "get a new token from your app's server"))
        return true
    }

    // MARK: - What goes out

    mutating func emit(_ action: Action) { out.append(action) }

    mutating func output(_ value: LoginOutput) { out.append(.output(value)) }

    mutating func write(_ id: ConnectionID, _ frame: Frame) {
        wrote = true
        out.append(.output(.write(id, frame)))
    }

    mutating func call(_ call: Call, _ role: RoleName, _ payload: Payload) {
        let token = nextToken
        nextToken += 1
        calls[token] = call
        emit(.call(token, .any(role), payload, timeoutMS: config.callTimeoutMS))
    }

    /// Tells the client why, and closes.
    mutating func refuse(_ id: ConnectionID, _ failure: Failure) {
        guard connections[id]?.finished == false else { return }
        write(id, .error(failure.buffer))
        finish(id)
    }

    /// Closes our side after what was written; the client gets a moment to read it.
    mutating func finish(_ id: ConnectionID) {
        guard connections[id]?.finished == false else { return }
        close(id)
        output(.finish(id))
        wrote = true
        wheel.add(.init(connection: id, kind: .linger), atMicros: now.micros + config.lingerMS * 1000)
    }

    /// The connection's handshake or session is over.
    private mutating func close(_ id: ConnectionID) {
        connections[id]?.handshake = nil
        guard var session = connections[id]?.session else { return }
        connections[id]?.session = nil
        sessions[session.caller.sessionID] = nil
        presence.slices.remove(session.caller.sessionID)
        for waiter in session.window.giveUp() { settle(waiter, .notHere) }
        presence.unregister(session.registration(site: config.site), config: config)
    }

    /// Reads from it, or not: not while it takes no bytes, nor while we hold too many of its own.
    mutating func adjustReading(_ id: ConnectionID) {
        let change = connections.change(id) { $0.changeReading(now: now.micros, config: config) }
        guard let reading = change else { return }
        output(.reading(id, reading))
    }
}
