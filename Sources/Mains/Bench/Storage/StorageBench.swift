import ArgumentParser
import Foundation
import MartletSuite
import MySQLStore
import Runtime

/// `martlet bench storage`
struct StorageBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "storage", abstract: "Sustained stored messages a second, and the CPU of every part.",
        discussion: """
            The first phase of `martlet bench chat` against a suite whose messages are in MariaDB (--recent): rows that
            are there as the measured seconds begin and end are counted, not acknowledgements. CPU is told apart for
            every service of --pids and every --part. Afterwards the rows have to become as many as messages were
            acknowledged; more or fewer is an error. Nobody else may write meanwhile. Tests/Benchmarks/storage.py
            starts the servers and runs it with 1, 2 and 4 MsgWriters. Exit code 0: measured; 1: measured, with
            errors; 2: could not start.
            """)

    @Option(help: "Pairs of users, 1 to 9500.")
    var pairs = 1000
    @Option(help: "Bytes of a message's text, 1 to 32768.")
    var bytes = 100
    @Option(help: "Seconds that are measured, after two that are not.")
    var seconds = 10
    @Option(help: "Messages of one pair under way, 1 to 64.")
    var depth = 8
    @Option(help: "pids.json of the data folder: CPU is told for each service.")
    var pids: String?
    @Option(help: ArgumentHelp("One more process, for example mariadb=4711; may be repeated.", valueName: "name=pid"))
    var part: [NamedProcess] = []
    @OptionGroup var backends: BackendOptions
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...9500).contains(pairs) else { throw ValidationError("--pairs must be between 1 and 9500") }
        guard (1...32_768).contains(bytes) else { throw ValidationError("--bytes must be between 1 and 32768") }
        guard (1...3600).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 3600") }
        guard (1...64).contains(depth) else { throw ValidationError("--depth must be between 1 and 64") }
    }

    func run() async throws {
        try options.tell {
            let config: MySQLConfig
            do {
                guard let recent = try backends.settings().mysql.recent else {
                    throw BenchError("--recent says where the rows are counted")
                }
                config = try recent.config()
            } catch let error as StartError { throw BenchError("\(error)") }
            let plan = ChatPlan(pairs: pairs, bytes: bytes, seconds: seconds, depth: depth)
            let parts = try PartProcesses.read(pidsFile: pids, named: part, others: options.pid)
            return try StorageRun(plan, config: config, parts: parts, options: options).run()
        }
    }
}

/// A process under a name: `mariadb=4711`.
struct NamedProcess: ExpressibleByArgument, Equatable {
    let name: String
    let pid: Int32

    /// Nil: not of that form.
    init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, let pid = Int32(parts[1]), pid > 0 else { return nil }
        name = String(parts[0])
        self.pid = pid
    }
}

/// Processes in groups whose CPU is told apart.
struct PartProcesses {
    /// Sorted by name; a pid stands in one group.
    let groups: [(name: String, processes: ServerProcesses)]

    init(_ pids: [String: [Int32]]) {
        groups = pids.sorted { $0.key < $1.key }.map { ($0.key, ServerProcesses(pids: $0.value)) }
    }

    /// - Parameters:
    ///   - pidsFile: the supervisor's {"service": [pid, ...]}.
    ///   - others: pids that no name was given for.
    static func read(pidsFile: String?, named: [NamedProcess], others: [Int32]) throws(BenchError) -> PartProcesses {
        var pids: [String: [Int32]] = [:]
        if let pidsFile {
            guard let data = FileManager.default.contents(atPath: pidsFile),
                let read = try? JSONDecoder().decode([String: [Int32]].self, from: data)
            else { throw BenchError("\(pidsFile) is no pids.json of `martlet up --processes`") }
            pids = read
        }
        for process in named { pids[process.name, default: []].append(process.pid) }
        if !others.isEmpty { pids["others", default: []] += others }
        return PartProcesses(pids)
    }

    /// CPU seconds of each group so far, the generator's own included.
    func cpuSeconds() throws(BenchError) -> [String: Double] {
        var seconds: [String: Double] = [:]
        for (name, processes) in groups { seconds[name] = try processes.cpuSeconds() ?? 0 }
        seconds[Self.generator] = try ServerProcesses.ownCPUSeconds()
        return seconds
    }

    static let generator = "generator"
}
