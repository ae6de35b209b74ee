import Foundation

/// How the neighbours are measured.
struct NeighbourPlan {
    /// Messages a second.
    var rate: Int
    var turns: Int
    /// Each of the two halves of a turn.
    var seconds: Int
    /// Hostile connections that never speak.
    var silent: Int
    /// Median ratio that is still good; nil: any.
    var limit: Double?
}

/// The neighbour bench: one fleet at one rate, in turn alone and beside a hostile process.
final class NeighbourRun {
    private let plan: NeighbourPlan
    private let chatPlan: ChatPlan
    private let options: BenchOptions
    private let chat: ChatRun

    init(_ plan: NeighbourPlan, _ chatPlan: ChatPlan, options: BenchOptions) throws(BenchError) {
        self.plan = plan
        self.chatPlan = chatPlan
        self.options = options
        chat = try ChatRun(
            chatPlan, MartletChat(bytes: chatPlan.bytes, accessPath: options.access), server: options.server,
            pids: options.pid)
    }

    func run() throws -> NeighbourReport {
        try chat.open()
        defer { chat.fleet.close() }
        var turns: [NeighbourReport.Turn] = []
        var hostile: [HostileReport] = []
        for turn in 1...plan.turns {
            let alone = try measure()
            let attack = try HostileProcess(plan, options: options, seed: UInt64(turn))
            let beside = Result { () throws(BenchError) in try measure() }
            // Whatever became of the measuring, the hostile process ends.
            hostile.append(try attack.stop())
            turns.append(NeighbourReport.Turn(quiet: alone, hostile: try beside.get()))
            Progress.line(
                "turn \(turn): p99 \(turns[turn - 1].quietP99Ms) ms alone, "
                    + "\(turns[turn - 1].hostileP99Ms) ms beside \(hostile[turn - 1].words)")
        }
        return NeighbourReport(
            chatPlan, plan, turns: turns, hostile: HostileReport(sumOf: hostile), lost: chat.errors)
    }

    private func measure() throws(BenchError) -> Histogram {
        let latency = chat.openLoop(perSecond: Double(plan.rate), seconds: plan.seconds).latency
        guard latency.count > 0 else { throw BenchError("no message arrived within \(plan.seconds) s") }
        return latency
    }
}

/// `martlet bench hostile` as a child, which ends when its standard input does.
final class HostileProcess {
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    init(_ plan: NeighbourPlan, options: BenchOptions, seed: UInt64) throws(BenchError) {
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe")
        process.arguments = [
            "bench", "hostile", "--json", "--server", options.server, "--access", options.access, "--seed", "\(seed)",
            "--silent", "\(plan.silent)",
            // It is stopped long before; should this process hang, it does not go on for ever.
            "--seconds", "\(plan.seconds + 60)",
        ]
        process.standardInput = input
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        do {
            try process.run()
        } catch {
            throw BenchError("cannot start the hostile process: \(error)")
        }
    }

    /// Ends it and returns what it did.
    func stop() throws(BenchError) -> HostileReport {
        try? input.fileHandleForWriting.close()
        let text = (try? output.fileHandleForReading.readToEnd()) ?? Data()
        process.waitUntilExit()
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        guard process.terminationStatus == 0, let report = try? decoder.decode(HostileReport.self, from: text) else {
            throw BenchError("the hostile process failed with status \(process.terminationStatus)")
        }
        return report
    }
}
