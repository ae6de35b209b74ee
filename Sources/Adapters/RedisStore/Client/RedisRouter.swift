import Machinery
import Wire

/// All connections of a client and all commands that are not answered yet, as decisions: which server a command goes
/// to, whether it goes to another one after an error, and when its caller is told. It knows neither sockets nor clocks.
struct RedisRouter: Sendable {
    /// A command, without its bytes: these stay with whoever carries out the actions.
    struct Job: Equatable, Sendable {
        let id: UInt64
        let slot: UInt16
        let deadline: UInt64
        let bytes: Int
        fileprivate var redirects = 0

        init(id: UInt64, slot: UInt16, deadline: UInt64, bytes: Int) {
            self.id = id
            self.slot = slot
            self.deadline = deadline
            self.bytes = bytes
        }
    }

    enum Action: Equatable, Sendable {
        case open(node: Int, RedisShard.Place, generation: UInt64)
        case write(node: Int, generation: UInt64, [RedisLink.Item])
        case close(node: Int, generation: UInt64)
        case finish(UInt64, RedisResult)
    }

    struct Node: Sendable {
        let place: RedisShard.Place
        var link: RedisLink

        var address: RedisAddress? { if case .address(let address) = place { address } else { nil } }
    }

    /// The id of CLUSTER SLOTS, which is nobody's command.
    static let tableID: UInt64 = 0
    /// A table that does not come within this time is asked of the next node.
    private static let tableMicros: UInt64 = 2_000_000

    private let config: RedisConfig
    private(set) var nodes: [Node] = []
    private var jobs: [UInt64: Job] = [:]
    private var bytes = 0
    /// Slot -> node; -1: nobody.
    private var table = [Int](repeating: -1, count: RedisSlot.count)
    private let isCluster: Bool
    private var known: [RedisAddress: Int] = [:]
    /// Nodes that serve slots, as far as known.
    private var wanted: Set<Int> = []
    /// Commands to try again, in the order in which they came here.
    private var later: [(due: UInt64, id: UInt64)] = []
    private var tableWanted = false
    private var tableAsked: UInt64?
    private var tableNode = 0
    private var tableTried: UInt64 = 0
    private var seeds: SeededRandom

    init(config: RedisConfig, seed: UInt64) {
        self.config = config
        seeds = SeededRandom(seed: seed)
        switch config.topology {
        case .shards(let shards):
            isCluster = false
            for (index, shard) in shards.enumerated() {
                nodes.append(Self.node(shard.place, config, &seeds))
                for slot in shard.slots where Int(slot) < RedisSlot.count { table[Int(slot)] = index }
            }
        case .cluster(let addresses):
            isCluster = true
            tableWanted = true
            for address in addresses { _ = node(at: address) }
        }
    }

    private static func node(_ place: RedisShard.Place, _ config: RedisConfig, _ seeds: inout SeededRandom) -> Node {
        let name =
            switch place {
            case .address(let address): "\(address)"
            case .sentinel(let master, _): "master \(master)"
            }
        let link = RedisLink(name: name, config: config, openingMS: config.openingMS(place), seed: seeds.next())
        return Node(place: place, link: link)
    }

    private mutating func node(at address: RedisAddress) -> Int {
        if let index = known[address] { return index }
        nodes.append(Self.node(.address(address), config, &seeds))
        known[address] = nodes.count - 1
        return nodes.count - 1
    }

    /// Commands that are not answered yet.
    var openCommands: Int { jobs.count }

    /// Connects to the servers that are configured.
    mutating func start(_ now: UInt64) -> [Action] {
        if isCluster { return refresh(now) }
        return nodes.indices.flatMap { index in act(index, nodes[index].link.wake(now), now) }
    }

    /// New commands, in order.
    mutating func submit(_ new: [Job], _ now: UInt64) -> [Action] {
        var actions: [Action] = []
        var ids: [UInt64] = []
        for job in new {
            guard jobs.count < config.maxCommands, bytes + job.bytes <= config.maxBytes else {
                let failure = Failure(
                    .overloaded, "\(jobs.count) commands wait for Redis; slow down and retry", retryAfterMS: 300)
                actions.append(.finish(job.id, .refused(failure)))
                continue
            }
            jobs[job.id] = job
            bytes += job.bytes
            ids.append(job.id)
        }
        return actions + dispatch(ids, now)
    }

    /// Commands go out in their order, those for one server together.
    private mutating func dispatch(_ ids: [UInt64], _ now: UInt64) -> [Action] {
        var targets: [Int] = []
        var items: [Int: [RedisLink.Item]] = [:]
        var actions: [Action] = []
        for id in ids {
            guard let job = jobs[id] else { continue }
            let target = table[Int(job.slot) % RedisSlot.count]
            guard target >= 0 else {
                actions += postpone(id, Failure(.storeUnavailable, "no Redis serves slot \(job.slot)"), now)
                continue
            }
            if items[target] == nil { targets.append(target) }
            items[target, default: []].append(RedisLink.Item(id: id, deadline: job.deadline))
        }
        for target in targets {
            actions += act(target, nodes[target].link.send(items[target] ?? [], now), now)
        }
        return actions
    }

