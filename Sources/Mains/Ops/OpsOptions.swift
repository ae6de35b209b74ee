import ArgumentParser
import Foundation
import MartletSuite
import MySQLStore
import Ports
import RPC
import Runtime
import Wire

/// What all commands share: the backends and the form of the answer.
struct OpsOptions: ParsableArguments {
    @OptionGroup var backends: BackendOptions
    @Flag(help: "Answer as JSON on stdout.")
    var json = false

    init() {}

    /// Runs a command; what it could not do becomes one line and exit code 1.
    func run(_ work: () throws -> Void) throws {
        do { try work() } catch { throw Self.told(error) }
    }

    /// The same of one that waits.
    func run(_ work: () async throws -> Void) async throws {
        do { try await work() } catch { throw Self.told(error) }
    }

    /// Tells the error, and is what ends the program.
    private static func told(_ error: any Error) -> any Error {
        let known: OpsError
        switch error {
        case let error as OpsError: known = error
        case let error as StartError: known = OpsError(error)
        case let error as ConfigError: known = OpsError(.options, "\(error)", cure: "Correct the file or the options")
        case let error as StoreOpenError: known = OpsError(error)
        case let failure as Failure: known = OpsError(failure)
        default: return error
        }
        Words.complain("martlet ops: \(known)")
        return ExitCode(1)
    }

    /// The shards of the recent store.
    func shards() throws -> MySQLConfig {
        guard let place = try backends.settings().mysql.recent else {
            throw OpsError(
                .options, "messages are not said to be in MariaDB",
                cure: "Name the shards with --recent or --config, as for `up`")
        }
        return try place.config()
    }

    /// The database of users and of the map of the shards.
    func relational() throws -> MySQLConfig {
        guard let place = try backends.settings().mysql.relational else {
            throw OpsError(
                .options, "the map of the shards is in the relational database",
                cure: "Name it with --relational or --config")
        }
        return try place.config()
    }
}

/// Words for people and for scripts: answers on stdout, progress and complaints on stderr.
enum Words {
    static func say(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }
    static func complain(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    /// Writes all of it; a closed pipe ends the attempt.
    static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }

    /// One JSON object on one line, keys sorted and in snake case.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }

    /// Asks whoever sits at the terminal.
    ///
    /// - Throws: `unconfirmed` when the answer is not yes, or nobody can be asked.
    static func confirm(_ question: String, yes: Bool) throws(OpsError) {
        if yes { return }
        guard isatty(STDIN_FILENO) == 1 else {
            throw OpsError(.unconfirmed, question, cure: "Add --yes where nobody can be asked; --dry-run only looks")
        }
        write("\(question) [y/N] ", to: STDERR_FILENO)
        guard let answer = readLine(), ["y", "yes"].contains(answer.lowercased()) else {
            throw OpsError(.unconfirmed, "nothing was done", cure: "Answer y to go on")
        }
    }
}
