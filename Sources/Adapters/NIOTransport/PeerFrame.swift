import Foundation
import NIOCore
import RPC
import Wire

/// What peers say to each other: four bytes of length (big-endian, of what follows), one of type, then the fields.
///
/// HELLO, CHALLENGE and PROOF authenticate both sides; HOSTED lists the roles behind a number each (the whole list,
/// again on every change); CALL names one by its number.
enum PeerFrame: Equatable {
    case hello(version: UInt8, node: UInt64, nonce: [UInt8])
    case challenge(node: UInt64, nonce: [UInt8], proof: [UInt8])
    case proof([UInt8])
    case hosted([Hosted])
    case ping(UInt64)
    case pong(UInt64)
    /// `id` 0: nobody waits for an answer. `remainingMS`: how long the caller waits, counted from now.
    case call(id: UInt64, number: UInt32, remainingMS: UInt32, kind: UInt16, body: ByteBuffer)
    case answer(id: UInt64, kind: UInt16, body: ByteBuffer)
    case refused(id: UInt64, failure: ByteBuffer)
    case unknown(id: UInt64, failure: ByteBuffer)
    /// The caller has stopped waiting.
    case cancel(id: UInt64)

    struct Hosted: Hashable, Sendable {
        var number: UInt32
        var role: RoleName
        var instance: String
    }

    static let version: UInt8 = 1
    static let magic: UInt32 = 0x4d52_544c  // "MRTL"
    static let nonceBytes = 32
    static let proofBytes = 32
    static let lengthBytes = 4

    enum Kind: UInt8 {
        case hello = 1
        case challenge, proof, hosted, ping, pong, call, answer, refused, unknown, cancel
    }

    enum Malformed: Error, Equatable {
        case tooLarge(Int)
        case empty
        case unknownType(UInt8)
        case truncated(UInt8)
        case badName
    }
}

