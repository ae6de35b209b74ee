import Yams

/// Reads a file's text against the schema. Pure: what it finds, and everything that is wrong.
struct ConfigReader {
    /// Bytes of a file; more is a mistake, not a configuration.
    static let longestFile = 1 << 20

    private let file: String
    private(set) var values: [String: Placed] = [:]
    private(set) var problems: [ConfigProblem] = []

    /// A value and where it was written.
    struct Placed: Equatable, Sendable {
        var value: ConfigValue
        var place: ConfigPlace
    }

    /// - Parameter file: its name, for messages.
    init(_ text: String, file: String) {
        self.file = file
        do {
            // A file of comments only is one without settings.
            guard let root = try Yams.compose(yaml: text) else { return }
            read(root, at: "", name: nil)
        } catch let error as YamlError {
            problems.append(Self.problem(error, file: file, text: text))
        } catch {
            problems.append(ConfigProblem(place(nil), "", "this is not YAML: \(error)", cure: "Correct the file"))
        }
    }

    private func place(_ node: Node?) -> ConfigPlace {
        ConfigPlace(source: .file, name: file, line: node?.mark?.line, column: node?.mark?.column)
    }

    private mutating func blame(_ node: Node?, _ path: String, _ problem: String, cure: String) {
        problems.append(ConfigProblem(place(node), path, problem, cure: cure))
    }

    /// - Parameter name: the key of the node, for its place.
    private mutating func read(_ node: Node, at path: String, name: Node?) {
        if let key = ConfigSchema.key(path) { return take(key, node, name: name) }
        // `log:` and nothing behind it.
        if isNothing(node) { return }
        guard case .mapping(let mapping) = node else {
            let names = ConfigSchema.names(under: path).joined(separator: ", ")
            let what = path.isEmpty ? "the file has no sections" : "this is a section, not a value"
            return blame(name ?? node, path, what, cure: "Write one of these under it, each with a value: \(names)")
        }
        for (child, value) in mapping {
            guard case .scalar(let scalar) = child else {
                blame(child, path, "this key is not a word", cure: "Write NAME: VALUE")
                continue
            }
            let below = path.isEmpty ? scalar.string : "\(path).\(scalar.string)"
            let names = ConfigSchema.names(under: path)
            if names.contains(scalar.string) {
                read(value, at: below, name: child)
            } else {
                blame(child, below, "there is no such key", cure: Self.suggestion(scalar.string, names))
            }
        }
    }

    static func suggestion(_ word: String, _ names: [String]) -> String {
        if let near = Nearest.to(word, of: names) { return "Did you mean \(near)?" }
        if let elsewhere = ConfigSchema.all.first(where: { $0.path.hasSuffix(".\(word)") }) {
            return "Did you mean \(elsewhere.path)? Here are known: \(names.joined(separator: ", "))"
        }
        return "Known here: \(names.joined(separator: ", "))"
    }

