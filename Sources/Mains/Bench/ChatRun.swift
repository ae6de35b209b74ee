import Wire

/// The chat bench: two phases over one fleet of pairs.
final class ChatRun: FleetUser {
    /// Before each phase is measured: caches fill, the server's queues reach their steady length.
    static let warmupMicros: UInt64 = 2_000_000
    /// How long unfinished messages are waited for after a phase.
    static let drainMicros: UInt64 = 15_000_000
    /// Wait before something is sent again, when the server names none.
    static let resendMicros: UInt64 = 100_000

    private enum Mode { case stopped, closed, paced }

    private let pairCount: Int
    private let bytes: Int
    private let seconds: Int
    private let depth: Int
    private let options: BenchOptions
    /// Told apart from what earlier runs left in the same conversations.
    private let runNumber = UInt64.random(in: 0..<1 << 42)
    private var fleet: Fleet
    private var pairs: [Pair] = []
    private var mode = Mode.stopped
    private var resending: [Pair] = []
    private var finished = 0
    private var resent = 0
    private var latency = Histogram()
    private var ackLatency = Histogram()
    /// Messages that started in this span are recorded.
    private var recordFrom = UInt64.max
    private var recordTo = UInt64.max
    private(set) var errors: [String: Int] = [:]

    init(pairs: Int, bytes: Int, seconds: Int, depth: Int, options: BenchOptions) throws(BenchError) {
        pairCount = pairs
        self.bytes = bytes
        self.seconds = seconds
        self.depth = depth
        self.options = options
        guard let (host, port) = BenchOptions.address(options.server) else {
            throw BenchError("--server must be HOST:PORT")
        }
        let users = (0..<pairs).flatMap { ["bench-a\($0)", "bench-b\($0)"] }
        let tokens = try Access.load(options.access).tokens(for: users)
        fleet = try Fleet(
            address: ServerAddress(host: host, port: port), users: users, tokens: tokens, webSocket: false)
        for pair in 0..<pairs {
            let sender = fleet.links[2 * pair]
            let receiver = fleet.links[2 * pair + 1]
            let template = try SendTemplate(
                conversation: "p:\(sender.user)|\(receiver.user)", contentBytes: bytes)
            self.pairs.append(Pair(sender: sender, receiver: receiver, template: template))
        }
        fleet.user = self
    }

    func run() throws -> ChatReport {
        let processes = ServerProcesses(pids: options.pid)
        // Found out now, not after the load.
        _ = try processes.cpuSeconds()
        Progress.line("logging in \(2 * pairCount) users at \(fleet.address.text) ...")
        try fleet.open()
        defer { fleet.close() }
        Progress.line("as fast as it goes: \(pairCount) pairs, \(depth) messages each, \(seconds) s ...")
        let full = try closedLoop(processes)
        guard full.messages > 0 else { throw BenchError("no message arrived within \(seconds) s: \(errorWords)") }
        let rate = full.perSecond / 2
        Progress.line(
            "\(Int(full.perSecond)) messages/s; now \(Int(rate)) messages/s on a fixed schedule, \(seconds) s ...")
        let paced = openLoop(perSecond: rate)
        return ChatReport(
            pairs: pairCount, bytes: bytes, depth: depth, seconds: seconds, messages: full.messages,
            messagesPerS: rounded(full.perSecond), pacedPerS: rounded(rate), pacedMessages: paced,
            latencyMs: Percentiles(latency), ackLatencyMs: Percentiles(ackLatency),
            serverCpuSPerMillion: full.serverCPU.map { rounded($0 * 1_000_000 / Double(full.messages)) },
            generatorCpuSPerMillion: rounded(full.ownCPU * 1_000_000 / Double(full.messages)), resent: resent,
            errors: errors.values.reduce(0, +), errorCounts: errors)
    }

    // MARK: - Phases

    private struct Full {
        var messages: Int
        var perSecond: Double
        var serverCPU: Double?
        var ownCPU: Double
    }

    /// Every pair has `depth` messages under way at all times.
    private func closedLoop(_ processes: ServerProcesses) throws -> Full {
        mode = .closed
        for pair in pairs { fill(pair) }
        turns(until: fleet.now + Self.warmupMicros)
        let start = Monotonic.micros()
        let finishedBefore = finished
        let serverBefore = try processes.cpuSeconds()
        let ownBefore = try ServerProcesses.ownCPUSeconds()
        turns(until: start + UInt64(seconds) * 1_000_000)
        let elapsed = Double(Monotonic.micros() - start) / 1_000_000
        let messages = finished - finishedBefore
        let serverAfter = try processes.cpuSeconds()
        let ownAfter = try ServerProcesses.ownCPUSeconds()
        drain()
        return Full(
            messages: messages, perSecond: Double(messages) / elapsed,
            serverCPU: serverBefore.flatMap { before in serverAfter.map { $0 - before } }, ownCPU: ownAfter - ownBefore)
    }