    mutating func opened(_ node: Int, _ generation: UInt64, run: String, _ now: UInt64) -> [Action] {
        act(node, nodes[node].link.opened(generation, run: run, now), now)
    }

    mutating func closed(
        _ node: Int, _ generation: UInt64, _ why: String, unfit: Bool = false, _ now: UInt64
    ) -> [Action] {
        let actions = act(node, nodes[node].link.closed(generation, why, unfit: unfit, now), now)
        // Whoever was promoted in its place is in the others' tables.
        guard isCluster else { return actions }
        // A node that has left the cluster is let go.
        if !wanted.isEmpty, !wanted.contains(node) { nodes[node].link.rest() }
        return actions + want(now)
    }

    mutating func received(_ node: Int, _ generation: UInt64, _ replies: [RedisReply], _ now: UInt64) -> [Action] {
        act(node, nodes[node].link.received(generation, replies, now), now)
    }

    mutating func tick(_ now: UInt64) -> [Action] {
        var actions = nodes.indices.flatMap { index in act(index, nodes[index].link.tick(now), now) }
        let due = later.filter { $0.due <= now }.map(\.id)
        if !due.isEmpty {
            later.removeAll { $0.due <= now }
            actions += dispatch(due, now)
        }
        return actions + refresh(now)
    }

    /// The client ends: everybody is told.
    mutating func stop() -> [Action] {
        let failure = Failure(.storeUnavailable, "the Redis client was stopped")
        let actions = jobs.keys.sorted().map { Action.finish($0, .unknown(failure)) }
        jobs = [:]
        bytes = 0
        return actions
    }

    // MARK: what links want

    private mutating func act(_ node: Int, _ actions: [RedisLink.Action], _ now: UInt64) -> [Action] {
        var result: [Action] = []
        for action in actions {
            switch action {
            case .open(let generation): result.append(.open(node: node, nodes[node].place, generation: generation))
            case .write(let generation, let items): result.append(.write(node: node, generation: generation, items))
            case .close(let generation): result.append(.close(node: node, generation: generation))
            case .answered(let item, let reply):
                if item.id == Self.tableID {
                    result += tabled(node, reply, now)
                } else {
                    result += answered(node, item, reply, now)
                }
            case .unsent(let item, let failure):
                if item.id == Self.tableID { tableFailed() } else { result += postpone(item.id, failure, now) }
            case .lost(let item, let failure):
                if item.id == Self.tableID { tableFailed() } else { result += finish(item.id, .unknown(failure)) }
            }
        }
        return result
    }

    private mutating func finish(_ id: UInt64, _ result: RedisResult) -> [Action] {
        guard let job = jobs.removeValue(forKey: id) else { return [] }
        bytes -= job.bytes
        return [.finish(id, result)]
    }

    /// In a cluster another node may serve the slot soon; a shard that is configured has no other.
    private mutating func postpone(_ id: UInt64, _ failure: Failure, _ now: UInt64) -> [Action] {
        guard let job = jobs[id] else { return [] }
        let due = now + config.retryMS * 1000
        guard isCluster, due < job.deadline else { return finish(id, .refused(failure)) }
        later.append((due, id))
        return want(now)
    }

    // MARK: answers

    private mutating func answered(
        _ node: Int, _ item: RedisLink.Item, _ reply: RedisReply, _ now: UInt64
    ) -> [Action] {
        guard case .error(let text) = reply else { return finish(item.id, .reply(reply)) }
        switch ErrorReply(text, from: nodes[node].address) {
        case .moved(let slot, let address):
            guard isCluster else { return finish(item.id, .refused(Self.notACluster)) }
            let target = self.node(at: address)
            table[Int(slot)] = target
            return redirect(item, to: target, asking: false, now) + want(now)
        case .ask(_, let address):
            guard isCluster else { return finish(item.id, .refused(Self.notACluster)) }
            return redirect(item, to: self.node(at: address), asking: true, now)
        case .later(let why): return postpone(item.id, Failure(.storeUnavailable, "Redis: \(why)"), now)
        case .noScript:
            // Only its text can follow a name that is not known; one that is not known either is a mistake.
            guard item.form == .short, jobs[item.id] != nil else { return finish(item.id, .reply(reply)) }
            var whole = item
            whole.form = .whole
            return act(node, nodes[node].link.send([whole], now), now)
        case .notMaster:
            let failure = Failure(.storeUnavailable, "Redis at \(nodes[node].link.name) is a replica now")
            let actions = isCluster ? postpone(item.id, failure, now) : finish(item.id, .refused(failure))
            return actions + act(node, nodes[node].link.hangUp("it is a replica now", now), now)
        case .refused(let failure): return finish(item.id, .refused(failure))
        case .broken: return finish(item.id, .reply(reply))
        }
    }

