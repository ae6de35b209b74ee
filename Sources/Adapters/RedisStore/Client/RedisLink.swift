import Machinery
import Wire

/// One connection to one server, as decisions: what is written when, whose answer comes next, when to give up and when
/// to try again. It knows neither sockets nor clocks.
struct RedisLink: Sendable {
    enum State: Equatable, Sendable {
        /// Nobody has wanted it yet.
        case idle
        case opening(since: UInt64)
        case ready
        case waiting(until: UInt64)
    }

    /// A command on its way.
    struct Item: Equatable, Sendable {
        enum Form: Equatable, Sendable {
            /// A script by its name where it is one.
            case short
            /// A script with its text.
            case whole
        }
        let id: UInt64
        let deadline: UInt64
        var form = Form.short
        /// With ASKING in front.
        var asking = false
    }

    enum Action: Equatable, Sendable {
        /// Find the server, connect, log in. Ends in `opened` or `closed` with this generation.
        case open(generation: UInt64)
        case write(generation: UInt64, [Item])
        case close(generation: UInt64)
        case answered(Item, RedisReply)
        /// Certainly not sent.
        case unsent(Item, Failure)
        /// Sent; nobody knows.
        case lost(Item, Failure)
    }

    private struct Flying: Sendable {
        /// Nil: an answer that nobody waits for.
        var item: Item?
        let since: UInt64
    }

    let name: String
    private let config: RedisConfig
    private let openingMS: UInt64
    private(set) var state = State.idle
    private(set) var generation: UInt64 = 0
    /// What the server is called since its start; empty while there is no connection.
    private(set) var run = ""
    private var queue = Fifo<Item>()
    private var flying = Fifo<Flying>()
    private var backoff: Backoff
    private var random: SeededRandom
    private var graceUntil: UInt64 = 0
    private(set) var reason = "no connection yet"
    /// The last attempt found a server that will not do as it is set up.
    private(set) var isUnfit = false

    init(name: String, config: RedisConfig, openingMS: UInt64, seed: UInt64) {
        self.name = name
        self.config = config
        self.openingMS = openingMS
        random = SeededRandom(seed: seed)
        backoff = Backoff(firstMS: config.reconnectFirstMS, mostMS: config.reconnectMostMS)
    }

    var isBusy: Bool { !queue.isEmpty || !flying.isEmpty }

    /// Connects without being asked for anything.
    mutating func wake(_ now: UInt64) -> [Action] {
        guard state == .idle else { return [] }
        graceUntil = now + config.graceMS * 1000
        return open(now)
    }

    mutating func send(_ items: [Item], _ now: UInt64) -> [Action] {
        if case .waiting = state, now >= graceUntil { return items.map { .unsent($0, unreachable) } }
        for item in items { queue.append(item) }
        return wake(now) + drain(now)
    }

    mutating func opened(_ generation: UInt64, run: String, _ now: UInt64) -> [Action] {
        guard generation == self.generation, case .opening = state else { return [.close(generation: generation)] }
        state = .ready
        self.run = run
        isUnfit = false
        backoff.reset()
        return drain(now)
    }

    /// The connection is over, or never came about. What was sent is lost, the rest waits as long as the grace lasts.
    mutating func closed(_ generation: UInt64, _ why: String, unfit: Bool = false, _ now: UInt64) -> [Action] {
        guard generation == self.generation else { return [] }
        switch state {
        case .idle, .waiting: return []
        case .ready: graceUntil = now + config.graceMS * 1000
        case .opening: break
        }
        reason = why
        isUnfit = unfit
        run = ""
        state = .waiting(until: now + backoff.nextMS(using: &random) * 1000)
        var actions: [Action] = []
        let failure = Failure(.storeUnavailable, "the connection to Redis at \(name) broke: \(why)")
        while let sent = flying.popFirst() {
            if let item = sent.item { actions.append(.lost(item, failure)) }
        }
        return actions + giveUpWaiting(now)
    }

