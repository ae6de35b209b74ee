import ArgumentParser
import Foundation

/// What both benches are told: where the server is, who may log in there, and which processes it is.
struct BenchOptions: ParsableArguments {
    @Option(help: "Address of the server, HOST:PORT.")
    var server = "127.0.0.1:7782"
    @Option(help: "Access file of the data folder that the server runs on.")
    var access = "./martlet-data/demo.json"
    @Option(parsing: .upToNextOption, help: "Process ids of the server, for its CPU and memory.")
    var pid: [Int32] = []
    @Flag(help: "Print the result as one JSON object on the last line of stdout.")
    var json = false

    init() {}

    func validate() throws {
        guard Self.address(server) != nil else { throw ValidationError("--server must be HOST:PORT") }
        guard pid.allSatisfy({ $0 > 0 }) else { throw ValidationError("--pid must be a process id") }
    }

    /// Host and port of `HOST:PORT`; an IPv6 host stands in brackets.
    static func address(_ text: String) -> (host: String, port: Int)? {
        guard let colon = text.lastIndex(of: ":"), colon > text.startIndex,
            let port = Int(text[text.index(after: colon)...]), (1...65_535).contains(port)
        else { return nil }
        let host = text[..<colon]
        let bare = host.hasPrefix("[") && host.hasSuffix("]") ? host.dropFirst().dropLast() : host
        guard !bare.isEmpty, host.hasPrefix("[") || !bare.contains(":") else { return nil }
        return (String(bare), port)
    }

    /// Runs a bench and tells its result; what keeps it from starting becomes one line and exit code 2.
    func tell(_ bench: () throws -> BenchReport) throws {
        let report: BenchReport
        do {
            report = try bench()
        } catch let error as BenchError {
            Progress.line("martlet bench: \(error)")
            throw ExitCode(2)
        }
        Progress.line(report.words)
        if json { FileHandle.standardOutput.write(report.json + Data("\n".utf8)) }
        if report.errors > 0 { throw ExitCode(1) }
    }
}

/// Words for people, on stderr: stdout is for the result.
enum Progress {
    static func line(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
}

/// A result: words for people and one JSON object.
protocol BenchReport {
    var words: String { get }
    var json: Data { get }
    /// Things that went wrong while measuring; exit code 1 when there are any.
    var errors: Int { get }
}

extension BenchReport where Self: Encodable {
    var json: Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        // Only a number that is not finite could fail, and `rounded` lets none through.
        return (try? encoder.encode(self)) ?? Data("{}".utf8)
    }
}

/// Three decimals are more than any of these figures repeats to; what cannot be divided is 0.
func rounded(_ value: Double) -> Double { value.isFinite ? (value * 1000).rounded() / 1000 : 0 }
