/// What a conversation id says about itself. Ids derive from the app's own user and group ids, so nobody has to
/// look one up: `p:alice|bob` (the smaller id first), `g:team-7`, `u:alice` (the user's own control conversation).
public enum ConversationName: Hashable, Sendable {
    case pair(String, String)
    case group(String)
    case control(String)

    /// The pair of two users, whichever way round they are given.
    public static func pair(of one: String, and other: String) -> ConversationName {
        ordered(one, other) ? .pair(one, other) : .pair(other, one)
    }

    /// Parses an id; nil when it is malformed, names an illegal user or group, or pairs a user with itself.
    public init?(_ id: String) {
        guard id.utf8.count > 2 else { return nil }
        let rest = id.dropFirst(2)
        switch id.prefix(2) {
        case "p:":
            let parts = rest.split(separator: "|", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, NameRule.isUser(parts[0]), NameRule.isUser(parts[1]),
                Self.ordered(parts[0], parts[1]), parts[0] != parts[1]
            else { return nil }
            self = .pair(parts[0], parts[1])
        case "g:":
            guard NameRule.isUser(String(rest)) else { return nil }
            self = .group(String(rest))
        case "u:":
            guard NameRule.isUser(String(rest)) else { return nil }
            self = .control(String(rest))
        default: return nil
        }
    }

    /// The id that travels and is stored.
    public var id: String {
        switch self {
        case .pair(let first, let second): "p:\(first)|\(second)"
        case .group(let group): "g:\(group)"
        case .control(let user): "u:\(user)"
        }
    }

    /// Everybody who has the conversation, where the name alone says so; empty for groups.
    public var members: [String] {
        switch self {
        case .pair(let first, let second): [first, second]
        case .group: []
        case .control(let user): [user]
        }
    }

    /// The other side of a pair; nil when the user is not in it or this is no pair.
    public func peer(of user: String) -> String? {
        guard case .pair(let first, let second) = self else { return nil }
        if user == first { return second }
        return user == second ? first : nil
    }

    /// Byte order, so that every language agrees on which name is first.
    static func ordered(_ one: String, _ other: String) -> Bool {
        one.utf8.lexicographicallyPrecedes(other.utf8)
    }
}

/// What apps may call their users, groups, devices and themselves.
public enum NameRule {
    /// Longest user, group, device or app id, in UTF-8 bytes: a pair's id then fits one index page comfortably.
    public static let maxBytes = 64

    /// Users, groups and devices: 1 to 64 bytes of UTF-8 without control characters, space or `|`.
    public static func isUser(_ name: String) -> Bool {
        let bytes = name.utf8
        guard !bytes.isEmpty, bytes.count <= maxBytes else { return false }
        return bytes.allSatisfy { $0 > 0x20 && $0 != 0x7c && $0 != 0x7f }
    }

    /// Apps: 1 to 64 of a-z, 0-9, `-` and `_`.
    public static func isApp(_ name: String) -> Bool {
        let bytes = name.utf8
        guard !bytes.isEmpty, bytes.count <= maxBytes else { return false }
        return bytes.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f }
    }
}
