import Glibc
import Machinery

/// How much hostile traffic there is: bounded, so that two runs do the same and the machine is not simply full.
struct HostilePlan {
    /// At most.
    var seconds: Int
    /// Connections that never speak.
    var silent: Int
    var seed: UInt64
    /// New connections a second, of all kinds.
    var opensPerS = 300.0
    /// Bytes a second that the floods may send; what else is sent is little.
    var floodBytesPerS = 4_000_000.0
    /// Requests a second of each connection that reads no answer.
    var requestsPerS = 100.0
}

/// Hostile clients of every kind on one thread, until its time is over or standard input ends.
final class HostileRun {
    private static let tickMicros: UInt64 = 10_000
    /// A hostile client that was let in waits so long for it; it does not read.
    private static let loginMicros: UInt64 = 1_000_000
    /// Beyond all client numbers.
    private static let stdinToken = 1 << 40

    private let plan: HostilePlan
    private let address: ServerAddress
    private let tokens: [String]
    private let poller: Poller
    private var bytes: HostileBytes
    private var clients: [HostileClient] = []
    /// Numbers of those that are to be opened.
    private var waiting: [Int] = []
    private var now = Monotonic.micros()
    private var opens = 0.0
    private var flood = 0.0
    private var requests = 0.0
    private var stopping = false
    private var report = HostileReport()
    private var garbageSink = [UInt8](repeating: 0, count: 64 * 1024)

    /// - Parameter access: path of the access file: the connections that read no answers log in.
    init(_ plan: HostilePlan, address: ServerAddress, access: String) throws(BenchError) {
        guard address.isLoopback else {
            throw BenchError("hostile traffic goes to a server on this machine only, 127.x.x.x")
        }
        self.plan = plan
        self.address = address
        poller = try Poller()
        bytes = HostileBytes(seed: plan.seed)
        tokens = try Access.load(access).tokens(for: (0..<HostileKind.each).map { "bench-hostile\($0)" })
        for kind in HostileKind.allCases {
            for _ in 0..<(kind == .silent ? plan.silent : HostileKind.each) {
                clients.append(HostileClient(kind, number: clients.count))
            }
        }
        // Mixed, so that no kind waits for another's many connections.
        var random = SeededRandom(seed: plan.seed)
        waiting = Array(clients.indices).shuffled(using: &random)
    }

    func run() throws(BenchError) -> HostileReport {
        try ServerAddress.raiseFileLimit(for: clients.count)
        // Elsewhere, attackers bring a CPU of their own; here they get what the measured leave over.
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
        poller.add(STDIN_FILENO, token: Self.stdinToken, writable: false)
        let start = now
        let end = now + UInt64(plan.seconds) * 1_000_000
        var nextTick = now
        while now < end, !stopping {
            let wait = nextTick > now ? Int32(truncatingIfNeeded: (nextTick - now + 999) / 1000) : 0
            let count = poller.wait(timeoutMS: wait)
            now = Monotonic.micros()
            for index in 0..<count { try handle(poller.ready(at: index)) }
            if now >= nextTick {
                try tick(seconds: Double(Self.tickMicros) / 1_000_000)
                nextTick = max(nextTick + Self.tickMicros, now)
            }
        }
        for number in clients.indices where clients[number].socket >= 0 { close(number, reset: true) }
        report.seconds = rounded(Double(now - start) / 1_000_000)
        report.cpuS = rounded(try ServerProcesses.ownCPUSeconds())
        return report
    }

    // MARK: - Time

    private func tick(seconds: Double) throws(BenchError) {
        // What was not used in a tick is not saved up.
        opens = min(opens, 1) + plan.opensPerS * seconds
        flood = plan.floodBytesPerS * seconds
        requests = min(requests, 1) + plan.requestsPerS * seconds
        var next = 0
        while opens >= 1, next < waiting.count {
            opens -= 1
            try open(waiting[next])
            next += 1
        }
        waiting.removeFirst(next)
        let asks = Int(requests)
        requests -= Double(asks)
        for number in clients.indices where clients[number].stage == .open { act(number, asks: asks) }
    }

