import ArgumentParser
import Foundation
import Runtime

/// `martlet config`: looks at configuration files without starting anything.
public struct ConfigCommand: ParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Check a configuration file and print what holds, or list every key.",
        discussion: """
            --check reads the file and the MARTLET_ variables as `martlet up --config` does. Whatever is wrong is
            told, each with its line, and the exit code is 1; otherwise every key is printed that has a value, with the
            line or variable that it comes from, passwords left out.
            """)

    @Option(help: "The file to check.")
    public var check: String?
    @Flag(help: "List every key with its variable, its default and what it means.")
    public var keys = false

    public init() {}

    public func validate() throws {
        guard (check != nil) != keys else { throw ValidationError("give --check FILE or --keys") }
    }

    public func run() throws {
        if keys { return FileHandle.standardOutput.write(Data(Self.list().utf8)) }
        do {
            let found = try Configuration.load(file: check)
            FileHandle.standardOutput.write(Data(found.shown().utf8))
        } catch {
            try StartFailure.tell(error, by: "martlet")
        }
    }

    static func list() -> String {
        ConfigSchema.all.map { key in
            let standard = key.standard.map { ", default \($0.words)" } ?? ""
            return "\(key.path)  \(key.variable)\n    \(key.about) (\(key.kind.words)\(standard))\n"
        }.joined()
    }
}

extension ConfigValue {
    var words: String {
        switch self {
        case .flag(let flag): flag ? "true" : "false"
        case .number(let number): String(number)
        case .text(let text): text
        case .list(let list): list.joined(separator: ",")
        case .pairs(let pairs): pairs.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
        }
    }
}

/// What keeps a program from starting becomes a line for each mistake and exit code 1.
enum StartFailure {
    static func tell(_ error: any Error, by program: String) throws -> Never {
        let lines: [String]
        switch error {
        case let error as StartError: lines = ["\(error)"]
        case let error as ConfigError: lines = error.problems.map(\.description)
        default: throw error
        }
        FileHandle.standardError.write(Data(lines.map { "\(program): \($0)\n" }.joined().utf8))
        throw ExitCode(1)
    }
}
