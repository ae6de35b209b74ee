import NIOCore

/// The receive buffer that a loop's connections share: what is read is looked at before the next socket is, so one
/// large buffer serves them all, and an idle connection keeps none.
///
/// Isolation: its event loop.
final class ReceiveBuffer: @unchecked Sendable {
    // @unchecked: touched on the event loop only.
    private let bytes: Int
    @exclusivity(unchecked) private var spare: ByteBuffer?

    /// - Parameter bytes: its size; at most as much is read in one go.
    init(bytes: Int) { self.bytes = bytes }

    /// The spare buffer if nobody else holds any of it, or a new one. The caller's alone: what is still held is never
    /// written over.
    func take(_ allocator: ByteBufferAllocator) -> ByteBuffer {
        if var buffer = spare {
            spare = nil
            if buffer.modifyIfUniquelyOwned({ $0.clear() }) != nil { return buffer }
        }
        return allocator.buffer(capacity: bytes)
    }

    /// To be used again once everybody has let go of it. A buffer from elsewhere is left alone.
    func giveBack(_ buffer: ByteBuffer) {
        if buffer.storageCapacity >= bytes { spare = buffer }
    }
}

/// Makes a channel read into the shared buffer. swift-nio keeps the first buffer that an allocator makes for a channel
/// (when `maxMessagesPerRead` is 1) and hands it out again only if the allocator names a next size; so the first one is
/// tiny and none is named.
struct SharedReceiveAllocator: RecvByteBufferAllocator {
    /// The first read of a channel brings at most so much; what is left is read at once after it.
    private static let firstBytes = 32

    private let shared: ReceiveBuffer
    private var hasRead = false

    init(_ shared: ReceiveBuffer) { self.shared = shared }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer {
        hasRead ? shared.take(allocator) : allocator.buffer(capacity: Self.firstBytes)
    }

    func nextBufferSize() -> Int? { nil }

    /// - Returns: true: a larger one may come, so the kept one is not to be used again.
    mutating func record(actualReadBytes: Int) -> Bool {
        hasRead = true
        return true
    }
}
