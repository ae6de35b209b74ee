/// How much a chat bench does.
struct ChatPlan {
    var pairs: Int
    /// Of a message's text.
    var bytes: Int
    /// Each phase.
    var seconds: Int
    /// Messages of one pair under way in the first phase.
    var depth: Int
}

/// The chat bench: two phases over one fleet of pairs, whatever protocol they speak.
final class ChatRun: FleetUser {
    /// Before each phase is measured: caches fill, the server's queues reach their steady length.
    static let warmupMicros: UInt64 = 2_000_000
    /// How long unfinished messages are waited for after a phase.
    static let drainMicros: UInt64 = 15_000_000
    /// Wait before something is sent again, when the server names none.
    static let resendMicros: UInt64 = 100_000

    private enum Mode { case stopped, closed, paced }

    private let plan: ChatPlan
    private let processes: ServerProcesses
    private let traffic: any ChatTraffic
    let fleet: Fleet
    private(set) var pairs: [Pair] = []
    private var mode = Mode.stopped
    private var resending: [Pair] = []
    private var finished = 0
    private(set) var resent = 0
    /// Messages that the server has said to have, each once.
    private(set) var accepted = 0
    private var latency = Histogram()
    private var ackLatency = Histogram()
    /// Messages that started in this span are recorded.
    private var recordFrom = UInt64.max
    private var recordTo = UInt64.max
    private(set) var errors: [String: Int] = [:]

    init(_ plan: ChatPlan, _ traffic: any ChatTraffic, server: String, pids: [Int32]) throws(BenchError) {
        self.plan = plan
        self.traffic = traffic
        processes = ServerProcesses(pids: pids)
        guard let (host, port) = BenchOptions.address(server) else { throw BenchError("--server must be HOST:PORT") }
        let users = (0..<plan.pairs).flatMap { ["bench-a\($0)", "bench-b\($0)"] }
        fleet = try Fleet(
            address: ServerAddress(host: host, port: port), users: users, tokens: try traffic.tokens(for: users),
            webSocket: false, dialect: traffic.dialect)
        pairs = (0..<plan.pairs).map { Pair(sender: fleet.links[2 * $0], receiver: fleet.links[2 * $0 + 1]) }
        try traffic.prepare(pairs)
        fleet.user = self
        traffic.run = self
    }

    func run() throws -> ChatReport {
        try open()
        defer { fleet.close() }
        Progress.line("as fast as it goes: \(plan.pairs) pairs, \(plan.depth) messages each, \(plan.seconds) s ...")
        let full = try closedLoop()
        guard full.messages > 0 else { throw BenchError("no message arrived within \(plan.seconds) s: \(errorWords)") }
        let rate = full.perSecond / 2
        Progress.line(
            "\(Int(full.perSecond)) messages/s; now \(Int(rate)) messages/s on a fixed schedule, \(plan.seconds) s ...")
        let paced = openLoop(perSecond: rate, seconds: plan.seconds)
        return ChatReport(
            protocol: traffic.name, pairs: plan.pairs, bytes: plan.bytes, depth: plan.depth, seconds: plan.seconds,
            messages: full.messages, messagesPerS: rounded(full.perSecond), pacedPerS: rounded(rate),
            pacedMessages: Int(paced.latency.count), latencyMs: Percentiles(paced.latency),
            ackLatencyMs: Percentiles(paced.ackLatency),
            serverCpuSPerMillion: full.serverCPU.map { rounded($0 * 1_000_000 / Double(full.messages)) },
            generatorCpuSPerMillion: rounded(full.ownCPU * 1_000_000 / Double(full.messages)), resent: resent,
            errors: errorCount, errorCounts: errors)
    }

    /// Logs everybody in.
    func open() throws {
        // Found out now, not after the load.
        _ = try processes.cpuSeconds()
        Progress.line("logging in \(fleet.links.count) users at \(fleet.address.text) ...")
        try fleet.open()
    }

    var errorCount: Int { errors.values.reduce(0, +) }

    // MARK: - Phases

