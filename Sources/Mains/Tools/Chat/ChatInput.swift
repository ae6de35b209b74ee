/// What a line that the user typed means.
enum ChatInput: Equatable, Sendable {
    case text(String)
    case to(String)
    case history(Int)
    case who([String])
    case unread
    case recall(UInt64)
    case service(svid: UInt16, method: UInt16, text: String)
    case help
    case quit
    case nothing
    case wrong(String)

    static let helpLines = [
        "TEXT               send to the user you are talking to",
        "/to USER           talk to USER",
        "/history [N]       the N messages before the oldest shown (20)",
        "/who [USER ...]    who is online",
        "/unread            conversations with unread messages",
        "/recall SEQ        take back your message number SEQ",
        "/svc SVID METHOD TEXT   ask a service",
        "/help  /quit       // at the start of a line sends a text that begins with /",
    ]

    init(line: String) {
        let line = line.hasSuffix("\r") ? String(line.dropLast()) : line
        if line.isEmpty {
            self = .nothing
        } else if line.hasPrefix("//") {
            self = .text(String(line.dropFirst()))
        } else {
            self = line.hasPrefix("/") ? Self.command(line) : .text(line)
        }
    }

    private static func command(_ line: String) -> ChatInput {
        let words = line.split(separator: " ", maxSplits: 3).map(String.init)
        let first = words.dropFirst().first
        switch words.first {
        case "/to": return words.count == 2 ? .to(words[1]) : .wrong("usage: /to USER")
        case "/history": return history(first)
        case "/who": return .who(line.split(separator: " ").dropFirst().map(String.init))
        case "/unread": return .unread
        case "/recall":
            guard let seq = first.flatMap({ UInt64($0) }), seq > 0 else { return .wrong("usage: /recall SEQ") }
            return .recall(seq)
        case "/svc":
            guard words.count >= 3, let svid = UInt16(words[1]), let method = UInt16(words[2]) else {
                return .wrong("usage: /svc SVID METHOD TEXT")
            }
            return .service(svid: svid, method: method, text: words.count == 4 ? words[3] : "")
        case "/help": return .help
        case "/quit", "/exit": return .quit
        default: return .wrong("\(words.first ?? line) is no command; /help lists them")
        }
    }

    private static func history(_ count: String?) -> ChatInput {
        guard let count else { return .history(20) }
        guard let number = Int(count), (1...200).contains(number) else { return .wrong("usage: /history [1-200]") }
        return .history(number)
    }
}
