import Identity
import Ports
import RPC
import Wire

/// Port role `presence` over Redis. Every call becomes one script call per partition that it touches, all of them under
/// way together; the machine waits for nothing and holds no registrations.
///
/// Token epochs live in `tokens`, which is durable: a Redis that comes back empty must not bring revoked tokens back.
/// Redis has a copy, for whoever else serves presence and has an older view of `tokens`.
///
/// Isolation: the lane of its host; `tokens` may block it.
public struct RedisPresenceMachine: RoleMachine {
    public static var role: RoleName { .presenceStore }
    public typealias Input = RedisResponse
    public typealias Output = RedisRequest
    public typealias Action = RoleAction<RedisRequest>

    /// What a response is for. `items`: which items of the call each command carries.
    enum Job: Sendable {
        case register(CallID, [Registration], results: [RegisterResult], items: [[Int]])
        case lookup(CallID, [UserKey], epochs: [UInt64], items: [[Int]])
        case lease(CallID, LeaseRequest, deadline: UInt64)
        case adopt(CallID, LeaseResponse)
        /// Unregistering and revoking: the items have no results but done and not done.
        case done(CallID, count: Int, items: [[Int]])
    }

    let config: RedisPresenceConfig
    let tags: PartitionTags
    private let tokens: any TokenEpochs
    private var jobs: [UInt64: Job] = [:]
    private var nextJob: UInt64 = 1

    /// - Parameter tokens: durable, and the same for everybody who serves presence over these servers.
    public init(tokens: any TokenEpochs, config: RedisPresenceConfig = RedisPresenceConfig()) {
        self.tokens = tokens
        self.config = config
        tags = PartitionTags(count: config.partitions)
    }

    /// The scripts that its client has to know.
    public static var scripts: [RedisScript] { PresenceScripts.all }

    public mutating func on(_ event: RoleEvent<RedisResponse>, now: Instant) -> [Action] {
        switch event {
        case .call(let id, let payload, let deadline): return call(id, payload, deadline, now)
        case .input(let response):
            guard let job = jobs.removeValue(forKey: response.id) else { return [] }
            return landed(job, response.results, now)
        case .start, .reply, .timer, .flush: return []
        }
    }

    private mutating func call(_ id: CallID, _ payload: Payload, _ deadline: UInt64, _ now: Instant) -> [Action] {
        do throws(Failure) {
            switch payload {
            case .registerRequest(let request): return try register(id, request.registrations, deadline, now)
            case .unregisterRequest(let request): return unregister(id, request.registrations, deadline, now)
            case .leaseRequest(let request): return try lease(id, request, deadline, now)
            case .lookupRequest(let request): return try lookUp(id, request.users, deadline, now)
            case .revokeRequest(let request): return try revoke(id, request.items, deadline, now)
            default:
                throw Failure(.noSuchMethod, "the presence store does not answer payload \(payload.kind)")
            }
        } catch { return [.refuse(id, error)] }
    }

    private mutating func landed(_ job: Job, _ results: [RedisResult], _ now: Instant) -> [Action] {
        switch job {
        case .register(let id, let wanted, let known, let items): registered(id, wanted, known, items, results)
        case .lookup(let id, let users, let epochs, let items): lookedUp(id, users, epochs, items, results)
        case .lease(let id, let request, let deadline): leased(id, request, deadline, results, now)
        case .adopt(let id, let answer): adopted(id, answer, results)
        case .done(let id, let count, let items): done(id, count, items, results)
        }
    }

    // MARK: commands

    /// Sends the commands as one request, or answers at once when there is none.
    mutating func send(_ job: Job, _ commands: [RedisCommand], _ deadline: UInt64, _ now: Instant) -> [Action] {
        guard !commands.isEmpty else { return landed(job, [], now) }
        let id = nextJob
        nextJob += 1
        jobs[id] = job
        let latest = min(deadline, now.micros + config.timeoutMS * 1000)
        return [.output(RedisRequest(id: id, commands: commands, deadline: latest))]
    }

    /// A script call for a partition, up to its own arguments.
    func command(_ script: RedisScript, _ partition: Int, _ now: Instant) -> RedisCommand {
        var arguments = RedisArguments()
        arguments.add("\(config.prefix)p{\(tags.tags[partition])}")
        arguments.add(config.usesServerClock ? 0 : now.wallMS * 1000 + now.micros % 1000)
        return RedisCommand(.script(script, withRun: true), slot: tags.slots[partition], arguments)
    }

    /// The numbers of the items in each partition that has any; partitions and items in order.
    func parts(_ users: [(app: String, user: String)]) -> [(partition: Int, items: [Int])] {
        var parts: [(partition: Int, items: [Int])] = []
        var places: [Int: Int] = [:]
        for (index, item) in users.enumerated() {
            let partition = Int(truncatingIfNeeded: StableHash.of(item.app, item.user) % UInt64(tags.count))
            if let place = places[partition] {
                parts[place].items.append(index)
            } else {
                places[partition] = parts.count
                parts.append((partition, [index]))
            }
        }
        return parts
    }

    /// Apps have no `:` in their names.
    static func name(_ app: String, _ user: String) -> String { "\(app):\(user)" }

    /// What a command that brought nothing useful means for the caller.
    static func failure(_ result: RedisResult) -> Failure {
        switch result {
        case .refused(let failure): failure
        case .unknown(let failure): Failure(.storeUnavailable, failure.message, retryAfterMS: 1000)
        case .reply(.error(let text)): Failure(.internalError, "Redis: \(text)")
        case .reply: Failure(.internalError, "Redis answered what presence does not understand")
        }
    }

    // MARK: revoking

    private mutating func revoke(
        _ id: CallID, _ items: [RevokeItem], _ deadline: UInt64, _ now: Instant
    ) throws(Failure) -> [Action] {
        try tokens.raise(items)
        let parts = parts(items.map { ($0.appID, $0.userID) })
        let commands = parts.map { part in
            var command = command(PresenceScripts.revoke, part.partition, now)
            for index in part.items {
                command.arguments.add(Self.name(items[index].appID, items[index].userID))
                command.arguments.add(items[index].tokenEpoch)
            }
            return command
        }
        return send(.done(id, count: items.count, items: parts.map(\.items)), commands, deadline, now)
    }

    private func done(_ id: CallID, _ count: Int, _ items: [[Int]], _ results: [RedisResult]) -> [Action] {
        var done = Done()
        for (items, result) in zip(items, results) where result != .reply(.integer(1)) {
            if done.failures.isEmpty { done.failures = Array(repeating: Failure(), count: count) }
            for index in items { done.failures[index] = Self.failure(result) }
        }
        return [.reply(id, .done(done))]
    }

    func epochs(_ users: [UserKey]) throws(Failure) -> [UInt64] { try tokens.epochs(users) }

    func known(_ users: [UserKey]) -> [UInt64] { tokens.known(users) }

    // MARK: unregistering

    private mutating func unregister(
        _ id: CallID, _ items: [Registration], _ deadline: UInt64, _ now: Instant
    ) -> [Action] {
        let parts = parts(items.map { ($0.appID, $0.userID) })
        let commands = parts.map { part in
            var command = command(PresenceScripts.unregister, part.partition, now)
            for index in part.items {
                command.arguments.add(Self.name(items[index].appID, items[index].userID))
                command.arguments.add(items[index].sessionID)
                command.arguments.add(items[index].epoch)
            }
            return command
        }
        return send(.done(id, count: items.count, items: parts.map(\.items)), commands, deadline, now)
    }
}
