import Machinery
import NIOCore

/// Cuts WebSocket messages (RFC 6455) out of a client's bytes. Only what a Martlet client sends: binary messages, whole
/// or in fragments, and control frames. Holds at most one message, of at most the limit given with each call.
struct WebSocketDecoder: Sendable {
    enum Event: Equatable {
        case message(ByteBuffer)
        case ping(ByteBuffer)
        case pong
        case close
    }

    enum Violation: Error, Equatable {
        case unmasked
        case reservedBits
        case unknownOpcode(UInt8)
        case controlTooLong
        case controlFragmented
        case badClose
        /// A length in more bytes than it needs, or of more than 63 bits.
        case badLength
        case text
        case tooLarge(limit: Int)
        case tooManyFragments
        /// A continuation of nothing, or a new message inside another.
        case badContinuation

        /// The close code of RFC 6455, section 7.4.1.
        var closeCode: UInt16 {
            switch self {
            case .text: 1003
            case .tooLarge: 1009
            default: 1002
            }
        }
    }

    /// Fragments of one message.
    static let maxFragments = 64
    private static let maxControlBytes = 125

    private struct Header {
        var final: Bool
        var opcode: UInt8
        var length: Int
        var mask: UInt32
        var bytes: Int
    }

    private struct Fragments: Sendable {
        var bytes = ByteBuffer()
        var count = 0
    }

    /// The message that is being put together.
    @Seldom private var partial: Fragments?

    /// Takes one event off the front; nil, with the buffer untouched, when more bytes are needed.
    ///
    /// - Throws: `Violation`; close the connection with its code.
    mutating func next(_ buffer: inout ByteBuffer, limit: Int) throws(Violation) -> Event? {
        while let header = try Self.header(buffer) {
            let control = header.opcode & 8 != 0
            if control {
                guard header.length <= Self.maxControlBytes else { throw .controlTooLong }
                guard header.final else { throw .controlFragmented }
            } else {
                try check(header, limit: limit)
            }
            guard buffer.readableBytes >= header.bytes + header.length else { return nil }
            buffer.moveReaderIndex(forwardBy: header.bytes)
            guard var payload = buffer.readSlice(length: header.length) else { return nil }
            Self.unmask(&payload, header.mask)
            if control { return try Self.control(header.opcode, payload) }
            if header.final, partial == nil { return .message(payload) }
            if partial == nil { partial = Fragments() }
            partial?.bytes.writeImmutableBuffer(payload)
            partial?.count += 1
            if header.final, let message = partial?.bytes {
                partial = nil
                return .message(message)
            }
        }
        return nil
    }

    /// A data frame's place and size, before its payload is waited for.
    private func check(_ header: Header, limit: Int) throws(Violation) {
        switch header.opcode {
        case 0: guard partial != nil else { throw .badContinuation }
        case 2: guard partial == nil else { throw .badContinuation }
        case 1: throw .text
        default: throw .unknownOpcode(header.opcode)
        }
        guard header.length <= limit - (partial?.bytes.readableBytes ?? 0) else { throw .tooLarge(limit: limit) }
        guard partial?.count ?? 0 < Self.maxFragments else { throw .tooManyFragments }
    }

    private static func control(_ opcode: UInt8, _ payload: ByteBuffer) throws(Violation) -> Event {
        switch opcode {
        case 8:
            guard payload.readableBytes != 1 else { throw .badClose }
            return .close
        case 9: return .ping(payload)
        case 10: return .pong
        default: throw .unknownOpcode(opcode)
        }
    }

    private static func header(_ buffer: ByteBuffer) throws(Violation) -> Header? {
        let start = buffer.readerIndex
        guard let first = buffer.getInteger(at: start, as: UInt8.self),
            let second = buffer.getInteger(at: start + 1, as: UInt8.self)
        else { return nil }
        guard first & 0x70 == 0 else { throw .reservedBits }
        guard second & 0x80 != 0 else { throw .unmasked }
        var length = UInt64(second & 0x7f)
        var bytes = 2
        if length == 126 {
            guard let long = buffer.getInteger(at: start + 2, as: UInt16.self) else { return nil }
            guard long >= 126 else { throw .badLength }
            length = UInt64(long)
            bytes = 4
        } else if length == 127 {
            guard let long = buffer.getInteger(at: start + 2, as: UInt64.self) else { return nil }
            guard long > UInt64(UInt16.max), long <= UInt64(Int32.max) else {
                if long <= UInt64(UInt16.max) || long >> 63 != 0 { throw .badLength }
                throw .tooLarge(limit: Int(Int32.max))
            }
            length = long
            bytes = 10
        }
        // Without its mask a frame is not whole, but its length can be refused already.
        let mask = buffer.getInteger(at: start + bytes, as: UInt32.self) ?? 0
        return Header(
            final: first & 0x80 != 0, opcode: first & 0x0f, length: Int(length), mask: mask, bytes: bytes + 4)
    }

    private static func unmask(_ payload: inout ByteBuffer, _ mask: UInt32) {
        guard mask != 0 else { return }
        payload.withUnsafeMutableReadableBytes { bytes in
            for index in bytes.indices {
                bytes[index] ^= UInt8(truncatingIfNeeded: mask >> UInt32(24 - 8 * (index & 3)))
            }
        }
    }
}

/// The frames that a server writes: never masked, never fragmented.
enum WebSocketEncoder {
    static func binary(_ length: Int, into out: inout ByteBuffer) { header(0x82, length, into: &out) }

    static func pong(_ payload: ByteBuffer, into out: inout ByteBuffer) {
        header(0x8a, payload.readableBytes, into: &out)
        out.writeImmutableBuffer(payload)
    }

    static func close(_ code: UInt16, into out: inout ByteBuffer) {
        header(0x88, 2, into: &out)
        out.writeInteger(code)
    }

    private static func header(_ first: UInt8, _ length: Int, into out: inout ByteBuffer) {
        out.writeInteger(first)
        if length < 126 {
            out.writeInteger(UInt8(length))
        } else if length <= Int(UInt16.max) {
            out.writeInteger(UInt8(126))
            out.writeInteger(UInt16(length))
        } else {
            out.writeInteger(UInt8(127))
            out.writeInteger(UInt64(length))
        }
    }
}
