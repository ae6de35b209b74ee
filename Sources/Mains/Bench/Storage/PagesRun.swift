import Wire

/// The pages bench: readers over one fleet, each with a conversation of its own.
final class PagesRun: FleetUser, FrameUser {
    /// Before each phase is measured.
    static let warmupMicros: UInt64 = 1_000_000
    /// How long the answers to the last questions are waited for.
    static let drainMicros: UInt64 = 10_000_000
    /// The service that answers history, and its method.
    private static let service: (svid: UInt16, method: UInt16) = (6, 1)
    /// A session may have 64 requests under way.
    private static let mostUnderWay = 60

    private final class Reader {
        let conversation: String
        let link: Link
        /// The newest row when the bench began; nobody writes meanwhile.
        var head: UInt64 = 0
        /// When each question was due, by its number.
        var asked: [UInt32: UInt64] = [:]
        var next: UInt32 = 1
        var backlog: [UInt64] = []

        init(conversation: String, link: Link) {
            self.conversation = conversation
            self.link = link
        }
    }

    private let plan: PagesPlan
    private let processes: ServerProcesses
    private let dialect = MartletDialect()
    private let fleet: Fleet
    private var readers: [Reader] = []
    /// The first phase: every answer is followed by the next question.
    private var goesOn = false
    private var isLooking = true
    private var answered = 0
    private var asked = 0
    private var latency = Histogram()
    private var recordFrom = UInt64.max
    private var recordTo = UInt64.max
    private var errors: [String: Int] = [:]

    init(_ plan: PagesPlan, options: BenchOptions) throws(BenchError) {
        self.plan = plan
        processes = ServerProcesses(pids: options.pid)
        guard let (host, port) = BenchOptions.address(options.server) else {
            throw BenchError("--server must be HOST:PORT")
        }
        let users = (0..<plan.pairs).map { "bench-a\($0)" }
        fleet = try Fleet(
            address: ServerAddress(host: host, port: port), users: users,
            tokens: try Access.load(options.access).tokens(for: users), webSocket: false, dialect: dialect)
        readers = fleet.links.map { Reader(conversation: "p:bench-a\($0.index)|bench-b\($0.index)", link: $0) }
        fleet.user = self
        dialect.user = self
    }

    func run() throws -> PagesReport {
        _ = try processes.cpuSeconds()
        Progress.line("logging in \(plan.pairs) users at \(fleet.address.text) ...")
        try fleet.open()
        defer { fleet.close() }
        try findHeads()
        Progress.line("pages as fast as they come, \(plan.seconds) s ...")
        let (pages, micros, cpu) = try closedLoop()
        guard pages > 0 else { throw BenchError("no page came within \(plan.seconds) s: \(errors)") }
        let perSecond = Double(pages) * 1_000_000 / Double(micros)
        Progress.line("\(Int(perSecond)) pages/s; now \(Int(perSecond / 2)) a second on a schedule ...")
        openLoop(perSecond: perSecond / 2)
        return PagesReport(
            pairs: plan.pairs, rows: plan.rows, skip: plan.skip, pages: pages, pagesPerS: rounded(perSecond),
            serverCpuSPerMillion: cpu.map { rounded($0 * 1_000_000 / Double(pages)) },
            pacedPerS: rounded(perSecond / 2), pacedPages: Int(latency.count), latencyMs: Percentiles(latency),
            asked: asked, errors: errors.values.reduce(0, +), errorCounts: errors)
    }

    /// Where the conversations end; each has to be long enough.
    private func findHeads() throws(BenchError) {
        isLooking = true
        for reader in readers { ask(reader, rows: 1, below: 0, due: fleet.now) }
        drain()
        isLooking = false
        let wanted = UInt64(plan.rows + plan.skip)
        if let short = readers.first(where: { $0.head < wanted }) {
            throw BenchError(
                "\(short.conversation) has \(short.head) rows and \(wanted) are needed: run `martlet bench storage` "
                    + "with --pairs \(plan.pairs) first, for longer \(errors.isEmpty ? "" : "\(errors)")")
        }
    }

    // MARK: - Phases

    private func closedLoop() throws -> (pages: Int, micros: UInt64, cpu: Double?) {
        goesOn = true
        for reader in readers { for _ in 0..<plan.depth { ask(reader, due: fleet.now) } }
        turns(until: fleet.now + Self.warmupMicros)
        let (start, before) = (Monotonic.micros(), answered)
        let cpuBefore = try processes.cpuSeconds()
        turns(until: start + UInt64(plan.seconds) * 1_000_000)
        let (end, pages) = (Monotonic.micros(), answered - before)
        let cpuAfter = try processes.cpuSeconds()
        goesOn = false
        drain()
        return (pages, end - start, cpuBefore.flatMap { before in cpuAfter.map { $0 - before } })
    }

