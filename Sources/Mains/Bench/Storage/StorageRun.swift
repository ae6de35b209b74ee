import Glibc
import MySQLStore
import Wire

/// The storage bench: floods a suite and counts rows where they end up.
final class StorageRun {
    /// How long rows are waited for after the last acknowledgement.
    static let settleMicros: UInt64 = 60_000_000

    private struct Look {
        var micros: UInt64 = 0
        var rows: UInt64 = 0
        var commits: UInt64 = 0
        var cpu: [String: Double] = [:]
    }

    private let plan: ChatPlan
    private let parts: PartProcesses
    private let survey: ShardSurvey
    private let chat: ChatRun

    init(
        _ plan: ChatPlan, config: MySQLConfig, parts: PartProcesses, options: BenchOptions
    ) throws(BenchError) {
        self.plan = plan
        self.parts = parts
        survey = ShardSurvey(config)
        chat = try ChatRun(
            plan, MartletChat(bytes: plan.bytes, accessPath: options.access), server: options.server, pids: [])
    }

    func run() throws -> StorageReport {
        try chat.open()
        defer { chat.fleet.close() }
        let before = try rows()
        Progress.line("storing: \(plan.pairs) pairs, \(plan.depth) messages each, \(plan.seconds) s ...")
        var (first, last) = (Look(), Look())
        try chat.flood(
            begin: { first = try look(countFirst: true) },
            end: { last = try look(countFirst: false) })
        let ended = Monotonic.micros()
        let wanted = before + UInt64(chat.accepted)
        var found = try rows()
        while found < wanted, Monotonic.micros() < ended + Self.settleMicros {
            usleep(100_000)
            found = try rows()
        }
        let settled = Monotonic.micros()
        guard last.rows > first.rows else { throw BenchError("no row came within \(plan.seconds) s") }
        return StorageReport(
            plan, stored: last.rows - first.rows, micros: last.micros - first.micros,
            commits: last.commits - first.commits, cpu: last.cpu.merging(first.cpu) { $0 - $1 }, acked: chat.accepted,
            rows: found - before, settledMicros: settled - ended, resent: chat.resent, lost: chat.errors)
    }

    /// Counting is work for MariaDB: it is left out of the CPU of the measured seconds.
    private func look(countFirst: Bool) throws -> Look {
        var look = Look()
        if !countFirst { look.cpu = try parts.cpuSeconds() }
        // What a statement sees is what was there when it began.
        look.micros = Monotonic.micros()
        look.rows = try rows()
        look.commits = try commits()
        if countFirst { look.cpu = try parts.cpuSeconds() }
        return look
    }

    private func rows() throws(BenchError) -> UInt64 {
        do throws(Failure) { return try survey.messageRows() } catch {
            throw BenchError("the rows cannot be counted: \(error.message)")
        }
    }

    private func commits() throws(BenchError) -> UInt64 {
        do throws(Failure) {
            var sum: UInt64 = 0
            for shard in 0..<survey.shards { sum += try survey.holdings(of: shard).reduce(0) { $0 + $1.commits } }
            return sum
        } catch { throw BenchError("the commits cannot be counted: \(error.message)") }
    }
}

/// What `martlet bench storage` found; the property names, in snake case, are the JSON's.
struct StorageReport: BenchReport, Encodable {
    var bench = "storage"
    var pairs: Int
    var bytes: Int
    var depth: Int
    var seconds: Int
    /// Rows that came into MariaDB in the measured span.
    var stored: Int
    var storedPerS: Double
    /// Rows of one bucket that one commit stored, on average in the span; 0 when a claim was made meanwhile, by which
    /// the number that is counted by jumps further than there are rows.
    var rowsPerCommit: Double
    /// In the span, by part: each service, whatever was named, the generator.
    var cpuSPerMillion: [String: Double]
    /// Of all parts but the generator.
    var allCpuSPerMillion: Double
    /// Acknowledged in the whole run, and rows that came of it: the same number.
    var acked: Int
    var rows: Int
    /// From the end of the load until the last row was there.
    var settledS: Double
    /// Sends repeated because the server asked for it: no errors.
    var resent: Int
    var errors: Int
    var errorCounts: [String: Int]

    init(
        _ plan: ChatPlan, stored: UInt64, micros: UInt64, commits: UInt64, cpu: [String: Double], acked: Int,
        rows: UInt64, settledMicros: UInt64, resent: Int, lost: [String: Int]
    ) {
        pairs = plan.pairs
        bytes = plan.bytes
        depth = plan.depth
        seconds = plan.seconds
        self.stored = Int(stored)
        storedPerS = rounded(Double(stored) * 1_000_000 / Double(micros))
        rowsPerCommit = commits <= stored ? rounded(Double(stored) / Double(commits)) : 0
        cpuSPerMillion = cpu.mapValues { rounded($0 * 1_000_000 / Double(stored)) }
        // In a fixed order: sums of fractions depend on it.
        let all = cpu.sorted { $0.key < $1.key }.filter { $0.key != PartProcesses.generator }
        allCpuSPerMillion = rounded(all.reduce(0) { $0 + $1.value } * 1_000_000 / Double(stored))
        self.acked = acked
        self.rows = Int(rows)
        settledS = rounded(Double(settledMicros) / 1_000_000)
        self.resent = resent
        var counts = lost
        if rows != UInt64(acked) { counts["rows_not_as_acked"] = abs(Int(rows) - acked) }
        errorCounts = counts
        errors = counts.values.reduce(0, +)
    }

    var words: String {
        let apart = cpuSPerMillion.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        return """
            \(Int(storedPerS)) messages/s stored, \(rowsPerCommit) rows a commit
            \(allCpuSPerMillion) CPU s per million without the generator: \(apart)
            acknowledged \(acked), rows \(rows), the last \(settledS) s after the load
            errors: \(errors)\(errorCounts.isEmpty ? "" : " \(errorCounts)"); sent again: \(resent)
            """
    }
}
