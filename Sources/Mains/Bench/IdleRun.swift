import Wire

/// The idle bench: logs in, waits, weighs, says goodbye.
final class IdleRun: FleetUser, FrameUser {
    /// Between the last login and the weighing: what logins needed has been let go by then.
    static let idleMicros: UInt64 = 5_000_000

    private let options: BenchOptions
    private let webSocket: Bool
    private let dialect = MartletDialect()
    private let fleet: Fleet
    private var lost = 0

    init(connections: Int, webSocket: Bool, options: BenchOptions) throws(BenchError) {
        self.options = options
        self.webSocket = webSocket
        guard let (host, port) = BenchOptions.address(options.server) else {
            throw BenchError("--server must be HOST:PORT")
        }
        let users = (0..<connections).map { "bench-idle\($0)" }
        // Issued before anything is measured: an app's own server does that elsewhere.
        let tokens = try Access.load(options.access).tokens(for: users)
        fleet = try Fleet(
            address: ServerAddress(host: host, port: port), users: users, tokens: tokens, webSocket: webSocket,
            dialect: dialect)
        fleet.user = self
        dialect.user = self
    }

    func run() throws -> IdleReport {
        let processes = ServerProcesses(pids: options.pid)
        let count = Double(fleet.links.count)
        let memoryBefore = try processes.privateBytes()
        let kernelBefore = ServerProcesses.kernelBytes()
        let cpuBefore = try processes.cpuSeconds()
        Progress.line("logging in \(fleet.links.count) users at \(fleet.address.text) ...")
        let start = Monotonic.micros()
        try fleet.open()
        defer { fleet.close() }
        let loginSeconds = Double(Monotonic.micros() - start) / 1_000_000
        let cpuAfter = try processes.cpuSeconds()
        Progress.line("\(Int(count / loginSeconds)) logins/s; idle for \(Self.idleMicros / 1_000_000) s ...")
        let end = Monotonic.micros() + Self.idleMicros
        while fleet.now < end { fleet.turn(until: end) }
        let memory = try processes.privateBytes() - memoryBefore
        let kernel = kernelBefore.flatMap { before in ServerProcesses.kernelBytes().map { $0 - before } }
        return IdleReport(
            transport: webSocket ? "websocket" : "tcp", connections: fleet.links.count,
            loginsPerS: rounded(count / loginSeconds),
            serverCpuMsPerLogin: rounded(((cpuAfter ?? 0) - (cpuBefore ?? 0)) * 1000 / count),
            bytesPerConnection: Int(Double(memory) / count),
            kernelBytesPerConnection: kernel.map { Int(Double($0) / count / 2) }, errors: lost)
    }

    /// Nothing is expected; what comes has to be acknowledged all the same.
    func received(_ type: FrameType, _ frame: UnsafeRawBufferPointer, on link: Link, of fleet: Fleet) {
        guard type == .push || type == .seqNotice else { return }
        _ = dialect.arrived(frame, on: link, of: fleet)
    }

    func ended(_ link: Link, why: String) {
        lost += 1
        if lost == 1 { Progress.line("\(link.user) lost its connection: \(why)") }
    }
}

/// What `martlet bench idle` found; the property names, in snake case, are the JSON's.
struct IdleReport: BenchReport, Encodable {
    var bench = "idle"
    var transport: String
    var connections: Int
    var loginsPerS: Double
    var serverCpuMsPerLogin: Double
    /// Growth of the server's private memory.
    var bytesPerConnection: Int
    /// Growth of the kernel's memory, the server's end only; absent where /proc does not say.
    var kernelBytesPerConnection: Int?
    var bytesMethod = "growth of Private_Clean + Private_Dirty in /proc/PID/smaps_rollup of all --pid, by connections"
    var kernelMethod = """
        growth of Slab in /proc/meminfo plus TCP mem in /proc/net/sockstat, whole machine, by connections and by 2: \
        over loopback both ends of a connection are here
        """
    /// Connections lost while idle.
    var errors: Int

    var words: String {
        let kernel = kernelBytesPerConnection.map { "\($0) bytes" } ?? "unknown"
        return """
            \(connections) connections over \(transport): \(bytesPerConnection) bytes each in the server, \
            \(kernel) in the kernel
            \(Int(loginsPerS)) logins/s, \(serverCpuMsPerLogin) ms of server CPU each; errors: \(errors)
            """
    }
}
