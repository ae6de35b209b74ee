import NIOCore

/// A frame of the client protocol. `payload` here is what one WebSocket message or datagram carries; on TCP a varint
/// length stands in front (`FrameCodec`). The first byte is the type; the header fields are big-endian.
public enum Frame: Equatable, Sendable {
    case hello(ByteBuffer)
    case welcome(ByteBuffer)
    case authenticate(ByteBuffer)
    case authenticated(ByteBuffer)
    case ping
    case pong
    case request(RequestHeader, ByteBuffer)
    /// Requests of one key are carried out in the order sent. `turn` starts at 0 and is raised by the client each time
    /// it resends after a failure, so that frames sent before it learned of the failure cannot overtake.
    case orderedRequest(RequestHeader, key: String, turn: UInt16, ByteBuffer)
    case response(requestID: UInt32, ByteBuffer)
    case failure(requestID: UInt32, ByteBuffer)
    case push(pushID: UInt32, ByteBuffer)
    case pushAck(pushID: UInt32)
    case seqNotice(pushID: UInt32, ByteBuffer)
    case kick(ByteBuffer)
    case redirect(ByteBuffer)
    case syncNeeded(ByteBuffer)
    case error(ByteBuffer)
    case event(ByteBuffer)
    case bye

    /// Service, method and the number that the answer will carry.
    public struct RequestHeader: Equatable, Sendable {
        public var svid: UInt16
        public var method: UInt16
        public var requestID: UInt32

        public init(svid: UInt16, method: UInt16, requestID: UInt32) {
            self.svid = svid
            self.method = method
            self.requestID = requestID
        }
    }
}

/// The first byte of a frame.
public enum FrameType: UInt8, CaseIterable, Sendable {
    case hello = 1
    case welcome = 2
    case authenticate = 3
    case authenticated = 4
    case ping = 5
    case pong = 6
    case request = 7
    case orderedRequest = 8
    case response = 9
    case failure = 10
    case push = 11
    case pushAck = 12
    case seqNotice = 13
    case kick = 14
    case redirect = 15
    case syncNeeded = 16
    case error = 17
    case event = 18
    case bye = 19
}

/// Sizes that bound what a peer can make us hold.
public enum FrameLimits {
    /// Largest payload before a session is authenticated: a HELLO and an AUTHENTICATE with a 4 KiB token fit.
    public static let beforeLoginBytes = 8 * 1024
    /// Largest payload after: 64 items of text, or one of 32 KiB, with their envelopes.
    public static let afterLoginBytes = 128 * 1024
    /// Longest varint length prefix.
    public static let maxLengthBytes = 4
}

/// Why bytes are not a frame.
public enum FrameError: Error, Equatable, Sendable {
    case tooLarge(bytes: Int, limit: Int)
    case badLength
    case empty
    case unknownType(UInt8)
    case truncatedHeader(FrameType)
    case badKey
    case trailingBytes(FrameType)
}
