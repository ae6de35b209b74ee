/// What a fleet's connections speak: login, signs of life, and where messages of the protocol begin and end. The fleet
/// owns the sockets; a dialect appends to `Link.out` and touches the link.
protocol Dialect: AnyObject {
    /// A link that sent nothing for half of this is to give a sign of life.
    var heartbeatMicros: UInt64 { get }
    /// Longest wait of a turn while the dialect has something with a time of its own; nil: nothing.
    var tickMS: Int32? { get }
    /// The connection is there, nothing was said.
    func connected(_ link: Link, of fleet: Fleet)
    /// Handles what is complete in the bytes, which are lent for the call; how many bytes that was. The rest comes
    /// again with what follows.
    ///
    /// - Throws: for bytes that make no sense: the link ends.
    func parse(_ bytes: UnsafeRawBufferPointer, _ link: Link, of fleet: Fleet) throws(BenchError) -> Int
    /// Appends a sign of life.
    func keepAlive(_ link: Link)
    /// Appends a farewell, if there is one.
    func goodbye(_ link: Link)
    /// Once a turn, after all that was received.
    func tick(_ fleet: Fleet)
}

extension Dialect {
    var tickMS: Int32? { nil }
    func tick(_ fleet: Fleet) {}
}