    private func openLoop(perSecond: Double) {
        fleet.turn(until: fleet.now)
        var pacer = Pacer(startMicros: fleet.now, perSecond: perSecond)
        recordFrom = pacer.startMicros + Self.warmupMicros
        recordTo = recordFrom + UInt64(plan.seconds) * 1_000_000
        while fleet.now < recordTo {
            while let due = pacer.next(now: min(fleet.now, recordTo)) {
                let reader = readers[Int(due.number % UInt64(readers.count))]
                if reader.asked.count < Self.mostUnderWay, reader.backlog.isEmpty {
                    ask(reader, due: due.dueMicros)
                } else {
                    reader.backlog.append(due.dueMicros)
                }
            }
            fleet.turn(until: pacer.dueMicros(pacer.issued))
        }
        drain()
    }

    private func turns(until end: UInt64) {
        while fleet.now < end { fleet.turn(until: min(end, fleet.now + 20_000)) }
    }

    private func drain() {
        let end = fleet.now + Self.drainMicros
        while fleet.now < end, readers.contains(where: { !$0.asked.isEmpty || !$0.backlog.isEmpty }) {
            fleet.turn(until: fleet.now + 20_000)
        }
        for reader in readers {
            let missing = reader.asked.count + reader.backlog.count
            if missing > 0 { count("not_answered", missing) }
            reader.asked = [:]
            reader.backlog = []
        }
    }

    // MARK: - Questions and answers

    private func ask(_ reader: Reader, due: UInt64) {
        let below = plan.skip == 0 ? 0 : reader.head + 1 - UInt64(plan.skip)
        ask(reader, rows: plan.rows, below: below, due: due)
    }

    private func ask(_ reader: Reader, rows: Int, below: UInt64, due: UInt64) {
        guard reader.link.stage == .ready else { return }
        var query = HistoryQuery()
        query.conversation = reader.conversation
        query.limit = UInt32(rows)
        query.beforeSeq = below
        var request = HistoryRequest()
        request.queries = [query]
        let header = Frame.RequestHeader(
            svid: Self.service.svid, method: Self.service.method, requestID: reader.next)
        reader.link.append(.request(header, request.buffer))
        reader.asked[reader.next] = due
        reader.next += 1
        if !isLooking { asked += 1 }
        fleet.touch(reader.link)
    }

    func received(_ type: FrameType, _ frame: UnsafeRawBufferPointer, on link: Link, of fleet: Fleet) {
        let reader = readers[link.index]
        switch type {
        case .push, .seqNotice: _ = dialect.arrived(frame, on: link, of: fleet)
        case .response:
            guard let due = reader.asked.removeValue(forKey: FrameScan.number(frame)) else { return }
            let page = (try? HistoryResponse(serializedBytes: Array(frame.dropFirst(5))))?.pages.first
            if isLooking {
                reader.head = page?.headSeq ?? 0
            } else if let wrong = wrong(page, reader) {
                count(wrong)
            } else {
                answered += 1
                if due >= recordFrom, due < recordTo { latency.record(fleet.now - min(due, fleet.now)) }
            }
            goOn(reader)
        case .failure:
            guard reader.asked.removeValue(forKey: FrameScan.number(frame)) != nil else { return }
            let failure = try? Failure(serializedBytes: Array(frame.dropFirst(5)))
            count(failure.map { $0.reason.isEmpty ? "refused" : $0.reason } ?? "refused")
            goOn(reader)
        default: break
        }
    }

    /// What is not as it has to be; nil: all rows are there, dense, and end where they were asked to.
    private func wrong(_ page: HistoryPage?, _ reader: Reader) -> String? {
        guard let page else { return "unreadable_page" }
        if page.hasFailure { return page.failure.reason.isEmpty ? "page_failed" : page.failure.reason }
        guard page.messages.count == plan.rows else { return "short_page" }
        let last = reader.head - UInt64(plan.skip)
        for (place, message) in page.messages.enumerated()
        where message.seq != last - UInt64(plan.rows - 1 - place) { return "wrong_rows" }
        return nil
    }

    private func goOn(_ reader: Reader) {
        if goesOn { return ask(reader, due: fleet.now) }
        guard !reader.backlog.isEmpty else { return }
        ask(reader, due: reader.backlog.removeFirst())
    }

    func ended(_ link: Link, why: String) {
        count("connection_lost")
        if errors["connection_lost"] == 1 { Progress.line("\(link.user) lost its connection: \(why)") }
    }

    private func count(_ name: String, _ times: Int = 1) { errors[name, default: 0] += times }
}
