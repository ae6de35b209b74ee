import NIOCore

/// Turns frames into bytes and back. Stateless; bodies are slices of the buffer that they came in, never copies.
public enum FrameCodec {
    /// Takes one length-prefixed frame off the front of a TCP stream. Returns nil, with the buffer untouched, when more
    /// bytes are needed.
    ///
    /// - Throws: `FrameError` when the bytes can never become a frame of at most `limit` bytes; close the connection.
    public static func decodeStream(_ buffer: inout ByteBuffer, limit: Int) throws(FrameError) -> Frame? {
        guard let (length, prefix) = try peekLength(buffer) else { return nil }
        guard length > 0 else { throw .empty }
        guard length <= limit else { throw .tooLarge(bytes: length, limit: limit) }
        guard buffer.readableBytes >= prefix + length else { return nil }
        buffer.moveReaderIndex(forwardBy: prefix)
        guard let payload = buffer.readSlice(length: length) else { return nil }
        return try decode(payload)
    }

    /// The varint at the front and how many bytes it takes; nil when it is incomplete.
    static func peekLength(_ buffer: ByteBuffer) throws(FrameError) -> (length: Int, prefix: Int)? {
        var length = 0
        for index in 0..<FrameLimits.maxLengthBytes {
            guard let byte = buffer.getInteger(at: buffer.readerIndex + index, as: UInt8.self) else { return nil }
            length |= Int(byte & 0x7f) << (7 * index)
            if byte & 0x80 == 0 {
                if byte == 0 && index > 0 { throw .badLength }
                return (length, index + 1)
            }
        }
        throw .badLength
    }

    /// Decodes one whole payload (a WebSocket message, a datagram, or what `decodeStream` cut out).
    public static func decode(_ payload: ByteBuffer) throws(FrameError) -> Frame {
        var rest = payload
        guard let first: UInt8 = rest.readInteger() else { throw .empty }
        guard let type = FrameType(rawValue: first) else { throw .unknownType(first) }
        switch type {
        case .hello: return .hello(rest)
        case .welcome: return .welcome(rest)
        case .authenticate: return .authenticate(rest)
        case .authenticated: return .authenticated(rest)
        case .ping: return try bare(.ping, type, rest)
        case .pong: return try bare(.pong, type, rest)
        case .bye: return try bare(.bye, type, rest)
        case .request: return .request(try header(&rest, type), rest)
        case .orderedRequest:
            let header = try header(&rest, type)
            let turn: UInt16 = try number(&rest, type)
            let keyLength: UInt8 = try number(&rest, type)
            guard let bytes = rest.readSlice(length: Int(keyLength)) else { throw .truncatedHeader(type) }
            guard keyLength > 0, let key = String(validating: bytes.readableBytesView, as: UTF8.self) else {
                throw .badKey
            }
            return .orderedRequest(header, key: key, turn: turn, rest)
        case .response: return .response(requestID: try number(&rest, type), rest)
        case .failure: return .failure(requestID: try number(&rest, type), rest)
        case .push: return .push(pushID: try number(&rest, type), rest)
        case .seqNotice: return .seqNotice(pushID: try number(&rest, type), rest)
        case .pushAck: return try bare(.pushAck(pushID: try number(&rest, type)), type, rest)
        case .kick: return .kick(rest)
        case .redirect: return .redirect(rest)
        case .syncNeeded: return .syncNeeded(rest)
        case .error: return .error(rest)
        case .event: return .event(rest)
        }
    }

    private static func bare(_ frame: Frame, _ type: FrameType, _ rest: ByteBuffer) throws(FrameError) -> Frame {
        guard rest.readableBytes == 0 else { throw .trailingBytes(type) }
        return frame
    }

    private static func number<T: FixedWidthInteger>(_ rest: inout ByteBuffer, _ type: FrameType) throws(FrameError)
        -> T
    {
        guard let value: T = rest.readInteger() else { throw .truncatedHeader(type) }
        return value
    }

    private static func header(_ rest: inout ByteBuffer, _ type: FrameType) throws(FrameError) -> Frame.RequestHeader {
        Frame.RequestHeader(
            svid: try number(&rest, type), method: try number(&rest, type), requestID: try number(&rest, type))
    }

    /// Appends the payload alone: for WebSocket messages and datagrams.
    public static func encodePayload(_ frame: Frame, into out: inout ByteBuffer) {
        out.writeInteger(frame.type.rawValue)
        switch frame {
        case .hello(let body), .welcome(let body), .authenticate(let body), .authenticated(let body),
            .kick(let body), .redirect(let body), .syncNeeded(let body), .error(let body), .event(let body):
            out.writeImmutableBuffer(body)
        case .ping, .pong, .bye: break
        case .request(let header, let body):
            write(header, into: &out)
            out.writeImmutableBuffer(body)
        case .orderedRequest(let header, let key, let turn, let body):
            write(header, into: &out)
            out.writeInteger(turn)
            out.writeInteger(UInt8(key.utf8.count))
            out.writeString(key)
            out.writeImmutableBuffer(body)
        case .response(let id, let body), .failure(let id, let body), .push(let id, let body),
            .seqNotice(let id, let body):
            out.writeInteger(id)
            out.writeImmutableBuffer(body)
        case .pushAck(let id): out.writeInteger(id)
        }
    }

    private static func write(_ header: Frame.RequestHeader, into out: inout ByteBuffer) {
        out.writeInteger(header.svid)
        out.writeInteger(header.method)
        out.writeInteger(header.requestID)
    }

    /// Appends the length and the payload: for TCP.
    public static func encodeStream(_ frame: Frame, into out: inout ByteBuffer) {
        writeLength(payloadBytes(frame), into: &out)
        encodePayload(frame, into: &out)
    }

    /// The varint in front of a TCP frame, 7 bits a byte, lowest first, at most `FrameLimits.maxLengthBytes`.
    public static func writeLength(_ length: Int, into out: inout ByteBuffer) {
        precondition(length < 1 << (7 * FrameLimits.maxLengthBytes), "a frame of \(length) bytes")
        var rest = length
        while rest >= 0x80 {
            out.writeInteger(UInt8(rest & 0x7f) | 0x80)
            rest >>= 7
        }
        out.writeInteger(UInt8(rest))
    }

    /// Bytes of the encoded payload.
    public static func payloadBytes(_ frame: Frame) -> Int {
        switch frame {
        case .hello(let body), .welcome(let body), .authenticate(let body), .authenticated(let body),
            .kick(let body), .redirect(let body), .syncNeeded(let body), .error(let body), .event(let body):
            1 + body.readableBytes
        case .ping, .pong, .bye: 1
        case .request(_, let body): 9 + body.readableBytes
        case .orderedRequest(_, let key, _, let body): 12 + key.utf8.count + body.readableBytes
        case .response(_, let body), .failure(_, let body), .push(_, let body), .seqNotice(_, let body):
            5 + body.readableBytes
        case .pushAck: 5
        }
    }
}

extension Frame {
    /// The first byte.
    public var type: FrameType {
        switch self {
        case .hello: .hello
        case .welcome: .welcome
        case .authenticate: .authenticate
        case .authenticated: .authenticated
        case .ping: .ping
        case .pong: .pong
        case .request: .request
        case .orderedRequest: .orderedRequest
        case .response: .response
        case .failure: .failure
        case .push: .push
        case .pushAck: .pushAck
        case .seqNotice: .seqNotice
        case .kick: .kick
        case .redirect: .redirect
        case .syncNeeded: .syncNeeded
        case .error: .error
        case .event: .event
        case .bye: .bye
        }
    }
}
