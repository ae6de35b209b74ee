import Machinery
import Wire

/// One connection of a client: first a handshake, then a session, then its last second.
struct Connection: Sendable {
    /// When its last frame came.
    var heardMicros: UInt64
    /// When it stopped taking bytes; 0 while it takes them.
    var stuckMicros: UInt64 = 0
    /// Until the session is open.
    @Seldom var handshake: Handshake?
    /// From AUTHENTICATED to the end; neither of the two is set in the last second.
    var session: Session?
    /// Whether we have stopped reading from it.
    var paused = false
    /// Whether the wheel holds its push entry.
    var pushEntry = false

    init(nowMicros: UInt64) {
        heardMicros = nowMicros
        handshake = Handshake(openedMicros: nowMicros)
    }

    var finished: Bool { session == nil && _handshake.isNil }

    /// Whether to start or stop reading from it; nil when it is as it should be. Nothing is read while it takes no
    /// bytes, nor while we hold too many of its own.
    mutating func changeReading(now: UInt64, config: LoginConfig) -> Bool? {
        guard let held = session?.heldBytes else { return nil }
        let pause = stuckMicros > 0 || held > (paused ? config.maxHeldBytes / 2 : config.maxHeldBytes)
        guard pause != paused else { return nil }
        paused = pause
        if !pause { heardMicros = now }
        return !pause
    }

    /// Whether its session takes another push; if not, it owes the client a SYNC_NEEDED.
    mutating func takesPush(_ config: LoginConfig) -> Bool {
        if stuckMicros == 0, session?.window.hasRoom(config) == true { return true }
        session?.owesSync = true
        return false
    }

    /// What becomes of a push or a notice for this session.
    enum Room {
        /// The message is in the window already; the waiter was added to it.
        case joined
        case free
        case full
    }

    mutating func room(
        for conversation: String, _ seq: UInt64, notice: Bool, _ waiter: Waiter, _ config: LoginConfig
    ) -> Room {
        if session?.window.join(conversation, seq, notice: notice, waiter) == true { return .joined }
        return takesPush(config) ? .free : .full
    }

    /// The frames of what came since the last time, added to the list; true when the session has used up its ids.
    mutating func writeWindow(_ frames: inout [Frame], now: UInt64) -> Bool {
        session?.window.write(&frames, now: now)
        return session?.window.exhausted == true
    }

    /// When to put it into the wheel; nil when there is no need, or it is there. At most one entry is.
    mutating func nextPushEntry(_ config: LoginConfig) -> UInt64? {
        guard !pushEntry, let due = pushDueMicros(config) else { return nil }
        pushEntry = true
        return due
    }

    /// What its push entry in the wheel has found.
    enum PushDue {
        case nothing
        /// Nothing was read for too long.
        case stuck
        /// Nothing was acknowledged for too long.
        case unacknowledged
        /// To be written again.
        case again([Frame])
    }

    mutating func pushDue(now: UInt64, _ config: LoginConfig) -> PushDue {
        pushEntry = false
        guard session != nil else { return .nothing }
        if stuckMicros > 0, stuckMicros + config.slowConsumerMS * 1000 <= now { return .stuck }
        if let due = session?.window.ackDueMicros(config), due <= now { return .unacknowledged }
        guard stuckMicros == 0, let due = session?.window.repeatDueMicros(config), due <= now else { return .nothing }
        return .again(session?.window.again(now: now, config: config) ?? [])
    }

    /// When its unacknowledged frames or unread bytes have to be looked at; nil when there are none.
    func pushDueMicros(_ config: LoginConfig) -> UInt64? {
        let ack = session?.window.ackDueMicros(config)
        if stuckMicros > 0 {
            let cut = stuckMicros + config.slowConsumerMS * 1000
            return min(ack ?? cut, cut)
        }
        guard let ack, let again = session?.window.repeatDueMicros(config) else { return nil }
        return min(ack, again)
    }
}
