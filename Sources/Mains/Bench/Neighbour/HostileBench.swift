import ArgumentParser

/// `martlet bench hostile`
struct HostileBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hostile", abstract: "Hostile clients against a server on this machine; measures nothing itself.",
        discussion: """
            Floods before login, random bytes, giant lengths, forged tokens, connection churn, connections that never
            speak, and logged-in ones that ask and never read: all at once, at bounded rates, until the time is over or
            standard input ends. `martlet bench neighbour` starts it.
            """)

    @Option(help: "Seconds, 1 to 3600.")
    var seconds = 30
    @Option(help: "Connections that never speak, 0 to 9000.")
    var silent = 500
    @Option(help: "Decides the random bytes.")
    var seed: UInt64 = 1
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...3600).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 3600") }
        guard (0...9000).contains(silent) else { throw ValidationError("--silent must be between 0 and 9000") }
    }

    func run() async throws {
        try options.tell {
            guard let (host, port) = BenchOptions.address(options.server) else {
                throw BenchError("--server must be HOST:PORT")
            }
            return try HostileRun(
                HostilePlan(seconds: seconds, silent: silent, seed: seed),
                address: ServerAddress(host: host, port: port), access: options.access
            ).run()
        }
    }
}
