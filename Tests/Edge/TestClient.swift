import Foundation
import Glibc
import NIOCore
import Testing
import Wire

@testable import LoginRole

/// A client with a blocking socket: what it sends and reads is exactly what a test says.
final class TestClient: @unchecked Sendable {
    // @unchecked: one thread at a time uses it.
    struct Closed: Error {}
    struct TimedOut: Error {}

    private let descriptor: Int32
    private let webSocket: Bool
    private var held = ByteBuffer()
    private(set) var sessionID = ""
    /// The code of the server's WebSocket close frame.
    private(set) var closeCode: UInt16?

    init(port: Int, webSocket: Bool = false, upgrade: Bool = true, receiveBuffer: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.webSocket = webSocket
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        if var size = receiveBuffer {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port)).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(connected == 0, "connect: errno \(errno)")
        if webSocket, upgrade { try self.upgrade() }
    }

    deinit { close() }

    private var open = true

    func close() {
        if open { Glibc.close(descriptor) }
        open = false
    }

    private func upgrade() throws {
        try send(
            raw: Array(
                """
                GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n
                """.utf8))
        let head = try readHTTP()
        #expect(head.hasPrefix("HTTP/1.1 101"))
        // The example of RFC 6455, section 1.3.
        #expect(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    }

    /// Reads up to the empty line.
    func readHTTP() throws -> String {
        var text = ""
        while !text.hasSuffix("\r\n\r\n") {
            if held.readableBytes == 0 { try fill() }
            text += held.readString(length: 1) ?? ""
        }
        return text
    }

    // MARK: - Sending

    func send(raw bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Closed() }
            sent += count
        }
    }

    static func encode(_ frame: Frame, webSocket: Bool) -> [UInt8] {
        var out = ByteBuffer()
        guard webSocket else {
            FrameCodec.encodeStream(frame, into: &out)
            return Array(out.readableBytesView)
        }
        FrameCodec.encodePayload(frame, into: &out)
        return ClientWebSocket.frame(2, Array(out.readableBytesView))
    }

    func send(_ frames: Frame...) throws {
        try send(raw: frames.flatMap { Self.encode($0, webSocket: webSocket) })
    }

    func login(token: String) throws {
        try send(LoginScript.hello(), LoginScript.authenticate(token))
        guard case .welcome = try read(), case .authenticated(let body) = try read() else {
            throw Closed()
        }
        sessionID = try #require(Authenticated(body: body)).sessionID
    }

    // MARK: - Reading

    private func fill() throws {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &chunk, chunk.count, 0)
        if count == 0 { throw Closed() }
        if count < 0 { throw errno == EAGAIN ? TimedOut() : Closed() as any Error }
        held.writeBytes(chunk[..<count])
    }

    /// The next frame; throws `Closed` at the end.
    func read() throws -> Frame {
        while true {
            if webSocket {
                if let frame = try readMessage() { return frame }
            } else if let frame = try FrameCodec.decodeStream(&held, limit: 1 << 20) {
                return frame
            }
            try fill()
        }
    }

    private func readMessage() throws -> Frame? {
        guard held.readableBytes >= 2, let first = held.getInteger(at: held.readerIndex, as: UInt8.self),
            let second = held.getInteger(at: held.readerIndex + 1, as: UInt8.self)
        else { return nil }
        #expect(second & 0x80 == 0, "servers do not mask")
        var length = Int(second)
        var header = 2
        if second == 126 {
            guard let long = held.getInteger(at: held.readerIndex + 2, as: UInt16.self) else { return nil }
            (length, header) = (Int(long), 4)
        } else if second == 127 {
            guard let long = held.getInteger(at: held.readerIndex + 2, as: UInt64.self) else { return nil }
            (length, header) = (Int(long), 10)
        }
        guard held.readableBytes >= header + length else { return nil }
        held.moveReaderIndex(forwardBy: header)
        guard let payload = held.readSlice(length: length) else { return nil }
        switch first {
        case 0x82: return try FrameCodec.decode(payload)
        case 0x88:
            closeCode = payload.getInteger(at: payload.readerIndex)
            throw Closed()
        case 0x8a: return .event(payload)
        default:
            Issue.record("a frame that begins with \(first)")
            return nil
        }
    }

    /// The ERROR before the end, if there is one.
    func readError() throws -> Failure? {
        var failure: Failure?
        do {
            while true {
                if case .error(let body) = try read() { failure = Failure(body: body) }
            }
        } catch is Closed {
            return failure
        }
    }

    /// Asks service 6, which echoes.
    func echo(_ text: String, id: UInt32 = 1) throws {
        try send(.request(.init(svid: 6, method: 1, requestID: id), ByteBuffer(string: text)))
        #expect(try read() == .response(requestID: id, ByteBuffer(string: text)))
    }

    /// Reads so many pushes in order, acknowledging each.
    func readPushes(_ seqs: ClosedRange<UInt64>) throws {
        var wanted = seqs.lowerBound
        while wanted <= seqs.upperBound {
            guard case .push(let id, let body) = try read(), let message = PushedMessage(body: body) else { continue }
            if message.seq == wanted { wanted += 1 }
            #expect(message.seq < wanted, "\(message.seq) came before \(wanted)")
            try send(.pushAck(pushID: id))
        }
    }
}
