import NIOCore

/// The beginning of a frame whose rest has not come; empty between frames.
///
/// While nothing is cut off it, the same buffer grows, by doubling: a frame that comes byte by byte is copied a few
/// times over, and not once per byte.
struct FrameTail {
    private var held: ByteBuffer?
    /// Where reading began in what `join` returned, when that was the buffer held here.
    private var began: Int?

    /// What is held and what came, as one. `keep` takes what nobody read of it.
    mutating func join(_ incoming: ByteBuffer) -> ByteBuffer {
        began = nil
        guard var whole = held else { return incoming }
        // Before it is written to: a second reference would copy it.
        held = nil
        whole.writeImmutableBuffer(incoming)
        began = whole.readerIndex
        return whole
    }

    mutating func keep(_ rest: inout ByteBuffer) {
        guard rest.readableBytes > 0 else { return }
        if rest.readerIndex == began {
            held = rest
        } else {
            // A copy of its own: a slice would keep the whole receive buffer alive.
            var copy = ByteBufferAllocator().buffer(capacity: rest.readableBytes)
            copy.writeImmutableBuffer(rest)
            held = copy
        }
        rest = ByteBuffer()
    }
}
