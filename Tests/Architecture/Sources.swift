import Foundation

/// The repository as text, for the tests that guard its shape.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    struct SourceFile {
        let path: String
        let lines: [String]
        var imports: [String] {
            lines.compactMap { line in
                let words = line.split(separator: " ").map(String.init)
                guard let at = words.firstIndex(of: "import"), at <= 1, words.count > at + 1 else { return nil }
                if at == 1,
                    !["internal", "public", "private", "@preconcurrency", "@testable", "@_exported", "package"]
                        .contains(words[0])
                {
                    return nil
                }
                return words[at + 1].split(separator: ".").first.map(String.init)
            }
        }
    }

    static func swiftFiles(under folder: String) -> [SourceFile] {
        let base = root.appendingPathComponent(folder)
        guard let walk = FileManager.default.enumerator(atPath: base.path) else { return [] }
        return walk.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") }.sorted().compactMap { name in
            guard let text = try? String(contentsOf: base.appendingPathComponent(name), encoding: .utf8) else {
                return nil
            }
            return SourceFile(path: folder + "/" + name, lines: text.components(separatedBy: "\n"))
        }
    }

    static func text(_ path: String) -> String {
        (try? String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)) ?? ""
    }
}
