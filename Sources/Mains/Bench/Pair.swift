/// A message between its send and its end: a place in its pair's ring.
struct Flight {
    enum Ack: UInt8 { case waiting, accepted, retry }

    /// Latency counts from here: the moment of the send, or in the paced phase the moment it was due.
    var startMicros: UInt64 = 0
    /// When it was made, by the server's clock: part of a Martlet message's id, which a resend repeats.
    var timeMS: UInt64 = 0
    var ack = Ack.waiting
    var received = false
    /// Over, one way or the other.
    var ended = true
}

/// Two users in a conversation; the first sends, the second receives.
final class Pair {
    /// Most that can be unfinished at once, as many as a session may have in flight; what is due beyond it waits in
    /// `backlog`.
    private static let ringSize: UInt32 = 64

    let sender: Link
    let receiver: Link
    /// Raised with every resend, so that nothing sent before can overtake.
    var turn: UInt16 = 0
    /// Messages that were sent and whose answer is missing.
    var unanswered = 0
    /// Something has to be sent again: nothing new is sent until that has happened.
    var broken = false
    var resendAtMicros: UInt64 = 0
    /// One of the two connections has ended.
    var dead = false
    /// Paced phase: when the messages were due that found no room.
    var backlog: [UInt64] = []
    private(set) var open = 0
    private(set) var base: UInt32 = 1
    private(set) var next: UInt32 = 1
    private var ring = [Flight](repeating: Flight(), count: Int(ringSize))

    init(sender: Link, receiver: Link) {
        self.sender = sender
        self.receiver = receiver
    }

    /// From 0; its links are the fleet's 2 * index and the next.
    var index: Int { sender.index / 2 }

    var hasRoom: Bool { next - base < Self.ringSize && !broken && !dead }

    /// A new message's number; there must be room.
    func start(_ flight: Flight) -> UInt32 {
        defer { next += 1 }
        ring[Int(next % Self.ringSize)] = flight
        open += 1
        return next
    }

    /// Whether the number is of a message that has not ended.
    func isOpen(_ number: UInt32) -> Bool {
        number >= base && number < next && !ring[Int(number % Self.ringSize)].ended
    }

    subscript(number: UInt32) -> Flight {
        get { ring[Int(number % Self.ringSize)] }
        set { ring[Int(number % Self.ringSize)] = newValue }
    }

    func end(_ number: UInt32) {
        ring[Int(number % Self.ringSize)].ended = true
        open -= 1
        while base < next, ring[Int(base % Self.ringSize)].ended { base += 1 }
    }
}