    private struct Full {
        var messages: Int
        var perSecond: Double
        var serverCPU: Double?
        var ownCPU: Double
    }

    /// Every pair has `depth` messages under way at all times.
    private func closedLoop() throws -> Full {
        var finishedBefore = 0
        var serverCPU: (before: Double?, after: Double?)
        var ownCPU = (before: 0.0, after: 0.0)
        var span = (start: UInt64(0), end: UInt64(0))
        var messages = 0
        try flood(
            begin: {
                span.start = Monotonic.micros()
                finishedBefore = finished
                serverCPU.before = try processes.cpuSeconds()
                ownCPU.before = try ServerProcesses.ownCPUSeconds()
            },
            end: {
                span.end = Monotonic.micros()
                messages = finished - finishedBefore
                serverCPU.after = try processes.cpuSeconds()
                ownCPU.after = try ServerProcesses.ownCPUSeconds()
            })
        let elapsed = Double(span.end - span.start) / 1_000_000
        return Full(
            messages: messages, perSecond: Double(messages) / elapsed,
            serverCPU: serverCPU.before.flatMap { before in serverCPU.after.map { $0 - before } },
            ownCPU: ownCPU.after - ownCPU.before)
    }

    /// As fast as the server takes them, for the plan's seconds after the warm-up; then waits for what is under way.
    ///
    /// - Parameters:
    ///   - begin, end: look at the world as the measured span begins and ends; what they take is not sent in.
    func flood(begin: () throws -> Void, end: () throws -> Void) throws {
        mode = .closed
        for pair in pairs { fill(pair) }
        turns(until: fleet.now + Self.warmupMicros)
        let start = Monotonic.micros()
        try begin()
        turns(until: start + UInt64(plan.seconds) * 1_000_000)
        try end()
        drain()
    }

    /// Messages start on a schedule that does not wait for the server; what the server is late with counts as latency.
    ///
    /// - Returns: how long what was due after the warm-up took, until it was received and until it was acknowledged.
    func openLoop(perSecond: Double, seconds: Int) -> (latency: Histogram, ackLatency: Histogram) {
        mode = .paced
        latency = Histogram()
        ackLatency = Histogram()
        // The drain's last turn may be a while ago, and nothing is due before now.
        fleet.turn(until: fleet.now)
        var pacer = Pacer(startMicros: fleet.now, perSecond: perSecond)
        recordFrom = pacer.startMicros + Self.warmupMicros
        recordTo = recordFrom + UInt64(seconds) * 1_000_000
        while fleet.now < recordTo {
            while let due = pacer.next(now: min(fleet.now, recordTo)) {
                let pair = pairs[Int(due.number % UInt64(plan.pairs))]
                if pair.hasRoom, pair.backlog.isEmpty {
                    send(pair, startMicros: due.dueMicros)
                } else if !pair.dead {
                    pair.backlog.append(due.dueMicros)
                }
            }
            fleet.turn(until: pacer.dueMicros(pacer.issued))
            resend()
        }
        drain()
        return (latency, ackLatency)
    }

    private func turns(until end: UInt64) {
        while fleet.now < end {
            fleet.turn(until: min(end, fleet.now + 20_000))
            resend()
        }
    }

    /// Starts nothing new and waits for what is under way; what does not finish is an error.
    private func drain() {
        if mode == .closed { mode = .stopped }
        let end = fleet.now + Self.drainMicros
        while fleet.now < end, pairs.contains(where: { !$0.dead && ($0.open > 0 || !$0.backlog.isEmpty) }) {
            fleet.turn(until: fleet.now + 20_000)
            resend()
        }
        mode = .stopped
        for pair in pairs {
            if !pair.backlog.isEmpty { count("not_sent", pair.backlog.count) }
            pair.backlog = []
            for number in pair.base..<pair.next where pair.isOpen(number) {
                count(pair[number].ack == .accepted ? "not_received" : "not_acknowledged")
            }
            for number in pair.base..<pair.next where pair.isOpen(number) { pair.end(number) }
        }
    }

    // MARK: - Sending