    /// Messages start on a schedule that does not wait for the server; what the server is late with counts as latency.
    ///
    /// - Returns: messages recorded.
    private func openLoop(perSecond: Double) -> Int {
        mode = .paced
        // The drain's last turn may be a while ago, and nothing is due before now.
        fleet.turn(until: fleet.now)
        var pacer = Pacer(startMicros: fleet.now, perSecond: perSecond)
        recordFrom = pacer.startMicros + Self.warmupMicros
        recordTo = recordFrom + UInt64(seconds) * 1_000_000
        while fleet.now < recordTo {
            while let due = pacer.next(now: min(fleet.now, recordTo)) {
                let pair = pairs[Int(due.number % UInt64(pairCount))]
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
        return Int(latency.count)
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
        while pair.open < depth, pair.hasRoom { send(pair, startMicros: fleet.now) }
    }

    private func send(_ pair: Pair, startMicros: UInt64) {
        let number = pair.next
        let tag = MessageTag(timeMS: fleet.serverTimeMS, run: runNumber, number: number)
        _ = pair.start(Flight(startMicros: startMicros, tag: tag, ended: false))
        write(pair, number, tag)
    }

    private func write(_ pair: Pair, _ number: UInt32, _ tag: MessageTag) {
        pair.unanswered += 1
        pair.template.append(requestID: number, turn: pair.turn, tag: tag, to: &pair.sender.out)
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
                write(pair, number, pair[number].tag)
            }
            goOn(pair)
            return true
        }
    }

    // MARK: - Receiving

    func received(_ type: FrameType, _ frame: UnsafeRawBufferPointer, on link: Link) {
        switch type {
        case .push, .seqNotice:
            let arrival = fleet.acks.arrived(FrameScan.number(frame), on: link, now: fleet.now)
            if arrival == .fresh, type == .push { pushed(frame, pairs[link.index / 2], link) }
            if arrival == .gap { count("push_id_gap") }
            if fleet.acks.full(link) {
                link.appendPushAck()
                fleet.touch(link)
            }
        case .response: answered(frame, pairs[link.index / 2])
        case .failure: failed(frame, pairs[link.index / 2])
        case .syncNeeded: count("sync_needed")
        default: break
        }
    }

    private func pushed(_ frame: UnsafeRawBufferPointer, _ pair: Pair, _ link: Link) {
        guard let id = FrameScan.messageID(push: frame) else { return count("unreadable_push") }
        guard link === pair.receiver, let number = MessageTag.number(frame, at: id.lowerBound, run: runNumber),
            pair.isOpen(number)
        else { return }
        guard !pair[number].received else { return count("received_twice") }
        pair[number].received = true
        let start = pair[number].startMicros
        if start >= recordFrom, start < recordTo { latency.record(fleet.now - min(start, fleet.now)) }
        finish(pair, number)
    }

    private func answered(_ frame: UnsafeRawBufferPointer, _ pair: Pair) {
        let number = FrameScan.number(frame)
        pair.unanswered = max(0, pair.unanswered - 1)
        guard pair.isOpen(number) else { return }
        guard FrameScan.accepted(response: frame) else {
            let response = try? SendResponse(serializedBytes: Array(frame.dropFirst(5)))
            return settle(pair, number, response?.results.first?.failure ?? Failure())
        }
        pair[number].ack = .accepted
        let start = pair[number].startMicros
        if start >= recordFrom, start < recordTo { ackLatency.record(fleet.now - min(start, fleet.now)) }
        finish(pair, number)
    }

    private func failed(_ frame: UnsafeRawBufferPointer, _ pair: Pair) {
        let number = FrameScan.number(frame)
        pair.unanswered = max(0, pair.unanswered - 1)
        guard pair.isOpen(number) else { return }
        settle(pair, number, (try? Failure(serializedBytes: Array(frame.dropFirst(5)))) ?? Failure())
    }

    /// A send that was not accepted: again when that may help, else an error.
    private func settle(_ pair: Pair, _ number: UInt32, _ failure: Failure) {
        guard failure.retryable else {
            count(failure.reason.isEmpty ? "refused" : failure.reason)
            pair.end(number)
            return goOn(pair)
        }
        pair[number].ack = .retry
        if !pair.broken {
            pair.broken = true
            resending.append(pair)
        }
        let wait = failure.retryAfterMs > 0 ? UInt64(failure.retryAfterMs) * 1000 : Self.resendMicros
        // What is only behind the broken one has nothing to wait for by itself.
        if !failure.isCode(.resendInOrder) || pair.resendAtMicros == 0 {
            pair.resendAtMicros = max(pair.resendAtMicros, fleet.now + wait)
        }
    }

    private func finish(_ pair: Pair, _ number: UInt32) {
        guard pair[number].received, pair[number].ack == .accepted else { return }
        pair.end(number)
        finished += 1
        goOn(pair)
    }

    func ended(_ link: Link, why: String) {
        count("connection_lost")
        if errors["connection_lost"] == 1 { Progress.line("\(link.user) lost its connection: \(why)") }
        pairs[link.index / 2].dead = true
    }

    private func count(_ name: String, _ times: Int = 1) { errors[name, default: 0] += times }

    private var errorWords: String {
        errors.isEmpty
            ? "no answer either"
            : errors.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
                .joined(separator: ", ")
    }
}
