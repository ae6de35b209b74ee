import Logging
import NIOCore
import Ports
import RPC
import Wire

/// What a Redis says of itself, and what it lets us do. Pure.
struct RedisFacts: Equatable, Sendable {
    var version = ""
    var memoryLimit: UInt64 = 0
    var policy = ""
    var snapshotFailed = false
    var aheadMS: Int64 = 0
    var latencyMicros: [UInt64] = []
    /// Commands that were refused, with the server's words.
    var denied: [String] = []
    /// A cache, which may lose what it has.
    var mayEvict: Bool

    /// - Parameter info: the answer to INFO.
    mutating func read(_ info: String) {
        for line in info.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            switch parts[0] {
            case "redis_version": version = String(parts[1])
            case "maxmemory": memoryLimit = UInt64(parts[1]) ?? 0
            case "maxmemory_policy": policy = String(parts[1])
            case "rdb_last_bgsave_status": snapshotFailed = parts[1] != "ok"
            default: break
            }
        }
    }

    func findings(_ subject: String) -> [Finding] {
        var all = [Finding(.ok, "\(subject): version", version)]
        if mayEvict, memoryLimit > 0, policy == "noeviction" {
            all.append(
                Finding(
                    .warning, "\(subject): maxmemory-policy", "noeviction, so a full cache refuses what is new",
                    cure: "Set maxmemory-policy to allkeys-lru, unless presence is on the same server"))
        } else {
            all.append(Finding(.ok, "\(subject): maxmemory-policy", policy))
        }
        if memoryLimit == 0 {
            all.append(
                Finding(
                    .warning, "\(subject): maxmemory",
                    "there is no limit: the kernel ends a server that takes too much",
                    cure: "Set maxmemory below the machine's memory"))
        }
        if snapshotFailed {
            all.append(
                Finding(
                    .error, "\(subject): persistence", "the last snapshot failed, so writes may be refused",
                    cure: "Free its disk, or set save \"\" (Martlet needs nothing of Redis on a disk)"))
        }
        if denied.isEmpty {
            all.append(Finding(.ok, "\(subject): rights", "keys can be written, read and deleted, scripts be run"))
        } else {
            all.append(
                Finding(
                    .error, "\(subject): rights", denied.joined(separator: "; "),
                    cure: "Give the user what Docs/failures.md lists under \"The least that Martlet's user may do\""))
        }
        all.append(Findings.clock(subject, aheadMS: aheadMS))
        if let latency = Findings.latency(subject, latencyMicros) { all.append(latency) }
        return all
    }
}

/// Looks at the servers of a store before they are used.
public enum RedisExamination {
    private static let rounds = 5
    /// For the servers to be found.
    private static let contactMS: UInt64 = 4000
    /// For one command.
    private static let commandMS: UInt64 = 3000
    private static let script = RedisScript("doctor", "return redis.call('GET', KEYS[1])")

    /// - Parameters:
    ///   - subject: what they are for, in front of every finding.
    ///   - wallMS: this machine's clock, Unix milliseconds.
    public static func examine(
        _ config: RedisConfig, subject: String, loop: any EventLoop, wallMS: @Sendable () -> UInt64
    ) async -> [Finding] {
        let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
        let client: RedisClient
        do { client = try RedisClient(config: config, scripts: [script], loop: loop, logger: silent) } catch {
            return [Finding(.error, "\(subject): TLS", "\(error)", cure: "Look at the files of the certificates")]
        }
        let found: [Finding]
        switch await client.contact(withinMS: contactMS) {
        case .away(let server, let why):
            found = [
                Finding(
                    .error, "\(subject): reachable", "\(server): \(why)",
                    cure: "Start it, or correct the url; with TLS look at the authorities")
            ]
        case .unfit(let server, let why):
            found = [Finding(.error, "\(subject): usable", "\(server): \(why)", cure: "Change that and look again")]
        case .ready: found = await look(client, config, subject, wallMS)
        }
        await client.stop()
        return found
    }

    /// One look at each part of the slots: that is each server of a list, and some servers of a cluster.
    private static func look(
        _ client: RedisClient, _ config: RedisConfig, _ subject: String, _ wallMS: @Sendable () -> UInt64
    ) async -> [Finding] {
        let slots: [UInt16] =
            switch config.topology {
            case .shards(let shards): shards.map(\.slots.lowerBound)
            case .cluster: [0, 5461, 10_923]
            }
        var all = [
            Finding(.ok, "\(subject): reachable", slots.count == 1 ? "it lets us in" : "\(slots.count) parts let us in")
        ]
        for (index, slot) in slots.enumerated() {
            var facts = RedisFacts(mayEvict: config.mayEvict)
            for _ in 0..<rounds {
                let began = SystemClock.now().micros
                let before = wallMS()
                let result = await ask(client, RedisArguments("TIME"), slot)
                facts.latencyMicros.append(SystemClock.now().micros - began)
                if case .reply(let reply) = result, let parts = reply.elements, let seconds = parts.first?.number {
                    let there = seconds * 1000 + (parts.last?.number ?? 0) / 1000
                    facts.aheadMS = Int64(there) - Int64((before + wallMS()) / 2)
                }
            }
            for section in ["server", "memory", "persistence"] {
                let result = await ask(client, RedisArguments("INFO", section), slot)
                if case .reply(let reply) = result, let text = reply.text { facts.read(text) }
            }
            facts.denied = await denied(client, slot)
            all += facts.findings(slots.count > 1 ? "\(subject) part \(index)" : subject)
        }
        return all
    }

    /// Writes, reads and deletes a key under our prefix.
    private static func denied(_ client: RedisClient, _ slot: UInt16) async -> [String] {
        let tags = PartitionTags(count: 4096)
        let tag = zip(tags.tags, tags.slots).min { abs(Int($0.1) - Int(slot)) < abs(Int($1.1) - Int(slot)) }?.0 ?? ""
        let key = "m:doctor{\(tag)}:\(UInt64.random(in: 0 ... .max))"
        let own = RedisSlot.of(key)
        var denied: [String] = []
        for command in [
            RedisArguments("SET", key, "1"), RedisArguments("GET", key), RedisArguments("PEXPIRE", key, "60000"),
            RedisArguments("EVAL", script.body, "1", key), RedisArguments("DEL", key),
        ] {
            switch await ask(client, command, own) {
            case .reply(.error(let text)): denied.append(text)
            case .reply: break
            case .refused(let failure), .unknown(let failure): denied.append(failure.message)
            }
        }
        return denied
    }

    private static func ask(_ client: RedisClient, _ command: RedisArguments, _ slot: UInt16) async -> RedisResult {
        await withCheckedContinuation { waiting in
            let deadline = SystemClock.now().micros + commandMS * 1000
            let request = RedisRequest(id: 1, commands: [RedisCommand(.plain, slot: slot, command)], deadline: deadline)
            client.send(request) { response in
                waiting.resume(
                    returning: response.results.first ?? .unknown(Failure(.storeUnavailable, "there was no answer")))
            }
        }
    }
}
