import Foundation

/// How far an own message has come.
enum SendMark: Int, Comparable, Sendable {
    case sending
    case accepted
    case delivered
    case read
    case failed

    static func < (one: SendMark, other: SendMark) -> Bool { one.rawValue < other.rawValue }

    /// Always two columns, so that a line keeps its length when its mark changes.
    var symbol: String {
        switch self {
        case .sending: " …"
        case .accepted: " ✓"
        case .delivered: "✓✓"
        case .read: "\u{1B}[36m✓✓\u{1B}[0m"
        case .failed: "\u{1B}[31m !\u{1B}[0m"
        }
    }
}

/// One line of output, in both ways of saying it.
struct ChatLine: Equatable, Sendable {
    /// For scripts: a keyword, then fields, the text last. nil: scripts do not need it.
    var plain: String?
    /// For people; nil: the screen shows it otherwise.
    var pretty: String?
    /// The own message whose mark stands in front of `pretty`.
    var number: UInt64?

    /// A quiet word to people; scripts are told `plain`, if anything.
    static func hint(_ text: String, plain: String? = nil) -> ChatLine {
        ChatLine(plain: plain, pretty: "\u{1B}[2m\(text)\u{1B}[0m", number: nil)
    }

    /// Text of others never moves the cursor, colours the screen or ends a script's line.
    static func harmless(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x0A: result.append(contentsOf: "⏎".unicodeScalars)
            case 0x09: result.append(" ")
            case 0..<0x20, 0x7F..<0xA0, 0x2028...0x202E, 0x2066...0x2069, 0x200E, 0x200F: result.append("·")
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// Hours and minutes of the machine's time zone.
    static func clock(_ unixMS: UInt64) -> String {
        var seconds = time_t(unixMS / 1_000)
        var parts = tm()
        localtime_r(&seconds, &parts)
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return two(parts.tm_hour) + ":" + two(parts.tm_min)
    }

    /// Columns that a terminal gives the text, escape sequences left out: wide East Asian and emoji scalars take two.
    static func columns(_ text: String) -> Int {
        var count = 0
        var escaped = false
        for scalar in text.unicodeScalars {
            if escaped {
                if scalar.properties.isAlphabetic { escaped = false }
                continue
            }
            switch scalar.value {
            case 0x1B: escaped = true
            case 0x300...0x36F, 0x200B...0x200F, 0xFE00...0xFE0F: continue
            case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
                0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD:
                count += 2
            default: count += 1
            }
        }
        return count
    }
}
