import Foundation
import Machinery
import NIOCore
import NIOPosix
import NIOSSL
import Wire

/// A run: the machines, their sockets and the stages, all on one event loop.
///
/// `@unchecked Sendable`: it is touched on its event loop only, after `start`.
final class CheckRun: @unchecked Sendable {
    struct Settings: Sendable {
        var users = 200
        var devices = 1
        var seconds = 30
        var seed: UInt64 = 1
        var rate = 10.0
        var servers: [(host: String, port: Int)] = []
        /// Nil: without TLS.
        var tls: NIOSSLContext?
        var kill: [String] = []
        var kills = 0
        var pidFile = ""
        var progress = false
    }

    struct Outcome: Sendable {
        var verdict: Verdict
        var history: History
        var reconnects: Int
        var stalls: Int
        var kills: Int
        var failedKills: [String]
        var roster: Roster
    }

    enum Stage { case connecting, running, draining, settling, auditing, done }

    /// A place for a connection; `generation` tells its events from those of an earlier one.
    struct Socket {
        var channel: (any Channel)?
        var generation = 0
        var out = ByteBuffer()
    }

    static let tickMicros: UInt64 = 10_000

    let settings: Settings
    let config: CheckConfig
    let roster: Roster
    let loop: any EventLoop
    let promise: EventLoopPromise<Outcome>
    let tokens: [String]
    private let began = NIODeadline.now()
    var stage = Stage.connecting
    var stageSince: UInt64 = 0
    var machines: [ClientMachine] = []
    var auditors: [AuditMachine?]
    var sockets: [Socket]
    var history: History
    var workload: Workload
    var killer: Killer
    var recounts = 0
    var recountAt: UInt64?
    private var ticks = 0
    private var lastTick: UInt64 = 0
    private var lastProgress: UInt64 = 0
    private var ticker: RepeatedTask?

    /// `tokens`: one per user of the roster.
    init(settings: Settings, config: CheckConfig, roster: Roster, tokens: [String], loop: any EventLoop) {
        self.settings = settings
        self.config = config
        self.roster = roster
        self.tokens = tokens
        self.loop = loop
        promise = loop.makePromise(of: Outcome.self)
        history = History(roster: roster)
        workload = Workload(roster: roster, config: config, rate: settings.rate, seed: settings.seed &+ 1)
        killer = Killer(
            services: settings.kill, pidFile: settings.pidFile, count: settings.kills,
            runMicros: UInt64(settings.seconds) * 1_000_000, patience: config.killPatience)
        auditors = Array(repeating: nil, count: roster.users.count)
        sockets = Array(repeating: Socket(), count: roster.devices.count + roster.users.count)
        machines = roster.devices.indices.map { device in
            // Two milliseconds apart: two hundred logins are not one.
            ClientMachine(
                device: device, roster: roster, token: tokens[roster.devices[device].user], config: config,
                seed: settings.seed &* 31 &+ UInt64(device), firstOpen: UInt64(device) * 2000)
        }
    }

    /// Runs everything; fails with `CheckError` when there is no verdict.
    func start() -> EventLoopFuture<Outcome> {
        loop.execute {
            let every = TimeAmount.microseconds(Int64(Self.tickMicros))
            self.ticker = self.loop.scheduleRepeatedTask(initialDelay: .zero, delay: every) { _ in self.tick() }
        }
        return promise.futureResult
    }

    /// Microseconds since the start.
    var now: UInt64 { UInt64(max(0, (NIODeadline.now() - began).nanoseconds / 1000)) }

    private func tick() {
        let now = self.now
        let passed = now - lastTick
        lastTick = now
        if stage == .running { work(passed) }
        // Every machine looks at its timers once in `config.tick`; a share of them each time.
        let shares = Int(max(1, config.tick / Self.tickMicros))
        for slot in stride(from: ticks % shares, to: sockets.count, by: shares) { dispatch(slot, .tick) }
        ticks += 1
        advance(now)
        if settings.progress, now >= lastProgress + 1_000_000 {
            lastProgress = now
            progress(now)
        }
    }

