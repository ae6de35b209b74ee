import Foundation
import Machinery
import NIOCore
import Wire

/// What happens on a connection's socket.
enum LinkEvent: Equatable {
    case opened
    case closed(String)
    case frame(Frame)
    case tick
}

/// What a machine wants done with its socket.
enum LinkAction: Equatable {
    case open
    case write(Frame)
    case close
}

/// One user's connection on one device: handshake, heartbeat, push acks, reconnect with backoff. Pure.
struct Link {
    enum Phase: Equatable {
        case waiting(until: UInt64)
        case opening(since: UInt64)
        case greeting(since: UInt64)
        case authenticating(since: UInt64)
        case online(since: UInt64)
        case ended
    }

    /// What a frame meant, after the link took what is its own.
    enum Heard {
        case nothing
        case online
        case lost
        case pass(Frame)
    }

    private(set) var phase: Phase
    private(set) var logins = 0
    /// The last thing that ended a connection, or why there is none.
    private(set) var trouble = ""
    /// The server will never let this client in: bad token, unknown app.
    private(set) var fatal: String?
    /// Server clock minus our clock, in milliseconds.
    private(set) var serverOffsetMS: Int64 = 0
    private let config: CheckConfig
    private let authenticate: Authenticate
    private var backoff: Backoff
    private var heartbeat: UInt64 = 30_000_000
    private var ackEvery: UInt32 = 32
    private var ackAfter: UInt64 = 200_000
    private var lastWrite: UInt64 = 0
    private var lastRead: UInt64 = 0
    /// Push ids: everything up to `contiguous` is here, `early` came before something that is missing.
    private var contiguous: UInt32 = 0
    private var ackedUpTo: UInt32 = 0
    private var early: Set<UInt32> = []
    private var ackDue: UInt64?

    init(config: CheckConfig, authenticate: Authenticate, firstOpen: UInt64) {
        self.config = config
        self.authenticate = authenticate
        self.phase = .waiting(until: firstOpen)
        self.backoff = Backoff(firstMS: config.reconnectFirstMS, mostMS: config.reconnectMostMS)
    }

    var isOnline: Bool { onlineSince != nil }

    var onlineSince: UInt64? {
        if case .online(let since) = phase { return since }
        return nil
    }

    /// The server's clock, as far as the last handshake told.
    func serverTimeMS(_ now: UInt64) -> UInt64 { UInt64(max(0, Int64(now / 1000) + serverOffsetMS)) }

    mutating func opened(_ now: UInt64, _ actions: inout [LinkAction]) {
        guard case .opening = phase else { return }
        phase = .greeting(since: now)
        lastRead = now
        var hello = Hello()
        hello.version = 1
        hello.client = "martlet-check"
        write(.hello(hello.buffer), now, &actions)
    }

    mutating func write(_ frame: Frame, _ now: UInt64, _ actions: inout [LinkAction]) {
        lastWrite = now
        actions.append(.write(frame))
    }

    /// Timers. Returns true when the connection was given up.
    mutating func tick(
        _ now: UInt64, _ random: inout SeededRandom, _ actions: inout [LinkAction]
    ) -> Bool {
        switch phase {
        case .waiting(let until):
            if now >= until {
                phase = .opening(since: now)
                actions.append(.open)
            }
        case .opening(let since), .greeting(let since), .authenticating(let since):
            if now >= since + config.handshakeTimeout {
                return lose("no answer to the handshake", now, &random, &actions)
            }
        case .online:
            if let due = ackDue, now + config.tick >= due { acknowledge(now, &actions) }
            if now >= lastRead + heartbeat * 5 / 2 { return lose("the server went silent", now, &random, &actions) }
            if now + config.tick >= lastWrite + heartbeat { write(.ping, now, &actions) }
        case .ended: break
        }
        return false
    }

