/// Where the elements of an XMPP stream begin and end in what was received. Works on borrowed bytes and copies nothing.
///
/// Reads what RFC 6120 allows on a stream, which is less than XML: no comments, no CDATA, one declaration.
enum XMLCutter {
    enum Kind { case streamOpen, streamClose, stanza }

    struct Cut {
        let kind: Kind
        /// The element's place, from "<" to behind ">".
        let start: Int
        let end: Int
        /// Its start tag's end, behind ">".
        let tagEnd: Int
    }

    /// Beyond anything that the bench exchanges.
    static let mostBytes = 256 * 1024

    private static let open = UInt8(ascii: "<")
    private static let close = UInt8(ascii: ">")
    private static let slash = UInt8(ascii: "/")

    /// The next element from `at` on, white space and declarations before it skipped; nil when it is not complete.
    ///
    /// - Throws: for bytes that are no XMPP stream.
    static func next(_ bytes: UnsafeRawBufferPointer, at: Int) throws(BenchError) -> Cut? {
        var start = at
        while start < bytes.count {
            if isSpace(bytes[start]) {
                start += 1
                continue
            }
            guard bytes[start] == open else {
                throw BenchError("the server sent text where none belongs: is this the port of an XMPP server?")
            }
            guard start + 1 < bytes.count, let tagEnd = try tagEnd(bytes, start, from: at) else { return nil }
            switch bytes[start + 1] {
            case UInt8(ascii: "?"): start = tagEnd
            case slash: return Cut(kind: .streamClose, start: start, end: tagEnd, tagEnd: tagEnd)
            default:
                if starts(bytes, start, with: "<stream:stream") {
                    return Cut(kind: .streamOpen, start: start, end: tagEnd, tagEnd: tagEnd)
                }
                guard let end = try elementEnd(bytes, tagEnd, from: start) else { return nil }
                return Cut(kind: .stanza, start: start, end: end, tagEnd: tagEnd)
            }
        }
        return nil
    }

    /// Behind the end of the element whose start tag ends at `tagEnd`.
    private static func elementEnd(
        _ bytes: UnsafeRawBufferPointer, _ tagEnd: Int, from start: Int
    ) throws(BenchError) -> Int? {
        guard bytes[tagEnd - 2] != slash else { return tagEnd }
        var depth = 1
        var at = tagEnd
        while at < bytes.count {
            guard bytes[at] == open else {
                at += 1
                continue
            }
            guard at + 1 < bytes.count, let end = try Self.tagEnd(bytes, at, from: start) else { return nil }
            if bytes[at + 1] == slash {
                depth -= 1
                if depth == 0 { return end }
            } else if bytes[end - 2] != slash {
                depth += 1
            }
            at = end
        }
        try limit(at - start)
        return nil
    }

    /// Behind the ">" of the tag that begins at `at`; a ">" in quotes does not end it.
    private static func tagEnd(_ bytes: UnsafeRawBufferPointer, _ at: Int, from start: Int) throws(BenchError) -> Int? {
        var quote: UInt8 = 0
        for index in at..<bytes.count {
            let byte = bytes[index]
            if quote != 0 {
                if byte == quote { quote = 0 }
            } else if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\"") {
                quote = byte
            } else if byte == close {
                return index + 1
            }
        }
        try limit(bytes.count - start)
        return nil
    }

    private static func limit(_ length: Int) throws(BenchError) {
        if length > mostBytes { throw BenchError("the server sent an element without an end") }
    }

    /// Whether the element that begins at `at` has the name, prefix included.
    static func isNamed(_ name: StaticString, _ bytes: UnsafeRawBufferPointer, _ at: Int) -> Bool {
        let end = at + 1 + name.utf8CodeUnitCount
        guard end < bytes.count, matches(bytes, at + 1, name) else { return false }
        return isSpace(bytes[end]) || bytes[end] == close || bytes[end] == slash
    }

    /// The place of an attribute's value in the start tag that begins at `at` and ends at `tagEnd`.
    static func attribute(
        _ name: StaticString, _ bytes: UnsafeRawBufferPointer, _ at: Int, _ tagEnd: Int
    ) -> Range<Int>? {
        var index = at
        while index < tagEnd, !isSpace(bytes[index]) { index += 1 }
        while index < tagEnd {
            while index < tagEnd, isSpace(bytes[index]) { index += 1 }
            let nameAt = index
            while index < tagEnd, bytes[index] != UInt8(ascii: "=") { index += 1 }
            let nameEnd = index
            guard index + 1 < tagEnd else { return nil }
            let quote = bytes[index + 1]
            let valueAt = index + 2
            index = valueAt
            while index < tagEnd, bytes[index] != quote { index += 1 }
            guard index < tagEnd else { return nil }
            if nameEnd - nameAt == name.utf8CodeUnitCount, matches(bytes, nameAt, name) { return valueAt..<index }
            index += 1
        }
        return nil
    }

    /// Whether the bytes from `at` on are the text.
    static func starts(_ bytes: UnsafeRawBufferPointer, _ at: Int, with text: StaticString) -> Bool {
        at + text.utf8CodeUnitCount <= bytes.count && matches(bytes, at, text)
    }

    /// The text must lie within the bytes.
    private static func matches(_ bytes: UnsafeRawBufferPointer, _ at: Int, _ text: StaticString) -> Bool {
        for index in 0..<text.utf8CodeUnitCount where bytes[at + index] != text.utf8Start[index] { return false }
        return true
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 }
}