    private func fill(_ pair: Pair) {
        while pair.open < plan.depth, pair.hasRoom { send(pair, startMicros: fleet.now) }
    }

    private func send(_ pair: Pair, startMicros: UInt64) {
        let timeMS = traffic.timeMS(now: fleet.now)
        let number = pair.start(Flight(startMicros: startMicros, timeMS: timeMS, ended: false))
        write(pair, number)
    }

    private func write(_ pair: Pair, _ number: UInt32) {
        traffic.write(number, of: pair)
        fleet.touch(pair.sender)
    }

    /// What the mode starts when a pair has room again.
    private func goOn(_ pair: Pair) {
        switch mode {
        case .closed: fill(pair)
        case .paced:
            var sent = 0
            while sent < pair.backlog.count, pair.hasRoom {
                send(pair, startMicros: pair.backlog[sent])
                sent += 1
            }
            if sent > 0 { pair.backlog.removeFirst(sent) }
        case .stopped: break
        }
    }

    /// Sends again, in order and with the next turn, where the wait is over and every answer of the last turn is here.
    private func resend() {
        guard !resending.isEmpty else { return }
        resending.removeAll { pair in
            guard !pair.dead else { return true }
            guard pair.unanswered == 0, pair.resendAtMicros <= fleet.now else { return false }
            guard pair.turn < UInt16.max else {
                count("turns_used_up")
                pair.dead = true
                return true
            }
            pair.turn += 1
            pair.broken = false
            for number in pair.base..<pair.next where pair.isOpen(number) && pair[number].ack == .retry {
                pair[number].ack = .waiting
                resent += 1
                write(pair, number)
            }
            goOn(pair)
            return true
        }
    }

    // MARK: - What the traffic tells

    /// The receiver has it.
    func received(_ number: UInt32, of pair: Pair) {
        guard pair.isOpen(number) else { return }
        guard !pair[number].received else { return count("received_twice") }
        pair[number].received = true
        let start = pair[number].startMicros
        if start >= recordFrom, start < recordTo { latency.record(fleet.now - min(start, fleet.now)) }
        finish(pair, number)
    }

    /// The server has taken it, whatever that means in the protocol.
    func acknowledged(_ number: UInt32, of pair: Pair) {
        guard pair.isOpen(number), pair[number].ack != .accepted else { return }
        pair[number].ack = .accepted
        accepted += 1
        let start = pair[number].startMicros
        if start >= recordFrom, start < recordTo { ackLatency.record(fleet.now - min(start, fleet.now)) }
        finish(pair, number)
    }

    /// The server will not take it.
    func refused(_ number: UInt32, of pair: Pair, why: String) {
        guard pair.isOpen(number) else { return }
        count(why)
        pair.end(number)
        goOn(pair)
    }

    /// The server asks for it again.
    ///
    /// - Parameter afterMicros: how long to wait; nil: the server does not say.
    /// - Parameter behindAnother: it was not taken only because of one before it.
    func sendAgain(_ number: UInt32, of pair: Pair, afterMicros: UInt64?, behindAnother: Bool) {
        pair[number].ack = .retry
        if !pair.broken {
            pair.broken = true
            resending.append(pair)
        }
        if !behindAnother || pair.resendAtMicros == 0 {
            pair.resendAtMicros = max(pair.resendAtMicros, fleet.now + (afterMicros ?? Self.resendMicros))
        }
    }

    func ended(_ link: Link, why: String) {
        count("connection_lost")
        if errors["connection_lost"] == 1 { Progress.line("\(link.user) lost its connection: \(why)") }
        pairs[link.index / 2].dead = true
    }

    func count(_ name: String, _ times: Int = 1) { errors[name, default: 0] += times }

    private func finish(_ pair: Pair, _ number: UInt32) {
        guard pair[number].received, pair[number].ack == .accepted else { return }
        pair.end(number)
        finished += 1
        goOn(pair)
    }

    private var errorWords: String {
        errors.isEmpty
            ? "no answer either"
            : errors.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
                .joined(separator: ", ")
    }
}
