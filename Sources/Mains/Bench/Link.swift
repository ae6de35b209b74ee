import Glibc
import NIOCore
import Wire

/// One client connection. Belongs to the fleet's thread.
final class Link {
    enum Stage { case waiting, connecting, upgrading, greeting, authenticating, ready, closed }

    let index: Int
    let user: String
    let token: String
    let webSocket: Bool
    var socket: Int32 = -1
    var stage = Stage.waiting
    /// Received and not yet a whole frame; empty nearly always.
    var partial: [UInt8] = []
    /// To be sent at the end of the turn.
    var out: [UInt8] = []
    /// It is in the fleet's list of links with something to send.
    var dirty = false
    /// The socket is full; the poller tells when it is not.
    var blocked = false
    var sentMicros: UInt64 = 0
    /// How far a dialect with more stages than `Stage` names is in its login.
    var step = 0
    // Martlet's pushes.
    /// Last push id taken; ids come without gaps.
    var pushID: UInt32 = 0
    var unackedPushes: UInt32 = 0
    var firstUnackedMicros: UInt64 = 0
    /// It is in the list of links whose pushes are to be acknowledged.
    var ackListed = false

    init(index: Int, user: String, token: String, webSocket: Bool) {
        self.index = index
        self.user = user
        self.token = token
        self.webSocket = webSocket
    }

    /// Appends a frame that is sent once or seldom. Sends have a template instead.
    func append(_ frame: Frame) {
        var buffer = ByteBuffer()
        if webSocket {
            FrameCodec.encodePayload(frame, into: &buffer)
            appendMasked(opcode: 2, Array(buffer.readableBytesView))
        } else {
            FrameCodec.encodeStream(frame, into: &buffer)
            out.append(contentsOf: buffer.readableBytesView)
        }
    }

    /// Never zero, so that the server has its unmasking to do; unpredictable it need not be, with no proxy in between.
    private static let mask: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]

    /// A client's WebSocket frame.
    func appendMasked(opcode: UInt8, _ payload: [UInt8]) {
        out.append(0x80 | opcode)
        if payload.count < 126 {
            out.append(0x80 | UInt8(payload.count))
        } else {
            out.append(0x80 | 126)
            out.append(UInt8(truncatingIfNeeded: payload.count >> 8))
            out.append(UInt8(truncatingIfNeeded: payload.count))
        }
        out.append(contentsOf: Self.mask)
        for (index, byte) in payload.enumerated() { out.append(byte ^ Self.mask[index & 3]) }
    }

    /// PUSH_ACK up to and including `pushID`, without going through a buffer: receivers send little else.
    func appendPushAck() {
        let payload: [UInt8] = [
            FrameType.pushAck.rawValue, UInt8(truncatingIfNeeded: pushID >> 24),
            UInt8(truncatingIfNeeded: pushID >> 16),
            UInt8(truncatingIfNeeded: pushID >> 8), UInt8(truncatingIfNeeded: pushID),
        ]
        unackedPushes = 0
        if webSocket { return appendMasked(opcode: 2, payload) }
        out.append(UInt8(payload.count))
        out.append(contentsOf: payload)
    }

    func append(upgradeTo host: String) {
        let request =
            "GET /ws HTTP/1.1\r\nHost: \(host)\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWFydGxldC1iZW5jaC1pZA==\r\n\r\n"
        out.append(contentsOf: request.utf8)
    }

    /// The socket has ended; nothing more is sent or read.
    func end() {
        stage = .closed
        if socket >= 0 { close(socket) }
        socket = -1
        out = []
        partial = []
    }
}
