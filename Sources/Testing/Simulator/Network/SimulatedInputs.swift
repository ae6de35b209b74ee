import LoginRole
import NIOCore
import RPC
import Wire

extension LoginInput: SimulatedInput {
    public var logText: String {
        switch self {
        case .opened(let id): "opened \(id.value)"
        case .frame(let id, let frame): "frame \(id.value) \(frame.logText)"
        case .malformed(let id, _): "malformed \(id.value)"
        case .writable(let id, let writable): "writable \(id.value) \(writable)"
        case .overflow(let id): "overflow \(id.value)"
        case .closed(let id): "closed \(id.value)"
        case .drain: "drain"
        }
    }

    public var logNumber: UInt64 {
        switch self {
        case .opened(let id): id.value << 8 | 1
        case .frame(let id, let frame): id.value << 8 | 2 | frame.logNumber << 32
        case .malformed(let id, _): id.value << 8 | 3
        case .writable(let id, let writable): id.value << 8 | (writable ? 4 : 5)
        case .overflow(let id): id.value << 8 | 6
        case .closed(let id): id.value << 8 | 7
        case .drain: 8
        }
    }

    public var logExplanation: String {
        if case .frame(_, let frame) = self { return frame.explanation }
        return ""
    }
}

/// What a device learns of its connections. Numbers tell connections apart; none is used twice.
public enum DeviceInput: Sendable, Equatable, SimulatedInput {
    case opened(UInt64)
    case frame(UInt64, Frame)
    /// It is gone, or could not be made; nothing more comes from it.
    case closed(UInt64)

    public var logText: String {
        switch self {
        case .opened(let number): "opened \(number)"
        case .frame(let number, let frame): "frame \(number) \(frame.logText)"
        case .closed(let number): "closed \(number)"
        }
    }

    public var logNumber: UInt64 {
        switch self {
        case .opened(let number): number << 8 | 1
        case .frame(let number, let frame): number << 8 | 2 | frame.logNumber << 32
        case .closed(let number): number << 8 | 3
        }
    }

    public var logExplanation: String {
        if case .frame(_, let frame) = self { return frame.explanation }
        return ""
    }
}

/// What a device wants of the network.
public enum DeviceOutput: Sendable, Equatable {
    /// Connect to the Login in that place; `.opened` or `.closed` comes back with the number.
    case connect(UInt64, place: Int)
    case write(UInt64, Frame)
    /// Close it; nothing more comes from it.
    case close(UInt64)
}

extension Frame {
    /// Type and a hash of the bytes.
    var logText: String {
        var out = ByteBuffer()
        FrameCodec.encodePayload(self, into: &out)
        return "\(type) \(LogHash.text(out.readableBytesView))"
    }

    /// Type and size: cheap, and different frames seldom share both.
    var logNumber: UInt64 { UInt64(type.rawValue) << 24 | UInt64(FrameCodec.payloadBytes(self)) }
}

extension Frame {
    /// The body in words, as far as the frame alone says what it is.
    var explanation: String {
        switch self {
        case .push(let id, let body): "\(id) \(LogText.line(PushedMessage(body: body) as Any))"
        case .seqNotice(let id, let body): "\(id) \(LogText.line(SeqNotice(body: body) as Any))"
        case .pushAck(let id): "\(id)"
        case .response(let id, _): "\(id)"
        case .failure(let id, let body): "\(id) \(LogText.line(Failure(body: body) as Any))"
        case .error(let body), .kick(let body): LogText.line(Failure(body: body) as Any)
        case .syncNeeded(let body): LogText.line(SyncNeeded(body: body) as Any)
        case .event(let body): LogText.line(Event(body: body) as Any)
        case .authenticated(let body): LogText.line(Authenticated(body: body) as Any)
        case .request(let header, let body): Self.words(header, body)
        case .orderedRequest(let header, let key, let turn, let body):
            "\(key) turn \(turn) \(Self.words(header, body))"
        case .hello, .welcome, .authenticate, .ping, .pong, .redirect, .bye: ""
        }
    }

    private static func words(_ header: RequestHeader, _ body: ByteBuffer) -> String {
        let value: Any? =
            switch (header.svid, header.method) {
            case (1, 1): SendRequest(body: body)
            case (4, 1): SyncRequest(body: body)
            case (4, 2): SetStateRequest(body: body)
            case (6, 1): HistoryRequest(body: body)
            default: nil
            }
        return "\(header.svid).\(header.method) \(header.requestID) \(value.map(LogText.line) ?? "")"
    }
}