    private func isNothing(_ node: Node) -> Bool {
        guard case .scalar(let scalar) = node, scalar.style == .plain else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    private mutating func take(_ key: ConfigKey, _ node: Node, name: Node?) {
        if isNothing(node) { return }
        switch (key.kind, node) {
        case (.list, .sequence(let sequence)):
            var list: [String] = []
            for item in sequence {
                guard case .scalar(let scalar) = item, !isNothing(item) else {
                    blame(item, key.path, "an entry of the list is not text", cure: "Write one word after each -")
                    continue
                }
                list.append(scalar.string)
            }
            keep(.list(list), of: key, node, name: name)
        case (.list, .scalar(let scalar)): keep(key.kind.read(scalar.string), of: key, node, name: name)
        case (.pairs, .mapping(let mapping)):
            var pairs: [ConfigPair] = []
            for (child, value) in mapping {
                guard case .scalar(let name) = child, case .scalar(let text) = value, !isNothing(value) else {
                    blame(child, key.path, "an entry is not a name with a text", cure: "Write NAME: VALUE")
                    continue
                }
                pairs.append(ConfigPair(name: name.string, value: text.string))
            }
            keep(.pairs(pairs.sorted { $0.name < $1.name }), of: key, node, name: name)
        case (.flag, .scalar(let scalar)), (.number, .scalar(let scalar)):
            // "7780" in quotes is text.
            keep(scalar.style == .plain ? key.kind.read(scalar.string) : nil, of: key, node, name: name)
        case (.text, .scalar(let scalar)), (.choice, .scalar(let scalar)):
            keep(key.kind.read(scalar.string), of: key, node, name: name)
        default: keep(nil, of: key, node, name: name)
        }
    }

    private mutating func keep(_ value: ConfigValue?, of key: ConfigKey, _ node: Node, name: Node?) {
        // The key's line: a list begins on the next one.
        let place = place(name ?? node)
        guard let value else {
            problems.append(key.wrongKind(Self.shown(node, key), at: place))
            return
        }
        if let problem = key.judged(value, at: place) { problems.append(problem) }
        values[key.path] = Placed(value: value, place: place)
    }

    private static func shown(_ node: Node, _ key: ConfigKey) -> String {
        switch node {
        case .scalar(let scalar): key.isSecret ? "what is written" : "\"\(scalar.string)\""
        case .mapping: "a section"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    private static func problem(_ error: YamlError, file: String, text: String) -> ConfigProblem {
        var place = ConfigPlace(source: .file, name: file)
        var what = "this is not YAML"
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            place.line = mark.line
            place.column = mark.column
            what += ": \(problem)"
        case .duplicatedKeysInMapping(let duplicates, let context):
            // The mapping's beginning is known; the second of the equal keys is what has to go.
            let word = duplicates.sorted().first ?? ""
            place.line = secondLine(of: word, from: context.mark.line, in: text) ?? context.mark.line
            return ConfigProblem(
                place, "", "there are two keys \(word) in one section", cure: "Remove one of them")
        default: what += ": \(error)"
        }
        return ConfigProblem(place, "", what, cure: "Look at the indentation and the quotes around there")
    }

    private static func secondLine(of word: String, from first: Int, in text: String) -> Int? {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        var depth: Int?
        for (index, line) in lines.enumerated() where index + 1 >= first {
            let indent = line.prefix { $0 == " " }.count
            guard line.dropFirst(indent).hasPrefix("\(word):") else { continue }
            if depth == indent { return index + 1 }
            if depth == nil { depth = indent }
        }
        return nil
    }
}

extension ConfigKey {
    /// - Parameter shown: what was written, if it may be shown.
    func wrongKind(_ shown: String, at place: ConfigPlace) -> ConfigProblem {
        let cure =
            switch kind {
            case .flag: "Write true or false, without quotes"
            case .number(let range): "Write digits without quotes, from \(range.lowerBound) to \(range.upperBound)"
            case .choice(let words): "Write one of \(words.joined(separator: ", "))"
            case .text: "Write text, in quotes if it has a : or a #"
            case .list: "Write each on a line of its own after -, or several with commas"
            case .pairs:
                place.source == .file ? "Write NAME: VALUE, each on a line of its own" : "Write NAME=VALUE with commas"
            }
        return ConfigProblem(place, path, "\(shown) is not \(kind.words)", cure: cure)
    }

    /// What is wrong with a value of the right kind.
    func judged(_ value: ConfigValue, at place: ConfigPlace) -> ConfigProblem? {
        guard let judge else { return nil }
        let texts: [String] =
            switch value {
            case .text(let text): [text]
            case .list(let list): list
            case .pairs(let pairs): pairs.map(\.value)
            case .flag, .number: []
            }
        for text in texts {
            if let (problem, cure) = judge(text) { return ConfigProblem(place, path, problem, cure: cure) }
        }
        return nil
    }
}
