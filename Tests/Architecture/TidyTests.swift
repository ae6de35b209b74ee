import Foundation
import Testing

/// Style as a test. The allow-lists hold today's worst and may only shrink.
@Suite struct TidyTests {
    static let longestLine = 120
    static let longestFile = 500
    static let longestFunction = 70
    static let files = (Repository.swiftFiles(under: "Sources") + Repository.swiftFiles(under: "Tests"))
        .filter { !$0.path.contains("/Generated/") }

    /// Banned words and what to do instead.
    static let banned: [(word: String, instead: String, exempt: [String])] = [
        ("try!", "handle the error", []),
        ("as!", "use as? and a typed error", []),
        ("Date()", "take the time from an injected clock", ["Sources/Mains/", "Tests/"]),
        ("FIXME", "mend it", []),
        ("TODO", "do it, or write it into Docs/status.md", []),
        (" print(", "log, or write to a stream that was passed in", ["Sources/Mains/", "Sources/Examples/"]),
        (" Task {", "use a task group or a service that owns it", ["Tests/", "Sources/Mains/"]),
        ("Task.detached", "use a task group or a service that owns it", []),
        (
            "@unchecked", "make it checked, or confine it to a lane",
            [
                "Sources/Adapters/", "Sources/Shared/RPC/", "Sources/Edge/Login/", "Sources/Testing/", "Sources/Mains/",
                "Sources/Clients/", "Tests/",
            ]
        ),
    ]

    @Test func linesAreShort() {
        for file in Self.files {
            for (index, line) in file.lines.enumerated() where line.count > Self.longestLine {
                Issue.record("\(file.path):\(index + 1) has \(line.count) columns; the limit is \(Self.longestLine)")
            }
        }
    }

    @Test func filesAreShort() {
        for file in Self.files where file.lines.count > Self.longestFile {
            Issue.record("\(file.path) has \(file.lines.count) lines; the limit is \(Self.longestFile): split it")
        }
    }

    @Test func functionsAreShort() {
        for file in Self.files {
            for (start, length) in functions(in: file) where length > Self.longestFunction {
                Issue.record("\(file.path):\(start) is \(length) lines long; the limit is \(Self.longestFunction)")
            }
        }
    }

    @Test func nothingBanned() {
        for file in Self.files where !file.path.hasSuffix("TidyTests.swift") {
            for (index, line) in file.lines.enumerated() {
                let code = line.trimmingCharacters(in: .whitespaces)
                if code.hasPrefix("//") { continue }
                for rule in Self.banned where line.contains(rule.word) {
                    if rule.exempt.contains(where: { file.path.hasPrefix($0) }) { continue }
                    Issue.record("\(file.path):\(index + 1) uses \(rule.word): \(rule.instead)")
                }
            }
        }
    }

    /// Functions by indentation: from a line with `func ` or `init(` to the closing brace in the same column.
    private func functions(in file: Repository.SourceFile) -> [(line: Int, length: Int)] {
        var found: [(Int, Int)] = []
        for (index, line) in file.lines.enumerated() {
            let code = line.trimmingCharacters(in: .whitespaces)
            guard code.contains("func ") || code.contains("init("), !code.hasPrefix("//") else { continue }
            let indent = line.prefix { $0 == " " }
            guard let end = file.lines[(index + 1)...].firstIndex(of: indent + "}") else { continue }
            let next = file.lines[(index + 1)..<end].contains { other in
                other.hasPrefix(indent) && !other.hasPrefix(indent + " ") && !other.hasPrefix(indent + ")")
                    && !other.trimmingCharacters(in: .whitespaces).isEmpty
            }
            if !next { found.append((index + 1, end - index + 1)) }
        }
        return found
    }
}
