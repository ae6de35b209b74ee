import ArgumentParser

/// `martlet bench neighbour`
struct NeighbourBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "neighbour", abstract: "What hostile clients do to the latency of well-behaved ones.",
        discussion: """
            Pairs of users send at a modest fixed rate, in turn undisturbed and beside the hostile traffic of `martlet
            bench hostile`, which runs as a process of its own. The result is how many times as high the 99th percentile
            is: the median over the turns. Exit code 0: measured; 1: a neighbour lost something, or the median is above
            --limit; 2: could not start.
            """)

    @Option(help: "Pairs of well-behaved users, 1 to 1000.")
    var pairs = 50
    @Option(help: "Their messages a second, 1 to 20000.")
    var rate = 500
    @Option(help: "Bytes of a message's text, 1 to 32768.")
    var bytes = 100
    @Option(help: "Times that both are measured, 1 to 99; an odd number has a median.")
    var turns = 5
    @Option(help: "Seconds that each of the two is measured in a turn.")
    var seconds = 6
    @Option(help: "Hostile connections that never speak, 0 to 9000.")
    var silent = 500
    @Option(help: "Exit code 1 when the median ratio is above this.")
    var limit: Double?
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...1000).contains(pairs) else { throw ValidationError("--pairs must be between 1 and 1000") }
        guard (1...20_000).contains(rate) else { throw ValidationError("--rate must be between 1 and 20000") }
        guard rate <= pairs * 150 else { throw ValidationError("--rate: a conversation takes 200 messages a second") }
        guard (1...32_768).contains(bytes) else { throw ValidationError("--bytes must be between 1 and 32768") }
        guard (1...99).contains(turns) else { throw ValidationError("--turns must be between 1 and 99") }
        guard (1...600).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 600") }
        guard (0...9000).contains(silent) else { throw ValidationError("--silent must be between 0 and 9000") }
    }

    func run() async throws {
        try options.tell {
            let plan = NeighbourPlan(
                rate: rate, turns: turns, seconds: seconds, silent: silent, limit: limit)
            let chat = ChatPlan(pairs: pairs, bytes: bytes, seconds: seconds, depth: 1)
            return try NeighbourRun(plan, chat, options: options).run()
        }
    }
}
