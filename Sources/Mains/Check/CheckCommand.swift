import ArgumentParser
import Foundation
import Identity
import NIOCore
import NIOPosix
import NIOSSL

/// `martlet check`: a workload over the real protocol and a judgement of everything that came of it.
public struct CheckCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check that no message is lost, doubled, reordered or miscounted.",
        discussion: """
            Users send in random conversations, lose their connections, resend, reconnect, read; then every history is
            read back on fresh connections and compared with what was accepted and received. Exit code 0: nothing wrong;
            1: something is; 2: the check could not start. The result is told in words on stderr, with --json also as
            one object on the last line of stdout. With --kill, processes named in --pids are killed while it runs.
            """)

    @Option(help: "Users, at least 2.")
    public var users = 200
    @Option(help: "Devices of each user, 1 or 2.")
    public var devices = 1
    @Option(help: "How long to send, in seconds.")
    public var seconds = 30
    @Option(help: "Seed of the workload.")
    public var seed: UInt64 = 1
    @Option(help: "Messages a second per user.")
    public var rate = 10.0
    @Option(help: "Address of the server, HOST:PORT; several with commas.")
    public var server = "127.0.0.1:7782"
    @Flag(help: "Use TLS.")
    public var tls = false
    @Option(help: "A PEM file with the authorities to trust instead of the system's; implies --tls.")
    public var tlsCa: String?
    @Option(help: "Access file of the data folder that the server runs on.")
    public var access = "./martlet-data/demo.json"
    @Flag(help: "Print the result as one JSON object on the last line of stdout.")
    public var json = false
    @Option(help: "Services to kill -9 while it runs, in turn, with commas; needs --pids.")
    public var kill: String?
    @Option(help: #"JSON file of the processes that may be killed: {"role": [pid, ...]}."#)
    public var pids: String?
    @Option(help: "How many kills; one per service of --kill by default.")
    public var kills: Int?

    public init() {}

    public func validate() throws {
        guard (2...20_000).contains(users) else { throw ValidationError("--users must be between 2 and 20000") }
        guard (1...2).contains(devices) else { throw ValidationError("--devices must be 1 or 2") }
        guard (1...86_400).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 86400") }
        guard rate > 0, rate <= 1000 else { throw ValidationError("--rate must be above 0 and at most 1000") }
        guard !servers.isEmpty else { throw ValidationError("--server must be HOST:PORT[,HOST:PORT...]") }
        guard (kill == nil) == (pids == nil) else { throw ValidationError("--kill and --pids go together") }
        guard kill == nil || !services.isEmpty else { throw ValidationError("--kill names no service") }
        guard kills == nil || kill != nil else { throw ValidationError("--kills needs --kill") }
        guard (1...10_000).contains(kills ?? 1) else { throw ValidationError("--kills must be between 1 and 10000") }
    }

    private var services: [String] {
        (kill ?? "").split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    }

    /// The addresses; empty when any of them is none.
    var servers: [(host: String, port: Int)] {
        var found: [(String, Int)] = []
        for part in server.split(separator: ",", omittingEmptySubsequences: false) {
            guard let colon = part.lastIndex(of: ":"), let port = Int(part[part.index(after: colon)...]),
                (1...65_535).contains(port), colon > part.startIndex
            else { return [] }
            found.append((String(part[..<colon]).trimmingCharacters(in: .whitespaces), port))
        }
        return found
    }

    public func run() async throws {
        let outcome: CheckRun.Outcome
        do {
            outcome = try await check()
        } catch CheckError.cannotStart(let words) {
            Self.tell("martlet check: \(words)\n")
            throw ExitCode(2)
        }
        let report = Report(outcome, seed: seed)
        Self.tell((isTerminal ? "\r\u{1b}[K" : "") + report.words)
        if json { FileHandle.standardOutput.write(report.json + Data("\n".utf8)) }
        if !report.isClean { throw ExitCode(1) }
    }

    private var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

    private static func tell(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }

    private func tlsContext() throws -> NIOSSLContext? {
        guard tls || tlsCa != nil else { return nil }
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let tlsCa { configuration.trustRoots = .file(tlsCa) }
        do { return try NIOSSLContext(configuration: configuration) } catch {
            throw CheckError.cannotStart("TLS cannot be set up with \(tlsCa ?? "the system's authorities"): \(error)")
        }
    }

    private func check() async throws -> CheckRun.Outcome {
        let access = try AccessFile.load(self.access)
        let config = CheckConfig()
        let wall = UInt64(Date().timeIntervalSince1970 * 1000)
        // The wall clock keeps runs over one data folder apart; the seed decides everything else.
        let tag = "c" + String(StableHash.mix(seed &+ wall &* 1_000_003) & 0xff_ffff_ffff, radix: 16)
        let roster = Roster(users: users, devicesPerUser: devices, partners: config.partners, seed: seed, tag: tag)
        let tokens = try roster.users.map { user in
            try DevToken.make(access, user: user, nowSeconds: wall / 1000, lifeSeconds: UInt64(seconds) + 3600)
        }
        let settings = CheckRun.Settings(
            users: users, devices: devices, seconds: seconds, seed: seed, rate: rate, servers: servers,
            tls: try tlsContext(),
            kill: services, kills: kills ?? services.count, pidFile: pids ?? "", progress: isTerminal)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let run = CheckRun(settings: settings, config: config, roster: roster, tokens: tokens, loop: group.next())
        do {
            let outcome = try await run.start().get()
            try await group.shutdownGracefully()
            return outcome
        } catch {
            try await group.shutdownGracefully()
            throw error
        }
    }
}