    private func work(_ passed: UInt64) {
        for order in workload.step(micros: passed) {
            var actions: [LinkAction] = []
            switch order {
            case .send(let device, let conversation, let count):
                _ = machines[device].send(
                    count, conversation: conversation, now: now, history: &history, actions: &actions)
                perform(device, actions)
                flush(device)
            case .disconnect(let device):
                machines[device].disconnect(now: now, history: &history, actions: &actions)
                perform(device, actions)
            case .read(let device, let conversation): machines[device].read(conversation)
            }
        }
    }

    private func progress(_ now: UInt64) {
        let online = machines.count { $0.link.isOnline }
        let line =
            "\r\(now / 1_000_000) s, \(stage): \(online)/\(machines.count) online, \(history.sends.count) sent, "
            + "\(history.acked) acked, \(history.delivered) delivered, \(killer.kills) kills "
        FileHandle.standardError.write(Data(line.utf8))
    }

    // MARK: - sockets

    func dispatch(_ slot: Int, _ event: LinkEvent) {
        var actions: [LinkAction] = []
        if slot < machines.count {
            machines[slot].on(event, now: now, history: &history, actions: &actions)
        } else {
            auditors[slot - machines.count]?.on(event, now: now, actions: &actions)
        }
        perform(slot, actions)
        // Frames come many to a read; their answers leave with one write at its end.
        if case .frame = event { return }
        flush(slot)
    }

    func perform(_ slot: Int, _ actions: [LinkAction]) {
        for action in actions {
            switch action {
            case .open: open(slot)
            case .write(let frame): FrameCodec.encodeStream(frame, into: &sockets[slot].out)
            case .close:
                let channel = sockets[slot].channel
                sockets[slot] = Socket(generation: sockets[slot].generation + 1)
                channel?.close(promise: nil)
            }
        }
    }

    func flush(_ slot: Int) {
        guard sockets[slot].out.readableBytes > 0, let channel = sockets[slot].channel else { return }
        let out = sockets[slot].out
        sockets[slot].out = ByteBuffer()
        channel.writeAndFlush(out, promise: nil)
    }

    private func open(_ slot: Int) {
        sockets[slot] = Socket(generation: sockets[slot].generation + 1)
        let generation = sockets[slot].generation
        let server = settings.servers[(slot + generation) % settings.servers.count]
        ClientBootstrap(group: loop)
            .channelOption(.socketOption(.so_reuseaddr), value: 1)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connectTimeout(.seconds(5))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls = self.settings.tls {
                        // An address has no name: TLS compares it with the certificate's addresses.
                        let name = server.host.contains { $0.isLetter } && !server.host.contains(":")
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: name ? server.host : nil))
                    }
                    try channel.pipeline.syncOperations.addHandler(
                        FrameHandler(run: self, slot: slot, generation: generation))
                }
            }
            .connect(host: server.host, port: server.port)
            .hop(to: loop)
            .whenComplete { self.opened($0, slot, generation) }
    }

    private func opened(_ result: Result<any Channel, any Error>, _ slot: Int, _ generation: Int) {
        switch result {
        case .success(let channel):
            guard sockets[slot].generation == generation else { return channel.close(promise: nil) }
            sockets[slot].channel = channel
            dispatch(slot, .opened)
        case .failure(let error): broken(Self.words(error), slot, generation)
        }
    }

    /// The first cause of a failed connect, in its own words.
    private static func words(_ error: any Error) -> String {
        guard let failed = error as? NIOConnectionError, let first = failed.connectionErrors.first else {
            return "\(error)"
        }
        return (first.error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(first.error)"
    }

    func arrived(_ frame: Frame, _ slot: Int, _ generation: Int) {
        guard sockets[slot].generation == generation else { return }
        dispatch(slot, .frame(frame))
    }

    func broken(_ why: String, _ slot: Int, _ generation: Int) {
        guard sockets[slot].generation == generation else { return }
        sockets[slot] = Socket(generation: generation + 1)
        dispatch(slot, .closed(why))
    }

    /// Ends the run; open sockets close with the event loop.
    func finish(_ result: Result<Outcome, any Error>) {
        guard stage != .done else { return }
        stage = .done
        ticker?.cancel()
        for slot in sockets.indices { perform(slot, [.close]) }
        promise.completeWith(result)
    }
}
