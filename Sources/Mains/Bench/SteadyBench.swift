import ArgumentParser

/// `martlet bench steady`
struct SteadyBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "steady",
        abstract: "One-to-one messages at a fixed rate, for counting what each costs the server.",
        discussion: """
            The second phase of `martlet bench chat` alone, at a rate that is given: what the server does for a message
            depends on how many travel together, so counts compare only at the same load. Says on standard error when
            the load begins. Tests/Benchmarks/budgets.py counts meanwhile. Exit code 0: all arrived; 1: with errors;
            2: could not start.
            """)

    @Option(help: "Pairs of users, 1 to 9500.")
    var pairs = 1000
    @Option(help: "Messages a second, 1 to 100000.")
    var rate = 4000
    @Option(help: "Bytes of a message's text, 1 to 32768.")
    var bytes = 100
    @Option(help: "Seconds, without the two at the beginning.")
    var seconds = 10
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...9500).contains(pairs) else { throw ValidationError("--pairs must be between 1 and 9500") }
        guard (1...100_000).contains(rate) else { throw ValidationError("--rate must be between 1 and 100000") }
        guard rate <= pairs * 150 else { throw ValidationError("--rate: a conversation takes 200 messages a second") }
        guard (1...32_768).contains(bytes) else { throw ValidationError("--bytes must be between 1 and 32768") }
        guard (1...3600).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 3600") }
    }

    func run() async throws {
        try options.tell {
            let plan = ChatPlan(pairs: pairs, bytes: bytes, seconds: seconds, depth: 1)
            let chat = try ChatRun(
                plan, MartletChat(bytes: bytes, accessPath: options.access), server: options.server, pids: options.pid)
            try chat.open()
            defer { chat.fleet.close() }
            Progress.line("steady: \(rate) messages/s for \(seconds) s ...")
            let (latency, ackLatency) = chat.openLoop(perSecond: Double(rate), seconds: seconds)
            guard latency.count > 0 else { throw BenchError("no message arrived within \(seconds) s") }
            return SteadyReport(
                pairs: pairs, bytes: bytes, perS: rate, seconds: seconds, messages: Int(latency.count),
                latencyMs: Percentiles(latency), ackLatencyMs: Percentiles(ackLatency), resent: chat.resent,
                errors: chat.errorCount, errorCounts: chat.errors)
        }
    }
}

/// What `martlet bench steady` found; the property names, in snake case, are the JSON's.
struct SteadyReport: BenchReport, Encodable {
    var bench = "steady"
    var pairs: Int
    var bytes: Int
    var perS: Int
    var seconds: Int
    /// Due within the seconds and received.
    var messages: Int
    /// Due until received by the other client.
    var latencyMs: Percentiles
    /// Due until acknowledged as stored.
    var ackLatencyMs: Percentiles
    /// Sends repeated because the server asked for it: no errors.
    var resent: Int
    var errors: Int
    var errorCounts: [String: Int]

    var words: String {
        """
        \(messages) messages at \(perS)/s: received after \(latencyMs.p50) ms (p50), \(latencyMs.p99) (p99); \
        acknowledged after \(ackLatencyMs.p50) ms (p50), \(ackLatencyMs.p99) (p99)
        errors: \(errors)\(errorCounts.isEmpty ? "" : " \(errorCounts)"); sent again: \(resent)
        """
    }
}