    mutating func heard(
        _ frame: Frame, _ now: UInt64, _ random: inout SeededRandom, _ actions: inout [LinkAction]
    ) -> Heard {
        lastRead = now
        switch frame {
        case .welcome(let body): return welcomed(body, now, &random, &actions)
        case .authenticated(let body): return authenticated(body, now, &random, &actions)
        case .ping:
            write(.pong, now, &actions)
            return .nothing
        case .pong: return .nothing
        case .error(let body):
            let failure = Failure(body: body) ?? Failure(.malformedFrame, "an ERROR that does not decode")
            if (200..<300).contains(failure.code), failure.code != ErrorCode.displaced.number, !failure.retryable {
                fatal = "\(failure.reason): \(failure.message)"
            }
            _ = lose("error \(failure.reason)", now, &random, &actions)
            return .lost
        case .kick(let body):
            _ = lose("kicked: \(Kick(body: body)?.reason ?? "?")", now, &random, &actions)
            return .lost
        case .redirect, .bye:
            _ = lose("the server sent us away", now, &random, &actions)
            return .lost
        case .push(let id, _), .seqNotice(let id, _):
            guard isOnline else { return .nothing }
            count(id, now, &actions)
            return .pass(frame)
        default: return isOnline ? .pass(frame) : .nothing
        }
    }

    private mutating func welcomed(
        _ body: ByteBuffer, _ now: UInt64, _ random: inout SeededRandom, _ actions: inout [LinkAction]
    ) -> Heard {
        guard case .greeting = phase, let welcome = Welcome(body: body) else {
            _ = lose("a WELCOME out of place", now, &random, &actions)
            return .lost
        }
        serverOffsetMS = Int64(clamping: welcome.serverTimeMs) - Int64(now / 1000)
        if welcome.heartbeatMs > 0 { heartbeat = UInt64(welcome.heartbeatMs) * 1000 }
        if welcome.pushAckEvery > 0 { ackEvery = welcome.pushAckEvery }
        if welcome.pushAckMs > 0 { ackAfter = UInt64(welcome.pushAckMs) * 1000 }
        phase = .authenticating(since: now)
        write(.authenticate(authenticate.buffer), now, &actions)
        return .nothing
    }

    private mutating func authenticated(
        _ body: ByteBuffer, _ now: UInt64, _ random: inout SeededRandom, _ actions: inout [LinkAction]
    ) -> Heard {
        guard case .authenticating = phase, Authenticated(body: body) != nil else {
            _ = lose("an AUTHENTICATED out of place", now, &random, &actions)
            return .lost
        }
        phase = .online(since: now)
        logins += 1
        backoff.reset()
        contiguous = 0
        ackedUpTo = 0
        early = []
        ackDue = nil
        return .online
    }

    /// Push ids count 1, 2, 3 on every connection; only what is here without a hole is acknowledged.
    private mutating func count(_ id: UInt32, _ now: UInt64, _ actions: inout [LinkAction]) {
        if id == contiguous &+ 1 {
            contiguous = id
            while !early.isEmpty, early.remove(contiguous &+ 1) != nil { contiguous += 1 }
        } else if id > contiguous {
            early.insert(id)
            return
        } else {
            // A repeat of what is here already: our ack was lost or is late.
            ackedUpTo = min(ackedUpTo, id - min(id, 1))
        }
        if contiguous - ackedUpTo >= ackEvery { return acknowledge(now, &actions) }
        if ackDue == nil { ackDue = now + ackAfter }
    }

    private mutating func acknowledge(_ now: UInt64, _ actions: inout [LinkAction]) {
        ackDue = nil
        guard contiguous > ackedUpTo else { return }
        ackedUpTo = contiguous
        write(.pushAck(pushID: contiguous), now, &actions)
    }

    /// Closes what is open and waits before the next try. Always true, for callers that end a branch with it.
    mutating func lose(
        _ why: String, _ now: UInt64, _ random: inout SeededRandom, _ actions: inout [LinkAction]
    ) -> Bool {
        closed(why, now, &random)
        actions.append(.close)
        return true
    }

    /// The socket is gone, or never came.
    mutating func closed(_ why: String, _ now: UInt64, _ random: inout SeededRandom) {
        trouble = why
        guard phase != .ended else { return }
        phase = .waiting(until: now + backoff.nextMS(using: &random) * 1000)
    }

    mutating func end(_ actions: inout [LinkAction]) {
        phase = .ended
        actions.append(.close)
    }
}
