/// A line being typed on a raw terminal: bytes in, finished lines out. Erase, word erase, kill, and older lines by the
/// arrow keys; other keys' escape sequences are swallowed.
struct LineEditor: Sendable {
    enum Key: Equatable, Sendable {
        case line(String)
        case changed
        /// ^C, or ^D on an empty line.
        case quit
    }

    private enum Escape { case none, begun, sequence }

    /// Longest line, in bytes: a message's limit and room for a command.
    static let lineLimit = 33 * 1024
    static let historyLimit = 100

    private(set) var text = ""
    private var partial: [UInt8] = []
    private var escape = Escape.none
    private var older: [String] = []
    private var place = 0

    mutating func on(_ bytes: some Sequence<UInt8>) -> [Key] {
        var keys: [Key] = []
        for byte in bytes {
            if let key = take(byte) { keys.append(key) }
        }
        return keys
    }

    private mutating func take(_ byte: UInt8) -> Key? {
        switch escape {
        case .begun:
            escape = byte == 0x5B || byte == 0x4F ? .sequence : .none
            return nil
        case .sequence:
            guard (0x40...0x7E).contains(byte) else { return nil }
            escape = .none
            return arrow(byte)
        case .none: break
        }
        switch byte {
        case 0x0A, 0x0D: return finish()
        case 0x03: return .quit
        case 0x04: return text.isEmpty ? .quit : nil
        case 0x08, 0x7F: if !text.isEmpty { text.removeLast() }
        case 0x15: text = ""
        case 0x17:
            while text.last == " " { text.removeLast() }
            while let last = text.last, last != " " { text.removeLast() }
        case 0x0C: break
        case 0x1B:
            escape = .begun
            return nil
        case 0..<0x20: return nil
        default: return type(byte)
        }
        return .changed
    }

    /// Collects the bytes of one character; what is no UTF-8 is dropped.
    private mutating func type(_ byte: UInt8) -> Key? {
        partial.append(byte)
        let first = partial[0]
        let wanted = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1
        guard partial.count >= wanted else { return nil }
        defer { partial = [] }
        guard let character = String(validating: partial, as: UTF8.self),
            text.utf8.count + partial.count <= Self.lineLimit
        else { return nil }
        text += character
        return .changed
    }

    private mutating func finish() -> Key {
        defer { text = "" }
        if !text.isEmpty, older.last != text { older.append(text) }
        if older.count > Self.historyLimit { older.removeFirst() }
        place = older.count
        return .line(text)
    }

    private mutating func arrow(_ final: UInt8) -> Key? {
        switch final {
        case 0x41 where place > 0: place -= 1
        case 0x42 where place < older.count: place += 1
        default: return nil
        }
        text = place < older.count ? older[place] : ""
        return .changed
    }
}
