import Foundation
import Runtime

/// What holds: the defaults, a file, variables and options, the later ones over the earlier ones; checked as a whole.
struct Configuration: Sendable {
    private let values: [String: ConfigReader.Placed]

    /// Reads a file and the variables; options stand over both.
    ///
    /// - Parameters:
    ///   - file: path of the YAML file; nil: none.
    ///   - environment: variables of this process.
    ///   - options: what the command line says, as values of keys.
    /// - Throws: `ConfigError` with all mistakes.
    static func load(
        file: String?, environment: [String: String] = ProcessInfo.processInfo.environment,
        options: ConfigOptions = ConfigOptions()
    ) throws -> Configuration {
        guard let file else { return try Configuration(text: "", file: "", environment, options) }
        guard let data = FileManager.default.contents(atPath: file), data.count <= ConfigReader.longestFile,
            let text = String(data: data, encoding: .utf8)
        else {
            throw StartError(
                "\(file) cannot be read, is no text or is over 1 MiB",
                cure: "Name a YAML file with --config; Deploy/config/martlet.yaml is one")
        }
        return try Configuration(text: text, file: file, environment, options)
    }

    init(
        text: String, file: String, _ environment: [String: String] = [:], _ options: ConfigOptions = ConfigOptions()
    ) throws(ConfigError) {
        let read = ConfigReader(text, file: file)
        let variables = ConfigEnvironment.read(environment)
        var values = read.values.merging(variables.values) { $1 }
        options.apply(to: &values)
        self.values = values
        var problems = read.problems + variables.problems
        // What is judged together has to be whole.
        if problems.isEmpty { problems = ConfigRules.problems(self) }
        guard problems.isEmpty else { throw ConfigError(problems) }
    }

    // MARK: values

    func text(_ path: String) -> String? {
        guard case .text(let text)? = value(path) else { return nil }
        return text
    }

    func flag(_ path: String) -> Bool { value(path) == .flag(true) }

    func number(_ path: String) -> Int {
        guard case .number(let number)? = value(path) else { preconditionFailure("\(path) has no default") }
        return number
    }

    func list(_ path: String) -> [String] {
        guard case .list(let list)? = value(path) else { return [] }
        return list
    }

    func pairs(_ path: String) -> [ConfigPair] {
        guard case .pairs(let pairs)? = value(path) else { return [] }
        return pairs
    }

    /// A password that stands here or in a file; the later source's where both are given.
    func secret(_ path: String) -> ConfigSecret {
        let file = "\(path)-file"
        guard let given = place(path) else { return ConfigSecret(text: nil, file: text(file)) }
        if let other = place(file), given.source < other.source { return ConfigSecret(text: nil, file: text(file)) }
        return ConfigSecret(text: text(path), file: nil)
    }

    private func value(_ path: String) -> ConfigValue? {
        guard let key = ConfigSchema.key(path) else { preconditionFailure("\(path) is not in the schema") }
        return values[path]?.value ?? key.standard
    }

    /// Where a value was written; nil: it is the default.
    func place(_ path: String) -> ConfigPlace? { values[path]?.place }

    /// Whether a value was written that is not the default.
    func differs(_ path: String) -> Bool {
        guard let written = values[path]?.value else { return false }
        return written != ConfigSchema.key(path)?.standard
    }

    // MARK: showing

    /// Every key that has a value, one a line, as YAML; passwords are left out.
    func shown() -> String {
        var lines: [String] = []
        var above: [Substring] = []
        for key in ConfigSchema.all {
            guard let value = value(key.path) else { continue }
            let parts = key.path.split(separator: ".")
            let common = zip(parts.dropLast(), above).prefix { $0 == $1 }.count
            for (depth, part) in parts.dropLast().enumerated() where depth >= common {
                lines.append(String(repeating: "  ", count: depth) + part + ":")
            }
            above = Array(parts.dropLast())
            let indent = String(repeating: "  ", count: parts.count - 1)
            let source = place(key.path).map { "  # \($0.words)" } ?? ""
            lines.append("\(indent)\(parts[parts.count - 1]): \(Self.shown(value, of: key))\(source)")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func shown(_ value: ConfigValue, of key: ConfigKey) -> String {
        if key.isSecret { return "(given)" }
        switch value {
        case .flag(let flag): return flag ? "true" : "false"
        case .number(let number): return String(number)
        case .text(let text): return quoted(withoutPassword(text))
        case .list(let list): return "[" + list.map(quoted).joined(separator: ", ") + "]"
        case .pairs(let pairs):
            let parts = pairs.map { pair in
                let isSecret = ["password", "secret", "token", ".pem"].contains { pair.name.contains($0) }
                return "\(quoted(pair.name)): \(isSecret ? "(given)" : quoted(pair.value))"
            }
            return "{" + parts.joined(separator: ", ") + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        "\"" + text.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\"") + "\""
    }

    /// `mysql://user:secret@host` without the secret.
    static func withoutPassword(_ text: String) -> String {
        guard let mark = text.range(of: "://"), let at = text.lastIndex(of: "@"), at >= mark.upperBound,
            let colon = text[mark.upperBound..<at].firstIndex(of: ":")
        else { return text }
        return text[...colon] + "..." + text[at...]
    }
}

/// A password, or the file that has it.
struct ConfigSecret: Equatable, Sendable {
    var text: String?
    var file: String?

    var isGiven: Bool { text != nil || file != nil }
}

/// What a command line says, as values of keys.
struct ConfigOptions: Sendable {
    private var sets: [(path: String, value: ConfigValue, option: String)] = []
    private var forgets: [String] = []

    init() {}

    /// Nil: the option was not given.
    mutating func set(_ path: String, _ text: String?, _ option: String) {
        if let text { sets.append((path, .text(text), option)) }
    }

    mutating func set(_ path: String, _ number: Int?, _ option: String) {
        if let number { sets.append((path, .number(number), option)) }
    }

    mutating func set(_ path: String, _ value: ConfigValue, _ option: String) { sets.append((path, value, option)) }

    /// Whatever else is said under the path does not hold: the option says all of it.
    mutating func replace(under path: String) { forgets.append(path + ".") }

    func apply(to values: inout [String: ConfigReader.Placed]) {
        for prefix in forgets { values = values.filter { !$0.key.hasPrefix(prefix) } }
        for (path, value, option) in sets {
            values[path] = ConfigReader.Placed(value: value, place: ConfigPlace(source: .option, name: option))
        }
    }
}
