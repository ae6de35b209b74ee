import Foundation
import Logging
import NIOCore
import NIOPosix
import RPC
import Synchronization
import Wire

/// Commands to Redis servers and their answers, many at a time. Carries out what `RedisRouter` decides.
///
/// Isolation: `send` and `stop` from any thread; everything else on one event loop.
public final class RedisClient: Sendable {
    private struct Inbox {
        var waiting: [(RedisRequest, @Sendable (RedisResponse) -> Void)] = []
        var awake = false
        var stopped = false
    }

    private let inbox = Mutex(Inbox())
    private let core: NIOLoopBoundBox<Core>
    private let loop: any EventLoop

    /// Connects at once, in the background.
    ///
    /// - Parameters:
    ///   - scripts: made known to every server.
    ///   - loop: where everything happens.
    /// - Throws: when the files of the certificates cannot be used.
    public init(config: RedisConfig, scripts: [RedisScript], loop: any EventLoop, logger: Logger) throws {
        self.loop = loop
        let dialer = try RedisDialer(loop: loop, config: config, scripts: scripts)
        core = .makeBoxSendingValue(Core(dialer: dialer, config: config, logger: logger), eventLoop: loop)
        let bound = core
        loop.execute { bound.value.start(loop) }
    }

    /// Sends the commands; `then` gets one result for each, on the client's loop, at the deadline at latest.
    public func send(_ request: RedisRequest, then: @escaping @Sendable (RedisResponse) -> Void) {
        let wake = inbox.withLock { box -> Bool? in
            if box.stopped { return nil }
            box.waiting.append((request, then))
            if box.awake { return false }
            box.awake = true
            return true
        }
        guard let wake else {
            let failure = Failure(.storeUnavailable, "the Redis client was stopped")
            return then(RedisResponse(id: request.id, results: request.commands.map { _ in .refused(failure) }))
        }
        if wake { loop.execute { self.deliver() } }
    }

    /// How the servers were found; `away` when that is not known within the time.
    public func contact(withinMS limit: UInt64) async -> RedisContact {
        await withCheckedContinuation { waiting in
            loop.execute { self.core.value.tell(waiting, limit) }
        }
    }

    private func deliver() {
        let waiting = inbox.withLock { box in
            box.awake = false
            defer { box.waiting = [] }
            return box.waiting
        }
        core.value.submit(waiting)
    }

    /// Closes all connections; what is not answered is unknown.
    public func stop() async {
        inbox.withLock { $0.stopped = true }
        let this = self
        try? await loop.submit {
            this.deliver()
            this.core.value.stop()
        }.get()
    }
}

/// What happens on the loop.
private final class Core {
    /// A request whose answers are being gathered.
    private final class Gathering {
        let request: RedisRequest
        let then: @Sendable (RedisResponse) -> Void
        var results: [RedisResult?]
        var missing: Int

        init(_ request: RedisRequest, _ then: @escaping @Sendable (RedisResponse) -> Void) {
            self.request = request
            self.then = then
            results = Array(repeating: nil, count: request.commands.count)
            missing = request.commands.count
        }
    }

    private struct Open {
        var generation: UInt64
        var channel: (any Channel)?
        var run = ""
    }

    private let dialer: RedisDialer
    private let logger: Logger
    private let isCluster: Bool
    private var router: RedisRouter
    private var jobs: [UInt64: (gathering: Gathering, index: Int)] = [:]
    private var nextJob = RedisRouter.tableID + 1
    private var open: [Int: Open] = [:]
    /// Which sentinel is asked first, by node.
    private var sentinelTurn: [Int: Int] = [:]
    /// Nodes that are away and were complained about.
    private var complained: Set<Int> = []
    private var contacts: [(waiting: CheckedContinuation<RedisContact, Never>, until: UInt64)] = []
    private var ticks: RepeatedTask?
    private static let tickMS: Int64 = 20
    private static let stopped = "the client was stopped"

    init(dialer: RedisDialer, config: RedisConfig, logger: Logger) {
        self.dialer = dialer
        self.logger = logger
        router = RedisRouter(config: config, seed: UInt64.random(in: .min ... .max))
        if case .cluster = config.topology { isCluster = true } else { isCluster = false }
    }