    mutating func received(_ generation: UInt64, _ replies: [RedisReply], _ now: UInt64) -> [Action] {
        guard generation == self.generation, state == .ready else { return [] }
        var actions: [Action] = []
        for reply in replies {
            guard let sent = flying.popFirst() else {
                return actions + hangUp("it answered what nobody asked", now)
            }
            if let item = sent.item { actions.append(.answered(item, reply)) }
        }
        return actions + drain(now)
    }

    /// Ends the connection; the next one is made as after any end.
    mutating func hangUp(_ why: String, _ now: UInt64) -> [Action] {
        switch state {
        case .idle, .waiting: return []
        case .opening, .ready: return [.close(generation: generation)] + closed(generation, why, now)
        }
    }

    /// Nobody needs the connection any more; it is made again when somebody does.
    mutating func rest() {
        if case .waiting = state, queue.isEmpty { state = .idle }
    }

    /// Time has passed.
    mutating func tick(_ now: UInt64) -> [Action] {
        var actions: [Action] = []
        switch state {
        case .idle: break
        case .waiting(let until):
            if now >= until { actions += open(now) }
        case .opening(let since):
            if now >= since + openingMS * 1000 {
                actions += hangUp("it could not be reached in time", now)
            }
        case .ready:
            if let first = flying.first, now >= first.since + config.stallMS * 1000 {
                actions += hangUp("no answer for \(config.stallMS) ms", now)
            }
        }
        return actions + expire(now) + giveUpWaiting(now)
    }

    private mutating func expire(_ now: UInt64) -> [Action] {
        var actions: [Action] = []
        flying.update { sent in
            guard let item = sent.item, item.deadline <= now else { return }
            actions.append(.lost(item, Failure(.deadlineExceeded, "no answer from Redis at \(name) in time")))
            sent.item = nil
        }
        let late = queue.remove { $0.deadline <= now }
        return actions + late.map { .unsent($0, unreachable) }
    }

    private mutating func giveUpWaiting(_ now: UInt64) -> [Action] {
        guard state != .ready, state != .idle, now >= graceUntil else { return [] }
        return queue.remove { _ in true }.map { .unsent($0, unreachable) }
    }

    private var unreachable: Failure {
        let why = state == .ready ? "it is slow" : reason
        let what = isUnfit ? "cannot be used" : "is not reachable"
        return Failure(.storeUnavailable, "Redis at \(name) \(what): \(why)", retryAfterMS: 1000)
    }

    private mutating func open(_ now: UInt64) -> [Action] {
        generation += 1
        state = .opening(since: now)
        return [.open(generation: generation)]
    }

    private mutating func drain(_ now: UInt64) -> [Action] {
        guard state == .ready else { return [] }
        var items: [Item] = []
        while flying.count < config.maxInFlight, let item = queue.popFirst() {
            if item.asking { flying.append(Flying(item: nil, since: now)) }
            flying.append(Flying(item: item, since: now))
            items.append(item)
        }
        return items.isEmpty ? [] : [.write(generation: generation, items)]
    }
}

/// A queue over an array: what was taken is cut off when it is the greater half.
struct Fifo<Element: Sendable>: Sendable {
    private var items: [Element] = []
    private var head = 0

    var count: Int { items.count - head }
    var isEmpty: Bool { count == 0 }
    var first: Element? { isEmpty ? nil : items[head] }

    mutating func append(_ item: Element) { items.append(item) }

    mutating func popFirst() -> Element? {
        guard head < items.count else { return nil }
        defer {
            head += 1
            if head > 64, head * 2 > items.count {
                items.removeFirst(head)
                head = 0
            }
        }
        return items[head]
    }

    mutating func update(_ change: (inout Element) -> Void) {
        for index in head..<items.count { change(&items[index]) }
    }

    /// Takes out what fits, in order.
    mutating func remove(_ fits: (Element) -> Bool) -> [Element] {
        let live = items[head...]
        guard live.contains(where: fits) else { return [] }
        let out = live.filter(fits)
        items = live.filter { !fits($0) }
        head = 0
        return out
    }
}
