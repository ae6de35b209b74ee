import Identity
import Ports
import RPC
import Wire

/// Registering and looking up.
extension RedisPresenceMachine {
    /// Lua counts exactly up to here; a clock in microseconds reaches it in the year 2255.
    private static var largestNumber: UInt64 { (1 << 53) - 1 }

    mutating func register(
        _ id: CallID, _ wanted: [Registration], _ deadline: UInt64, _ now: Instant
    ) throws(Failure) -> [Action] {
        let epochs = try epochs(wanted.map { Self.key($0.appID, $0.userID) })
        var results = [RegisterResult](repeating: RegisterResult(), count: wanted.count)
        for (index, item) in wanted.enumerated()
        where item.userID.isEmpty || item.sessionID.isEmpty || item.loginID.isEmpty {
            results[index].failure = Failure(.malformedRequest, "a registration names user, session and Login")
        }
        var items: [[Int]] = []
        var commands: [RedisCommand] = []
        for part in parts(wanted.map { ($0.appID, $0.userID) }) {
            let good = part.items.filter { !results[$0].hasFailure }
            guard !good.isEmpty else { continue }
            var command = command(PresenceScripts.register, part.partition, now)
            command.arguments.add(PresenceLimits.leaseMS * 1000)
            for index in good { Self.add(wanted[index], known: epochs[index], to: &command.arguments) }
            items.append(good)
            commands.append(command)
        }
        return send(.register(id, wanted, results: results, items: items), commands, deadline, now)
    }

    private static func add(_ item: Registration, known: UInt64, to arguments: inout RedisArguments) {
        arguments.add(name(item.appID, item.userID))
        arguments.add(item.sessionID)
        arguments.add(item.loginID)
        arguments.add(item.platform)
        arguments.add(item.deviceID)
        arguments.add(item.site)
        arguments.add(item.keepOthers ? "1" : "0")
        arguments.add(min(item.welcomedUs, largestNumber))
        arguments.add(item.tokenEpoch)
        arguments.add(known)
        arguments.add(item.keepOthers ? PresenceLimits.multiSessionsPerUser : PresenceLimits.sessionsPerUser)
        let hash = StableHash.of(item.sessionID)
        arguments.add(bytes: (0..<8).map { UInt8(truncatingIfNeeded: hash >> (56 - 8 * UInt64($0))) })
    }

    func registered(
        _ id: CallID, _ wanted: [Registration], _ known: [RegisterResult], _ items: [[Int]], _ results: [RedisResult]
    ) -> [Action] {
        var answer = RegisterResponse()
        answer.results = known
        for (items, result) in zip(items, results) {
            guard case .reply(let reply) = result, let parts = reply.elements, parts.count == items.count else {
                for index in items { answer.results[index].failure = Self.failure(result) }
                continue
            }
            for (index, part) in zip(items, parts) {
                answer.results[index] = Self.registered(wanted[index], part.elements ?? [])
            }
        }
        return [.reply(id, .registerResponse(answer))]
    }

    private static func registered(_ item: Registration, _ part: [RedisReply]) -> RegisterResult {
        var result = RegisterResult()
        switch (part.first?.number, part.count) {
        case (0, 4):
            result.epoch = part[1].number ?? 0
            result.life = part[2].number ?? 0
            result.displaced = (part[3].elements ?? []).compactMap { entry($0, item.appID, item.userID) }
            if result.epoch > 0, result.life > 0 { return result }
        case (1, 2):
            let epoch = part[1].number ?? 0
            result.failure = Failure(
                .tokenRevoked, "tokens of epoch \(item.tokenEpoch) were revoked; the epoch is \(epoch)")
            return result
        case (2, 2):
            if let later = entry(part[1], item.appID, item.userID) {
                result.failure = item.superseded(by: later)
                return result
            }
        case (3, 1):
            let most = item.keepOthers ? PresenceLimits.multiSessionsPerUser : PresenceLimits.sessionsPerUser
            result.failure = Failure(.limitExceeded, "a user has at most \(most) sessions")
            return result
        default: break
        }
        result = RegisterResult()
        result.failure = failure(.reply(.array(part)))
        return result
    }

    /// An entry as scripts show it; nil: that is none.
    static func entry(_ reply: RedisReply, _ app: String, _ user: String) -> Registration? {
        guard let parts = reply.elements, parts.count == 9, let session = parts[0].text, let login = parts[1].text,
            let platform = parts[2].text, let device = parts[3].text, let site = parts[4].text,
            let keep = parts[5].number, let welcomed = parts[6].number, let token = parts[7].number,
            let epoch = parts[8].number
        else { return nil }
        var item = Registration()
        item.appID = app
        item.userID = user
        item.sessionID = session
        item.loginID = login
        item.platform = platform
        item.deviceID = device
        item.site = site
        item.keepOthers = keep != 0
        item.welcomedUs = welcomed
        item.tokenEpoch = token
        item.epoch = epoch
        return item
    }

    static func key(_ app: String, _ user: String) -> UserKey {
        var key = UserKey()
        key.appID = app
        key.userID = user
        return key
    }

    // MARK: looking up

    mutating func lookUp(
        _ id: CallID, _ users: [UserKey], _ deadline: UInt64, _ now: Instant
    ) throws(Failure) -> [Action] {
        // Pushes must not wait for a database that only revoking needs; Redis has the epochs too.
        let epochs = known(users)
        let parts = parts(users.map { ($0.appID, $0.userID) })
        let commands = parts.map { part in
            var command = command(PresenceScripts.lookup, part.partition, now)
            command.arguments.add(PresenceLimits.leaseMS * 1000)
            for index in part.items { command.arguments.add(Self.name(users[index].appID, users[index].userID)) }
            return command
        }
        return send(.lookup(id, users, epochs: epochs, items: parts.map(\.items)), commands, deadline, now)
    }

    /// Users of a partition that does not answer are unknown: whoever waits for them waits, and the others go on.
    func lookedUp(
        _ id: CallID, _ users: [UserKey], _ epochs: [UInt64], _ items: [[Int]], _ results: [RedisResult]
    ) -> [Action] {
        var answer = LookupResponse()
        answer.results = epochs.map { epoch in
            var result = LookupResult()
            result.state = .presenceUnknown
            result.tokenEpoch = epoch
            return result
        }
        var failed = 0
        for (items, result) in zip(items, results) {
            guard case .reply(let reply) = result, let parts = reply.elements, parts.count == items.count + 1 else {
                failed += 1
                continue
            }
            let absent: PresenceState = parts[0].number == 0 ? .presenceOffline : .presenceUnknown
            for (index, part) in zip(items, parts.dropFirst()) {
                guard let fields = part.elements, fields.count == 2 else { continue }
                let entries = (fields[1].elements ?? []).compactMap {
                    Self.entry($0, users[index].appID, users[index].userID)
                }
                answer.results[index].tokenEpoch = max(epochs[index], fields[0].number ?? 0)
                answer.results[index].registrations = entries
                answer.results[index].state = entries.isEmpty ? absent : .presenceOnline
            }
        }
        if failed > 0, failed == results.count { return [.refuse(id, Self.failure(results[0]))] }
        return [.reply(id, .lookupResponse(answer))]
    }
}