    private var now: UInt64 { SystemClock.now().micros }

    func start(_ loop: any EventLoop) {
        perform(router.start(now))
        let this = NIOLoopBound(self, eventLoop: loop)
        let step = TimeAmount.milliseconds(Self.tickMS)
        ticks = loop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in
            let core = this.value
            core.perform(core.router.tick(core.now))
            core.tellContacts()
        }
    }

    func tell(_ waiting: CheckedContinuation<RedisContact, Never>, _ limitMS: UInt64) {
        guard ticks != nil else { return waiting.resume(returning: .away(server: router.opening, why: Self.stopped)) }
        contacts.append((waiting, now + limitMS * 1000))
    }

    private func tellContacts() {
        guard !contacts.isEmpty else { return }
        let (known, now) = (router.contact, now)
        let over = contacts.filter { known != nil || $0.until <= now }
        contacts.removeAll { known != nil || $0.until <= now }
        for (waiting, _) in over {
            waiting.resume(returning: known ?? .away(server: router.opening, why: "it does not answer"))
        }
    }

    func submit(_ requests: [(RedisRequest, @Sendable (RedisResponse) -> Void)]) {
        var new: [RedisRouter.Job] = []
        for (request, then) in requests {
            let gathering = Gathering(request, then)
            if request.commands.isEmpty { then(RedisResponse(id: request.id, results: [])) }
            for (index, command) in request.commands.enumerated() {
                jobs[nextJob] = (gathering, index)
                new.append(
                    RedisRouter.Job(
                        id: nextJob, slot: command.slot, deadline: request.deadline,
                        bytes: command.arguments.bytes.count))
                nextJob += 1
            }
        }
        perform(router.submit(new, now))
    }

    func stop() {
        ticks?.cancel()
        ticks = nil
        perform(router.stop())
        for node in open.keys.sorted() { open[node]?.channel?.close(promise: nil) }
        open = [:]
        for (waiting, _) in contacts { waiting.resume(returning: .away(server: router.opening, why: Self.stopped)) }
        contacts = []
    }

    private func perform(_ actions: [RedisRouter.Action]) {
        for action in actions {
            switch action {
            case .open(let node, let place, let generation): connect(node, place, generation)
            case .write(let node, let generation, let items): write(node, generation, items)
            case .close(let node, let generation):
                guard open[node]?.generation == generation else { continue }
                open.removeValue(forKey: node)?.channel?.close(promise: nil)
            case .finish(let id, let result): finish(id, result)
            }
        }
    }

    private func finish(_ id: UInt64, _ result: RedisResult) {
        guard let (gathering, index) = jobs.removeValue(forKey: id) else { return }
        gathering.results[index] = result
        gathering.missing -= 1
        guard gathering.missing == 0 else { return }
        gathering.then(RedisResponse(id: gathering.request.id, results: gathering.results.compactMap { $0 }))
    }

    // MARK: connections

    private func connect(_ node: Int, _ place: RedisShard.Place, _ generation: UInt64) {
        open.removeValue(forKey: node)?.channel?.close(promise: nil)
        open[node] = Open(generation: generation)
        switch place {
        case .address(let address): dial(node, address, isCluster ? .node : .master, generation)
        case .sentinel(let master, let sentinels):
            ask(node, generation, master, sentinels, tried: 0, ("no sentinel is configured", true))
        }
    }

    /// One sentinel after the other, beginning with the one that answered last.
    private func ask(
        _ node: Int, _ generation: UInt64, _ master: String, _ sentinels: [RedisAddress], tried: Int,
        _ last: (why: String, unfit: Bool)
    ) {
        guard open[node]?.generation == generation else { return }
        guard tried < sentinels.count else { return closed(node, generation, last.why, unfit: last.unfit) }
        let turn = sentinelTurn[node, default: 0] % sentinels.count
        let listener = RedisDialer.Listener(received: { _ in }, ended: { _ in })
        dialer.dial(
            sentinels[turn], .sentinel(master: master), listener: listener, made: { _ in },
            done: { [weak self] outcome in
                guard let self else { return }
                switch outcome {
                case .address(let address): dial(node, address, .master, generation)
                case .ready(let channel, _): channel.close(promise: nil)
                case .failed(let why, let unfit):
                    sentinelTurn[node] = turn + 1
                    ask(node, generation, master, sentinels, tried: tried + 1, ("sentinel: \(why)", unfit))
                }
            })
    }

    private func dial(_ node: Int, _ address: RedisAddress, _ wanted: Greeting.Wanted, _ generation: UInt64) {
        guard open[node]?.generation == generation else { return }
        let listener = RedisDialer.Listener(
            received: { [weak self] replies in
                guard let self else { return }
                perform(router.received(node, generation, replies, now))
            },
            ended: { [weak self] why in self?.closed(node, generation, why) })
        dialer.dial(
            address, wanted, listener: listener,
            made: { [weak self] channel in
                guard let self, open[node]?.generation == generation else { return channel.close(promise: nil) }
                open[node]?.channel = channel
            },
            done: { [weak self] outcome in
                guard let self else { return }
                switch outcome {
                case .ready(let channel, let run):
                    guard open[node]?.generation == generation else { return channel.close(promise: nil) }
                    open[node]?.run = run
                    let level: Logger.Level = complained.remove(node) == nil ? .info : .notice
                    logger.log(level: level, "connected to Redis", metadata: ["address": "\(address)"])
                    perform(router.opened(node, generation, run: run, now))
                case .address: closed(node, generation, "it answered as a sentinel")
                case .failed(let why, let unfit):
                    // The next sentinel may know better.
                    sentinelTurn[node, default: 0] += 1
                    closed(node, generation, why, unfit: unfit)
                }
            })
    }

    private func closed(_ node: Int, _ generation: UInt64, _ why: String, unfit: Bool = false) {
        if open[node]?.generation == generation {
            let values: Logger.Metadata = ["server": "\(router.nodes[node].link.name)", "reason": "\(why)"]
            // Told once: attempts go on for as long as it is away.
            let level: Logger.Level = complained.insert(node).inserted ? .warning : .debug
            logger.log(level: level, "no connection to Redis", metadata: values)
            open.removeValue(forKey: node)?.channel?.close(promise: nil)
        }
        perform(router.closed(node, generation, why, unfit: unfit, now))
    }

    private func write(_ node: Int, _ generation: UInt64, _ items: [RedisLink.Item]) {
        guard let place = open[node], place.generation == generation, let channel = place.channel else { return }
        var buffer = channel.allocator.buffer(capacity: 4096)
        for item in items {
            if item.asking { _ = Hiredis.format(RedisArguments("ASKING")) { buffer.writeBytes($0) } }
            let arguments: RedisArguments
            if item.id == RedisRouter.tableID {
                arguments = RedisArguments("CLUSTER", "SLOTS")
            } else if let (gathering, index) = jobs[item.id] {
                arguments = gathering.request.commands[index].wire(item.form, run: place.run)
            } else {
                // Its caller has been told; the answer still has its place in the order.
                arguments = RedisArguments("PING")
            }
            _ = Hiredis.format(arguments) { buffer.writeBytes($0) }
        }
        channel.writeAndFlush(buffer, promise: nil)
    }
}

extension RedisCommand {
    /// Everything that goes over the wire.
    func wire(_ form: RedisLink.Item.Form, run: String) -> RedisArguments {
        guard case .script(let script, let withRun) = kind else { return arguments }
        var all = RedisArguments()
        all.add(form == .short ? "EVALSHA" : "EVAL")
        all.add(form == .short ? script.sha : script.body)
        all.add("1")
        all.add(arguments, runAfterFirst: withRun ? run : nil)
        return all
    }
}

extension RedisArguments {
    /// Another's arguments, with a word behind the first of them.
    mutating func add(_ other: RedisArguments, runAfterFirst run: String?) {
        var start = 0
        for (index, end) in other.ends.enumerated() {
            add(bytes: other.bytes[start..<end])
            start = end
            if index == 0, let run { add(run) }
        }
    }
}
