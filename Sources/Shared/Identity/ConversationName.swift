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
        var id = id
        guard let name = id.withUTF8({ Self.parse($0) }) else { return nil }
        self = name
    }

    /// Over bytes, because every message passes here several times.
    private static func parse(_ id: UnsafeBufferPointer<UInt8>) -> ConversationName? {
        guard id.count > 2, id[1] == UInt8(ascii: ":") else { return nil }
        let rest = UnsafeBufferPointer(rebasing: id[2...])
        switch id[0] {
        case UInt8(ascii: "p"):
            guard let bar = rest.firstIndex(of: UInt8(ascii: "|")) else { return nil }
            let first = UnsafeBufferPointer(rebasing: rest[..<bar])
            let second = UnsafeBufferPointer(rebasing: rest[(bar + 1)...])
            // A second bar is no part of a legal name.
            guard NameRule.isUser(first), NameRule.isUser(second), precedes(first, second) else { return nil }
            return .pair(String(decoding: first, as: UTF8.self), String(decoding: second, as: UTF8.self))
        case UInt8(ascii: "g"):
            return NameRule.isUser(rest) ? .group(String(decoding: rest, as: UTF8.self)) : nil
        case UInt8(ascii: "u"):
            return NameRule.isUser(rest) ? .control(String(decoding: rest, as: UTF8.self)) : nil
        default: return nil
        }
    }

    /// Byte order; false for equal names.
    private static func precedes(_ one: UnsafeBufferPointer<UInt8>, _ other: UnsafeBufferPointer<UInt8>) -> Bool {
        for index in 0..<min(one.count, other.count) where one[index] != other[index] {
            return one[index] < other[index]
        }
        return one.count < other.count
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

    /// Whether these are its members, in whatever order.
    public func hasMembers(_ users: [String]) -> Bool {
        switch self {
        case .pair(let first, let second): users == [first, second] || users == [second, first]
        case .group: users.isEmpty
        case .control(let user): users == [user]
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
