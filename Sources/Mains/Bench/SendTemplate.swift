import Foundation
import NIOCore
import Wire

/// One pair's ORDERED_REQUEST with everything that never changes; a send copies it and writes three fields over.
struct SendTemplate {
    let bytes: [UInt8]
    private let requestIDAt: Int
    private let turnAt: Int
    private let messageIDAt: Int

    /// - Parameter contentBytes: of text, at least 1.
    init(conversation: String, contentBytes: Int) throws(BenchError) {
        let placeholder = [UInt8](repeating: 0xff, count: MessageTag.byteCount)
        var item = SendItem()
        item.clientMsgID = Data(placeholder)
        item.kind = .contentText
        item.content = Data((0..<contentBytes).map { UInt8(ascii: "a") + UInt8($0 % 26) })
        var request = SendRequest()
        request.conversation = conversation
        request.items = [item]
        let header = Frame.RequestHeader(svid: 1, method: 1, requestID: 0)
        let frame = Frame.orderedRequest(header, key: conversation, turn: 0, request.buffer)
        var out = ByteBuffer()
        FrameCodec.encodeStream(frame, into: &out)
        let encoded = Array(out.readableBytesView)
        bytes = encoded
        // Type, svid and method stand before the request id.
        requestIDAt = bytes.count - FrameCodec.payloadBytes(frame) + 5
        turnAt = requestIDAt + 4
        // No other part of the frame has the byte 0xff: it is not UTF-8, and the lengths are varints of small numbers.
        guard let at = encoded.indices.first(where: { encoded[$0...].starts(with: placeholder) }) else {
            throw BenchError("cannot build a send for \(conversation)")
        }
        messageIDAt = at
    }

    func append(requestID: UInt32, turn: UInt16, tag: MessageTag, to out: inout [UInt8]) {
        let start = out.count
        out.append(contentsOf: bytes)
        out.withUnsafeMutableBytes { all in
            all.storeBytes(of: requestID.bigEndian, toByteOffset: start + requestIDAt, as: UInt32.self)
            all.storeBytes(of: turn.bigEndian, toByteOffset: start + turnAt, as: UInt16.self)
            all.storeBytes(of: tag.high.bigEndian, toByteOffset: start + messageIDAt, as: UInt64.self)
            all.storeBytes(of: tag.low.bigEndian, toByteOffset: start + messageIDAt + 8, as: UInt64.self)
        }
    }
}

/// A client_msg_id (UUIDv7) that tells the receiver which message of which run it is: its random half carries the run's
/// number and the message's.
struct MessageTag: Equatable {
    static let byteCount = 16
    private static let numberBits: UInt64 = 32
    private static let runMask: UInt64 = (1 << 30) - 1

    let high: UInt64
    let low: UInt64

    init(timeMS: UInt64, run: UInt64, number: UInt32) {
        high = timeMS << 16 | 0x7000 | run >> 30 & 0xfff
        low = 2 << 62 | (run & Self.runMask) << Self.numberBits | UInt64(number)
    }

    /// The message's number if the id (16 bytes at the offset) is of this run; its time is not looked at.
    static func number(_ bytes: UnsafeRawBufferPointer, at: Int, run: UInt64) -> UInt32? {
        let high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        let low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self))
        guard high & 0xfff == run >> 30 & 0xfff, low >> numberBits & runMask == run & runMask else { return nil }
        return UInt32(truncatingIfNeeded: low)
    }
}