    /// What an open connection does in a tick.
    private func act(_ number: Int, asks: Int) {
        let age = now - clients[number].openedMicros
        let kind = clients[number].kind
        if let lifetime = kind.lifetimeMicros, age > lifetime { return close(number, reset: true) }
        switch kind {
        case .giant: send(number, [0])
        case .flood: if flood > 0 { flood -= Double(send(number, bytes.pings)) }
        case .unread where age > Self.loginMicros:
            for _ in 0..<asks where clients[number].stage == .open {
                clients[number].requestID += 1
                let sent = send(number, HostileBytes.request(clients[number].requestID))
                if sent == 0 { break }
                report.requests += 1
            }
        default: break
        }
    }

    // MARK: - Connections

    private func open(_ number: Int) throws(BenchError) {
        let unread = clients[number].kind == .unread
        clients[number].socket = try address.connect(number: number, receiveBytes: unread ? 4096 : nil)
        clients[number].stage = .connecting
        clients[number].openedMicros = now
        clients[number].lives += 1
        poller.add(clients[number].socket, token: number, writable: true)
    }

    private func handle(_ ready: Poller.Ready) throws(BenchError) {
        guard ready.token != Self.stdinToken else {
            stopping = true
            return
        }
        let number = ready.token
        // Closed earlier in this turn.
        guard clients[number].socket >= 0 else { return }
        if clients[number].stage == .connecting {
            guard ready.writable, !ready.failed else {
                report.refused += 1
                return close(number, reset: false)
            }
            return connected(number)
        }
        let received = recv(clients[number].socket, &garbageSink, garbageSink.count, 0)
        if received == 0 || (received < 0 && errno != EAGAIN && errno != EINTR) { ended(number) }
    }

    private func connected(_ number: Int) {
        let client = clients[number]
        clients[number].stage = .open
        report.connections += 1
        report.byKind[client.kind.rawValue, default: 0] += 1
        // What reads nothing is not told that there is something to read.
        if client.kind == .unread {
            poller.remove(client.socket)
        } else {
            poller.change(client.socket, token: number, writable: false)
        }
        switch client.kind {
        case .churn:
            if client.isOddLife { send(number, bytes.hello) }
            if clients[number].socket >= 0 { close(number, reset: true) }
        case .garbage: send(number, bytes.garbage())
        case .giant: send(number, bytes.giant)
        case .flood: send(number, bytes.flood)
        case .impostor: send(number, bytes.impostor)
        case .unread: send(number, bytes.login(token: tokens[number % tokens.count]))
        case .silent: if client.isOddLife { send(number, Array(bytes.hello.dropLast(3))) }
        }
    }

    /// Bytes that the socket took; a broken connection ends.
    @discardableResult
    private func send(_ number: Int, _ out: [UInt8]) -> Int {
        let sent = Glibc.send(clients[number].socket, out, out.count, Int32(MSG_NOSIGNAL))
        guard sent >= 0 else {
            if errno != EAGAIN, errno != EINTR { ended(number) }
            return 0
        }
        report.bytes += sent
        return sent
    }

    /// The server has ended it.
    private func ended(_ number: Int) {
        report.endedByServer += 1
        close(number, reset: false)
    }

    /// - Parameter reset: without a farewell, and without a port that waits for a minute.
    private func close(_ number: Int, reset: Bool) {
        if reset {
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(clients[number].socket, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        }
        Glibc.close(clients[number].socket)
        clients[number].socket = -1
        clients[number].stage = .waiting
        waiting.append(number)
    }
}

/// What the hostile clients did; the property names, in snake case, are the JSON's.
struct HostileReport: BenchReport, Codable, Equatable {
    var bench = "hostile"
    var seconds = 0.0
    /// Opened.
    var connections = 0
    var byKind: [String: Int] = [:]
    /// Connections that the server did not take.
    var refused = 0
    var endedByServer = 0
    var bytes = 0
    /// Whose answers nobody read.
    var requests = 0
    /// The hostile process's own.
    var cpuS = 0.0
    /// Nothing that happens to hostile clients is one.
    var errors: Int { 0 }

    var words: String {
        """
        \(connections) hostile connections in \(seconds) s, \(endedByServer) ended by the server, \(refused) not \
        taken; \(bytes / 1024) KiB sent, \(requests) requests whose answers nobody read; \(cpuS) s of CPU for it
        """
    }
}
