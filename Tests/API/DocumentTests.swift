import APIRole
import Foundation
import Testing
import Wire

/// What Protocols/README.md says against what the code does.
@Suite struct DocumentTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private func readme() throws -> String {
        try String(contentsOf: Self.root.appendingPathComponent("Protocols/README.md"), encoding: .utf8)
    }

    /// Rows "| 100 | malformed_frame | no | ..." of the error-code table.
    @Test func theErrorCodeTableIsTheCodes() throws {
        var rows: [UInt32: (name: String, retryable: String)] = [:]
        for line in try readme().split(separator: "\n") where line.hasPrefix("| ") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 4, let number = UInt32(cells[0]), cells[1].hasPrefix("`") else { continue }
            #expect(rows[number] == nil, "\(number) stands twice")
            rows[number] = (cells[1].trimmingCharacters(in: ["`"]), cells[2])
        }
        for code in ErrorCode.all {
            #expect(rows[code.number]?.name == code.name, "\(code.number)")
            #expect(rows[code.number]?.retryable == (code.retryable ? "yes" : "no"), "\(code.name)")
        }
        #expect(Set(rows.keys) == Set(ErrorCode.all.map(\.number)))
    }

    @Test func theFrameTableIsTheTypes() throws {
        let text = try readme()
        for type in FrameType.allCases {
            #expect(text.contains("| \(type.rawValue) | \(Self.name(type)) |"), "\(type)")
        }
    }

    private static func name(_ type: FrameType) -> String {
        "\(type)".reduce(into: "") { text, letter in
            if letter.isUppercase { text.append("_") }
            text += letter.uppercased()
        }
    }

    @Test func theLimitsAreTheLimits() throws {
        let text = try readme()
        for number in [FrameLimits.beforeLoginBytes, FrameLimits.afterLoginBytes] {
            #expect(text.contains(number.formatted(.number.locale(Locale(identifier: "en_US")))), "\(number)")
        }
    }
}