extension PeerFrame {
    /// Takes one frame off the front; nil, with the buffer untouched, when more bytes are needed.
    static func decode(_ buffer: inout ByteBuffer, limit: Int) throws(Malformed) -> PeerFrame? {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return nil }
        guard length > 0 else { throw .empty }
        guard length <= limit else { throw .tooLarge(Int(length)) }
        guard buffer.readableBytes >= lengthBytes + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: lengthBytes)
        guard var frame = buffer.readSlice(length: Int(length)), let type: UInt8 = frame.readInteger() else {
            throw .empty
        }
        guard let kind = Kind(rawValue: type) else { throw .unknownType(type) }
        guard let decoded = try fields(kind, &frame) else { throw .truncated(type) }
        return decoded
    }

    private static func fields(_ kind: Kind, _ frame: inout ByteBuffer) throws(Malformed) -> PeerFrame? {
        switch kind {
        case .hello:
            guard let magic: UInt32 = frame.readInteger(), magic == Self.magic,
                let version: UInt8 = frame.readInteger(),
                let node: UInt64 = frame.readInteger(), let nonce = frame.readBytes(length: nonceBytes)
            else { return nil }
            return .hello(version: version, node: node, nonce: nonce)
        case .challenge:
            guard let node: UInt64 = frame.readInteger(), let nonce = frame.readBytes(length: nonceBytes),
                let proof = frame.readBytes(length: proofBytes)
            else { return nil }
            return .challenge(node: node, nonce: nonce, proof: proof)
        case .proof: return frame.readBytes(length: proofBytes).map { .proof($0) }
        case .hosted: return try hosted(&frame)
        case .ping: return frame.readInteger().map { .ping($0) }
        case .pong: return frame.readInteger().map { .pong($0) }
        case .cancel: return frame.readInteger().map { .cancel(id: $0) }
        case .call:
            guard let id: UInt64 = frame.readInteger(), let number: UInt32 = frame.readInteger(),
                let remaining: UInt32 = frame.readInteger(), let kind: UInt16 = frame.readInteger()
            else { return nil }
            return .call(id: id, number: number, remainingMS: remaining, kind: kind, body: frame)
        case .answer:
            guard let id: UInt64 = frame.readInteger(), let kind: UInt16 = frame.readInteger() else { return nil }
            return .answer(id: id, kind: kind, body: frame)
        case .refused: return frame.readInteger().map { .refused(id: $0, failure: frame) }
        case .unknown: return frame.readInteger().map { .unknown(id: $0, failure: frame) }
        }
    }

    private static func hosted(_ frame: inout ByteBuffer) throws(Malformed) -> PeerFrame? {
        guard let count: UInt16 = frame.readInteger() else { return nil }
        var list: [Hosted] = []
        for _ in 0..<count {
            guard let number: UInt32 = frame.readInteger(), let role = try name(&frame),
                let instance = try name(&frame)
            else { return nil }
            list.append(Hosted(number: number, role: RoleName(rawValue: role), instance: instance))
        }
        return .hosted(list)
    }

    private static func name(_ frame: inout ByteBuffer) throws(Malformed) -> String? {
        guard let length: UInt8 = frame.readInteger(), let bytes = frame.readSlice(length: Int(length)) else {
            return nil
        }
        guard length > 0, let name = String(validating: bytes.readableBytesView, as: UTF8.self) else { throw .badName }
        return name
    }

    /// Appends length, type and fields.
    func encode(into out: inout ByteBuffer) {
        let start = out.writerIndex
        out.writeInteger(UInt32(0))
        write(into: &out)
        out.setInteger(UInt32(out.writerIndex - start - Self.lengthBytes), at: start)
    }

    private func write(into out: inout ByteBuffer) {
        switch self {
        case .hello(let version, let node, let nonce):
            out.writeMultipleIntegers(Kind.hello.rawValue, Self.magic, version, node)
            out.writeBytes(nonce)
        case .challenge(let node, let nonce, let proof):
            out.writeMultipleIntegers(Kind.challenge.rawValue, node)
            out.writeBytes(nonce)
            out.writeBytes(proof)
        case .proof(let proof):
            out.writeInteger(Kind.proof.rawValue)
            out.writeBytes(proof)
        case .hosted(let list):
            out.writeMultipleIntegers(Kind.hosted.rawValue, UInt16(list.count))
            for entry in list {
                out.writeInteger(entry.number)
                for name in [entry.role.rawValue, entry.instance] {
                    out.writeInteger(UInt8(truncatingIfNeeded: name.utf8.count))
                    out.writeString(name)
                }
            }
        case .ping(let value): out.writeMultipleIntegers(Kind.ping.rawValue, value)
        case .pong(let value): out.writeMultipleIntegers(Kind.pong.rawValue, value)
        case .cancel(let id): out.writeMultipleIntegers(Kind.cancel.rawValue, id)
        case .call(let id, let number, let remaining, let kind, let body):
            out.writeMultipleIntegers(Kind.call.rawValue, id, number, remaining, kind)
            out.writeImmutableBuffer(body)
        case .answer(let id, let kind, let body):
            out.writeMultipleIntegers(Kind.answer.rawValue, id, kind)
            out.writeImmutableBuffer(body)
        case .refused(let id, let failure):
            out.writeMultipleIntegers(Kind.refused.rawValue, id)
            out.writeImmutableBuffer(failure)
        case .unknown(let id, let failure):
            out.writeMultipleIntegers(Kind.unknown.rawValue, id)
            out.writeImmutableBuffer(failure)
        }
    }

    /// The two frames that carry payloads, written without a buffer in between.
    enum Head {
        case call(id: UInt64, number: UInt32, remainingMS: UInt32, kind: UInt16)
        case answer(id: UInt64, kind: UInt16)

        /// Bytes between the length and the body.
        var bytes: Int {
            switch self {
            case .call: 19
            case .answer: 11
            }
        }

        func encode(_ body: [UInt8], into out: inout ByteBuffer) {
            let length = UInt32(bytes + body.count)
            switch self {
            case .call(let id, let number, let remaining, let kind):
                out.writeMultipleIntegers(length, Kind.call.rawValue, id, number, remaining, kind)
            case .answer(let id, let kind): out.writeMultipleIntegers(length, Kind.answer.rawValue, id, kind)
            }
            out.writeBytes(body)
        }
    }
}
