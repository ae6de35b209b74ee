/// One protocol's half of the chat bench: how its messages are written, and what of the received means that one was
/// acknowledged or arrived. It tells `run`, which does the counting.
protocol ChatTraffic: AnyObject {
    /// "martlet", "mqtt" or "xmpp".
    var name: String { get }
    var dialect: any Dialect { get }
    var run: ChatRun? { get set }
    /// What each user logs in with.
    func tokens(for users: [String]) throws(BenchError) -> [String]
    /// Called once, before anything is sent.
    func prepare(_ pairs: [Pair]) throws(BenchError)
    /// The time that a message sent now carries; 0 when it carries none.
    func timeMS(now: UInt64) -> UInt64
    /// Appends the pair's message, for the first time or again, to what its sender has to send.
    func write(_ number: UInt32, of pair: Pair)
}

extension ChatTraffic where Self: Dialect {
    var dialect: any Dialect { self }
    func timeMS(now: UInt64) -> UInt64 { 0 }
}
