import Wire

/// Where frames begin and end in what was received. Works on borrowed bytes and copies nothing.
enum FrameCutter {
    enum Kind { case frame, webSocketPing, webSocketClose, ignored }

    struct Cut {
        let kind: Kind
        /// The payload's place.
        let start: Int
        let end: Int
    }

    /// The next frame from `at` on; nil when it is not complete. The next one starts at its `end`.
    ///
    /// - Throws: `BenchError` for bytes that no Martlet server sends.
    static func next(_ bytes: UnsafeRawBufferPointer, at: Int, webSocket: Bool) throws(BenchError) -> Cut? {
        webSocket ? try webSocketFrame(bytes, at) : try streamFrame(bytes, at)
    }

    private static func streamFrame(_ bytes: UnsafeRawBufferPointer, _ at: Int) throws(BenchError) -> Cut? {
        var length = 0
        for index in 0..<FrameLimits.maxLengthBytes {
            guard at + index < bytes.count else { return nil }
            let byte = bytes[at + index]
            length |= Int(byte & 0x7f) << (7 * index)
            guard byte & 0x80 == 0 else { continue }
            guard length > 0 else { throw BenchError("the server sent an empty frame") }
            let start = at + index + 1
            return start + length <= bytes.count ? Cut(kind: .frame, start: start, end: start + length) : nil
        }
        throw BenchError("the server sent bytes that are no frame: is this the port for TCP clients?")
    }

    private static func webSocketFrame(_ bytes: UnsafeRawBufferPointer, _ at: Int) throws(BenchError) -> Cut? {
        guard at + 2 <= bytes.count else { return nil }
        let first = bytes[at]
        guard bytes[at + 1] & 0x80 == 0, first & 0xf0 == 0x80 else {
            throw BenchError("the server sent a WebSocket frame that is masked or in fragments")
        }
        var length = Int(bytes[at + 1])
        var start = at + 2
        if length >= 126 {
            let size = length == 126 ? 2 : 8
            guard start + size <= bytes.count else { return nil }
            length = bytes[start..<(start + size)].reduce(0) { $0 &<< 8 | Int($1) }
            start += size
            guard (0...FrameLimits.afterLoginBytes * 8).contains(length) else {
                throw BenchError("the server sent a WebSocket frame of \(length) bytes")
            }
        }
        guard start + length <= bytes.count else { return nil }
        let kind: Kind =
            switch first & 0x0f {
            case 2: length > 0 ? .frame : .ignored
            case 8: .webSocketClose
            case 9: .webSocketPing
            default: .ignored
            }
        return Cut(kind: kind, start: start, end: start + length)
    }
}
