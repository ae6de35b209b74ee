import Foundation
import NIOCore
import Testing
import Wire

/// Protocols/Vectors/frames.json: what every implementation of the protocol has to agree with.
struct FrameVectors: Decodable {
    struct Vector: Decodable {
        var name: String
        var stream: String
        var type: String
        var body: String
        var svid: UInt16?
        var method: UInt16?
        var request_id: UInt32?
        var push_id: UInt32?
        var key: String?
        var turn: UInt16?
    }

    struct Malformed: Decodable {
        var name: String
        var stream: String
        var error: String
        var limit: Int
    }

    var version: Int
    var frames: [Vector]
    var malformed: [Malformed]

    static func load(file: String = #filePath) throws -> FrameVectors {
        let root = URL(fileURLWithPath: file).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let data = try Data(contentsOf: root.appendingPathComponent("Protocols/Vectors/frames.json"))
        return try JSONDecoder().decode(FrameVectors.self, from: data)
    }
}

func bytes(hex: String) throws -> ByteBuffer {
    var out = ByteBuffer()
    var rest = Substring(hex)
    while !rest.isEmpty {
        out.writeInteger(try #require(UInt8(rest.prefix(2), radix: 16)))
        rest = rest.dropFirst(2)
    }
    return out
}

extension FrameVectors.Vector {
    /// The frame as the vector's fields describe it, made without the codec.
    func frame() throws -> Frame {
        let body = try bytes(hex: body)
        func header() throws -> Frame.RequestHeader {
            Frame.RequestHeader(
                svid: try #require(svid), method: try #require(method), requestID: try #require(request_id))
        }
        switch type {
        case "hello": return .hello(body)
        case "welcome": return .welcome(body)
        case "authenticate": return .authenticate(body)
        case "authenticated": return .authenticated(body)
        case "ping": return .ping
        case "pong": return .pong
        case "bye": return .bye
        case "request": return .request(try header(), body)
        case "ordered_request":
            return .orderedRequest(try header(), key: try #require(key), turn: try #require(turn), body)
        case "response": return .response(requestID: try #require(request_id), body)
        case "failure": return .failure(requestID: try #require(request_id), body)
        case "push": return .push(pushID: try #require(push_id), body)
        case "push_ack": return .pushAck(pushID: try #require(push_id))
        case "seq_notice": return .seqNotice(pushID: try #require(push_id), body)
        case "kick": return .kick(body)
        case "redirect": return .redirect(body)
        case "sync_needed": return .syncNeeded(body)
        case "error": return .error(body)
        case "event": return .event(body)
        default:
            Issue.record("vector \(name) has type \(type)")
            return .bye
        }
    }
}

extension FrameError {
    var name: String {
        switch self {
        case .tooLarge: "too_large"
        case .badLength: "bad_length"
        case .empty: "empty"
        case .unknownType: "unknown_type"
        case .truncatedHeader: "truncated_header"
        case .badKey: "bad_key"
        case .trailingBytes: "trailing_bytes"
        }
    }
}

/// Decodes pieces as a connection would: what is left of one is put in front of the next.
func decodeAll(_ pieces: [ByteBuffer], limit: Int = FrameLimits.afterLoginBytes) throws(FrameError) -> [Frame] {
    var held = ByteBuffer()
    var frames: [Frame] = []
    for piece in pieces {
        held.writeImmutableBuffer(piece)
        while let frame = try FrameCodec.decodeStream(&held, limit: limit) { frames.append(frame) }
    }
    return frames
}

@Suite struct FrameVectorTests {
    @Test func everyTypeHasAVector() throws {
        let vectors = try FrameVectors.load()
        let types = try Set(vectors.frames.map { try $0.frame().type })
        #expect(types == Set(FrameType.allCases))
        #expect(vectors.version == 1)
    }

    @Test func vectorsDecode() throws {
        for vector in try FrameVectors.load().frames {
            var stream = try bytes(hex: vector.stream)
            let frame = try FrameCodec.decodeStream(&stream, limit: FrameLimits.afterLoginBytes)
            #expect(frame == (try vector.frame()), "\(vector.name)")
            #expect(stream.readableBytes == 0, "\(vector.name)")
        }
    }

    @Test func vectorsEncode() throws {
        for vector in try FrameVectors.load().frames {
            let frame = try vector.frame()
            var stream = ByteBuffer()
            FrameCodec.encodeStream(frame, into: &stream)
            #expect(stream == (try bytes(hex: vector.stream)), "\(vector.name)")
            var payload = ByteBuffer()
            FrameCodec.encodePayload(frame, into: &payload)
            #expect(payload.readableBytes == FrameCodec.payloadBytes(frame), "\(vector.name)")
            #expect(try FrameCodec.decode(payload) == frame, "\(vector.name)")
        }
    }

    @Test func malformedVectorsAreRefused() throws {
        for vector in try FrameVectors.load().malformed {
            var stream = try bytes(hex: vector.stream)
            do {
                let frame = try FrameCodec.decodeStream(&stream, limit: vector.limit)
                Issue.record("\(vector.name) decoded to \(String(describing: frame))")
            } catch {
                #expect(error.name == vector.error, "\(vector.name)")
            }
        }
    }

    /// However the stream is cut, the same frames come out.
    @Test func cutsDoNotMatter() throws {
        let vectors = try FrameVectors.load().frames
        let expected = try vectors.map { try $0.frame() }
        let messages = try vectors.map { try bytes(hex: $0.stream) }
        var whole = ByteBuffer()
        for message in messages { whole.writeImmutableBuffer(message) }
        let single = whole.readableBytesView.map { ByteBuffer(bytes: [$0]) }
        #expect(try decodeAll([whole]) == expected)
        #expect(try decodeAll(messages) == expected)
        #expect(try decodeAll(single) == expected)
    }

    /// A cut anywhere inside a frame is never an error and never a frame.
    @Test func halfFramesWait() throws {
        for vector in try FrameVectors.load().frames {
            let whole = try bytes(hex: vector.stream)
            for count in 0..<min(whole.readableBytes, 600) {
                var part = try #require(whole.getSlice(at: 0, length: count))
                #expect(try FrameCodec.decodeStream(&part, limit: FrameLimits.afterLoginBytes) == nil)
                #expect(part.readableBytes == count)
            }
        }
    }
}
