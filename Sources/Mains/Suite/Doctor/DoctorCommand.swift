import ArgumentParser
import Foundation
import Logging
import Ports

/// `martlet doctor`: looks at the backends of a configuration and says what to do.
public struct DoctorCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Look at everything that a configuration names, and say what to do about it.",
        discussion: """
            Each backend: reachable, version, rights, topics, settings that matter, clock, latency, certificates; and
            this machine's ports, open files and disk. A line for each: ok, warning or error. Exit code 1 when there is
            an error. Nothing that lasts is changed: a table, a key and a record of a topic of its own come and go.
            """)

    @Option(help: "The configuration file.")
    public var config: String
    @Flag(help: "Write JSON: {\"errors\": N, \"warnings\": N, \"findings\": [...]}.")
    public var json = false

    public init() {}

    private struct Report: Encodable {
        var errors: Int
        var warnings: Int
        var findings: [Finding]
    }

    public func run() async throws {
        do {
            let configuration = try Configuration.load(file: config)
            // What the adapters say on their way is in the findings.
            LoggingSystem.bootstrap { _ in SwiftLogNoOpLogHandler() }
            let findings = await Doctor.look(at: configuration)
            let errors = findings.filter { $0.level == .error }.count
            let warnings = findings.filter { $0.level == .warning }.count
            let text: String
            if json {
                let encoder = JSONEncoder()
                encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
                let report = Report(errors: errors, warnings: warnings, findings: findings)
                text = String(decoding: try encoder.encode(report), as: UTF8.self) + "\n"
            } else {
                text =
                    findings.map(Self.line).joined()
                    + "\(errors) errors, \(warnings) warnings, \(findings.count - errors - warnings) ok\n"
            }
            FileHandle.standardOutput.write(Data(text.utf8))
            if errors > 0 { throw ExitCode(1) }
        } catch let code as ExitCode {
            throw code
        } catch {
            try StartFailure.tell(error, by: "martlet")
        }
    }

    private static func line(_ finding: Finding) -> String {
        let level = finding.level.rawValue.padding(toLength: 8, withPad: " ", startingAt: 0)
        let cure = finding.cure.map { "\n        -> \($0)" } ?? ""
        return "\(level)\(finding.subject): \(finding.found)\(cure)\n"
    }
}
