import ArgumentParser

/// `martlet bench pages`
struct PagesBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pages", abstract: "Pages of history, asked for over users' own connections: rate and latency.",
        discussion: """
            Users of `martlet bench storage` (or chat) read their conversations, a page each time, as a client does
            when somebody scrolls. --skip 0 reads the newest rows, which the hot store has; a --skip beyond what it
            keeps of a conversation (264 rows) reads from the next tier. First as fast as the server answers,
            then at half of that rate on a schedule: the latency counts from the moment a page was due. Every page is
            looked at: all rows, dense, up to the seq that was asked for. Exit code 0: measured; 1: measured, with
            errors; 2: could not start, for example because a conversation is too short.
            """)

    @Option(help: "Conversations, each read by one user, 1 to 9500.")
    var pairs = 50
    @Option(help: "Rows of a page, 1 to 200.")
    var rows = 50
    @Option(help: "Rows above the page.")
    var skip = 0
    @Option(help: "Seconds that each of the two phases is measured.")
    var seconds = 5
    @Option(help: "Pages of one user under way in the first phase, 1 to 16.")
    var depth = 1
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...9500).contains(pairs) else { throw ValidationError("--pairs must be between 1 and 9500") }
        guard (1...200).contains(rows) else { throw ValidationError("--rows must be between 1 and 200") }
        guard (0...1_000_000).contains(skip) else { throw ValidationError("--skip must be between 0 and 1000000") }
        guard (1...3600).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 3600") }
        guard (1...16).contains(depth) else { throw ValidationError("--depth must be between 1 and 16") }
    }

    func run() async throws {
        try options.tell {
            let plan = PagesPlan(pairs: pairs, rows: rows, skip: skip, seconds: seconds, depth: depth)
            return try PagesRun(plan, options: options).run()
        }
    }
}

/// How much a pages bench does.
struct PagesPlan {
    var pairs: Int
    /// Of a page.
    var rows: Int
    /// Above the page.
    var skip: Int
    /// Each phase.
    var seconds: Int
    var depth: Int
}

/// What `martlet bench pages` found; the property names, in snake case, are the JSON's.
struct PagesReport: BenchReport, Encodable {
    var bench = "pages"
    var pairs: Int
    var rows: Int
    var skip: Int
    /// Answered in the first phase's span.
    var pages: Int
    var pagesPerS: Double
    /// In the first phase; absent without --pid.
    var serverCpuSPerMillion: Double?
    /// The second phase's schedule.
    var pacedPerS: Double
    var pacedPages: Int
    /// Due until answered, in the second phase.
    var latencyMs: Percentiles
    /// All pages that were asked for, of both phases and their warm-ups.
    var asked: Int
    var errors: Int
    var errorCounts: [String: Int]

    var words: String {
        """
        \(Int(pagesPerS)) pages/s of \(rows) rows, \(skip) below the newest
        at \(Int(pacedPerS))/s: \(latencyMs.p50) ms (p50), \(latencyMs.p99) (p99)
        errors: \(errors)\(errorCounts.isEmpty ? "" : " \(errorCounts)")
        """
    }
}
