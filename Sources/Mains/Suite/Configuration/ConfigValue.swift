/// What a key of the configuration holds.
enum ConfigValue: Equatable, Sendable {
    case flag(Bool)
    case number(Int)
    case text(String)
    case list([String])
    /// Names and values, in the order of the names.
    case pairs([ConfigPair])
}

/// A name and a value of a key that takes any names.
struct ConfigPair: Equatable, Sendable {
    var name: String
    var value: String
}

/// What the value of a key has to be.
enum ConfigKind: Equatable, Sendable {
    case flag
    case number(ClosedRange<Int>)
    case text
    case choice([String])
    case list
    case pairs

    /// For the sentence "this has to be ...".
    var words: String {
        switch self {
        case .flag: "true or false"
        case .number(let range): "a number from \(range.lowerBound) to \(range.upperBound)"
        case .text: "text"
        case .choice(let words): "one of \(words.joined(separator: ", "))"
        case .list: "a list"
        case .pairs: "names with values"
        }
    }

    /// Reads a word, or several with commas: what a variable or a plain scalar says. Nil: it is not of this kind.
    func read(_ text: String) -> ConfigValue? {
        switch self {
        case .flag: return text == "true" ? .flag(true) : text == "false" ? .flag(false) : nil
        case .number(let range):
            guard let number = Int(text), !text.hasPrefix("+"), range.contains(number) else { return nil }
            return .number(number)
        case .text: return .text(text)
        case .choice(let words): return words.contains(text) ? .text(text) : nil
        case .list: return .list(text.split(separator: ",").map { Self.trimmed($0) }.filter { !$0.isEmpty })
        case .pairs:
            var pairs: [ConfigPair] = []
            for part in text.split(separator: ",") {
                let words = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard words.count == 2, !Self.trimmed(words[0]).isEmpty else { return nil }
                pairs.append(ConfigPair(name: Self.trimmed(words[0]), value: Self.trimmed(words[1])))
            }
            return .pairs(pairs.sorted { $0.name < $1.name })
        }
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}

/// Where a value was written.
struct ConfigPlace: Equatable, Sendable {
    /// Later ones win.
    enum Source: Int, Comparable, Sendable {
        case file, environment, option

        static func < (one: Source, other: Source) -> Bool { one.rawValue < other.rawValue }
    }
    var source: Source
    /// The file, the variable or the option.
    var name: String
    var line: Int?
    var column: Int?

    /// "martlet.yaml:12", or the name of the variable or option.
    var words: String { line.map { "\(name):\($0)" } ?? name }
}

/// A mistake in the configuration.
public struct ConfigProblem: Error, Equatable, Sendable, CustomStringConvertible {
    /// File, variable or option.
    public var source: String
    /// Counted from 1; nil in what is no file.
    public var line: Int?
    public var column: Int?
    /// The key's path, for example `presence.redis.url`; empty when the file itself is wrong.
    public var path: String
    public var problem: String
    public var cure: String

    init(_ place: ConfigPlace, _ path: String, _ problem: String, cure: String) {
        source = place.name
        line = place.line
        column = place.column
        self.path = path
        self.problem = problem
        self.cure = cure
    }

    public var description: String {
        let place = line.map { "\(source):\($0)" } ?? source
        return "\(place): \(path.isEmpty ? "" : path + ": ")\(problem). \(cure)\(cure.hasSuffix("?") ? "" : ".")"
    }
}

/// Every mistake of a configuration, by place.
public struct ConfigError: Error, Equatable, Sendable, CustomStringConvertible {
    public let problems: [ConfigProblem]

    init(_ problems: [ConfigProblem]) {
        self.problems = problems.enumerated().sorted { one, other in
            (one.element.line ?? .max, one.offset) < (other.element.line ?? .max, other.offset)
        }.map(\.element)
    }

    /// A line for each.
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}
