import NIOCore
import SwiftProtobuf

extension SwiftProtobuf.Message {
    /// The encoded body as a buffer of its own. Encoding fails only for required fields, which proto3 has none of.
    public var buffer: ByteBuffer {
        guard let bytes: [UInt8] = try? serializedBytes() else { return ByteBuffer() }
        return ByteBuffer(bytes: bytes)
    }

    /// Decodes a frame's body; nil when the bytes are not this message.
    public init?(body: ByteBuffer) {
        guard let message = try? Self(serializedBytes: Array(body.readableBytesView)) else { return nil }
        self = message
    }
}