    private static let notACluster = Failure(
        .internalError, "this Redis is part of a cluster; configure it as one (redis+cluster://)")

    private mutating func redirect(
        _ item: RedisLink.Item, to target: Int, asking: Bool, _ now: UInt64
    ) -> [Action] {
        guard var job = jobs[item.id] else { return [] }
        job.redirects += 1
        jobs[item.id] = job
        guard job.redirects <= config.maxRedirects else {
            return finish(
                item.id, .refused(Failure(.storeUnavailable, "Redis sent slot \(job.slot) round in circles")))
        }
        let again = RedisLink.Item(id: item.id, deadline: item.deadline, form: item.form, asking: asking)
        return act(target, nodes[target].link.send([again], now), now)
    }

    // MARK: the cluster's table

    private mutating func want(_ now: UInt64) -> [Action] {
        tableWanted = true
        return refresh(now)
    }

    private mutating func tableFailed() { tableAsked = nil }

    /// Asks one node after the other, at most one at a time and not faster than `retryMS`.
    private mutating func refresh(_ now: UInt64) -> [Action] {
        guard isCluster, tableWanted else { return [] }
        if let asked = tableAsked, now < asked + Self.tableMicros { return [] }
        guard tableTried == 0 || now >= tableTried + config.retryMS * 1000 else { return [] }
        tableAsked = now
        tableTried = now
        // Nodes that are up first: one that is down costs its whole grace.
        let order = nodes.indices.map { (tableNode + $0) % nodes.count }
        let chosen = order.first { nodes[$0].link.state == .ready } ?? order[0]
        tableNode = (chosen + 1) % nodes.count
        let item = RedisLink.Item(id: Self.tableID, deadline: now + Self.tableMicros)
        return act(chosen, nodes[chosen].link.send([item], now), now)
    }

    private mutating func tabled(_ node: Int, _ reply: RedisReply, _ now: UInt64) -> [Action] {
        tableAsked = nil
        guard let rows = ClusterTable.parse(reply, from: nodes[node].address), !rows.isEmpty else { return [] }
        tableWanted = false
        wanted = []
        table = [Int](repeating: -1, count: RedisSlot.count)
        for row in rows {
            let target = self.node(at: row.address)
            for slot in row.slots { table[Int(slot)] = target }
            wanted.insert(target)
        }
        let waiting = later.map(\.id)
        later = []
        // Connections are there before somebody needs them, and unfit servers are found at once.
        let masters = wanted.sorted().flatMap { index in act(index, nodes[index].link.wake(now), now) }
        return masters + dispatch(waiting, now)
    }

    // MARK: contact

    /// How the first attempts went; nil: not all of them are over.
    var contact: RedisContact? {
        let needed = isCluster && !wanted.isEmpty ? wanted.sorted() : Array(nodes.indices)
        var away: RedisContact?
        var pending = false
        for node in needed {
            let link = nodes[node].link
            switch link.state {
            case .ready: pending = pending || isCluster && wanted.isEmpty
            case .idle, .opening: pending = true
            case .waiting where link.isUnfit: return .unfit(server: link.name, why: link.reason)
            case .waiting: away = away ?? .away(server: link.name, why: link.reason)
            }
        }
        return pending ? nil : away ?? .ready
    }

    /// A server that is not there yet.
    var opening: String { nodes.first { $0.link.state != .ready }?.link.name ?? nodes.first?.link.name ?? "" }
}

/// How the servers were found.
public enum RedisContact: Equatable, Sendable {
    /// All of them can be used.
    case ready
    /// One is not there; attempts go on.
    case away(server: String, why: String)
    /// One will not do before somebody has changed a setting, there or here.
    case unfit(server: String, why: String)
}

/// The answer to CLUSTER SLOTS.
enum ClusterTable {
    struct Row: Equatable {
        let slots: ClosedRange<UInt16>
        /// The master's.
        let address: RedisAddress
    }

    /// Nil: that is no such answer. A node that does not know its own host means the one that was asked.
    static func parse(_ reply: RedisReply, from: RedisAddress?) -> [Row]? {
        guard let rows = reply.elements else { return nil }
        var result: [Row] = []
        for row in rows {
            guard let parts = row.elements, parts.count >= 3, let low = parts[0].number, let high = parts[1].number,
                low <= high, high < RedisSlot.count, let master = parts[2].elements, master.count >= 2,
                let port = master[1].number.flatMap({ Int(exactly: $0) }), (1...65_535).contains(port)
            else { return nil }
            let named = master[0].text ?? ""
            let host = named.isEmpty || named == "?" ? from?.host : named
            guard let host else { return nil }
            result.append(Row(slots: UInt16(low)...UInt16(high), address: RedisAddress(host: host, port: port)))
        }
        return result
    }
}
