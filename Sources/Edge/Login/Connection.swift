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

    var finished: Bool { handshake == nil && session == nil }

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
