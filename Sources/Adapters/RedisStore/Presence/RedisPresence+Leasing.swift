import Identity
import Ports
import RPC
import Wire

/// Leases: one part in every partition, answered as one.
extension RedisPresenceMachine {
    mutating func lease(
        _ id: CallID, _ request: LeaseRequest, _ deadline: UInt64, _ now: Instant
    ) throws(Failure) -> [Action] {
        guard !request.loginID.isEmpty else { throw Failure(.malformedRequest, "a lease names its Login") }
        let wanted =
            request.leaseMs == 0 ? PresenceLimits.leaseMS : min(request.leaseMs, PresenceLimits.longestLeaseMS)
        let commands = (0..<tags.count).map { partition in
            var command = command(PresenceScripts.lease, partition, now)
            command.arguments.add(request.loginID)
            command.arguments.add(wanted * 1000)
            for slice in request.show.prefix(PresenceLimits.shownSlices) { command.arguments.add(slice) }
            return command
        }
        return send(.lease(id, request, deadline: deadline), commands, deadline, now)
    }

    /// Without all parts nobody can say what the Login has here, and what is missing would look lost. The parts that
    /// were reached are renewed all the same.
    mutating func leased(
        _ id: CallID, _ request: LeaseRequest, _ deadline: UInt64, _ results: [RedisResult], _ now: Instant
    ) -> [Action] {
        var parts: [LeaseLives.Part] = []
        var answer = LeaseResponse()
        var sums = [UInt64](repeating: 0, count: SessionSlices.count)
        for result in results {
            guard case .reply(let reply) = result, let fields = reply.elements, fields.count == 4,
                let life = fields[0].number, let kind = fields[1].number.flatMap(LeaseLives.Kind.init(rawValue:)),
                case .bytes(let packed) = fields[2]
            else { return [.refuse(id, Self.failure(result))] }
            parts.append(LeaseLives.Part(life: life, kind: kind))
            Self.add(packed, to: &sums)
            for shown in fields[3].elements ?? [] {
                guard let both = shown.elements, both.count == 2, let name = both[0].text,
                    let colon = name.firstIndex(of: ":"),
                    let entry = Self.entry(
                        both[1], String(name[..<colon]), String(name[name.index(after: colon)...]))
                else { continue }
                answer.shown.append(entry)
            }
        }
        answer.shown.sort { $0.sessionID < $1.sessionID }
        answer.slices = sums
        let verdict = LeaseLives.judge(parts)
        answer.life = verdict.life
        let commands = verdict.adopt.map { partition in
            var command = command(PresenceScripts.adopt, partition, now)
            command.arguments.add(request.loginID)
            command.arguments.add(parts[partition].life)
            command.arguments.add(verdict.life)
            return command
        }
        return send(.adopt(id, answer), commands, deadline, now)
    }

    /// A life that not every part has is not said: the next lease finds the parts as they are.
    func adopted(_ id: CallID, _ answer: LeaseResponse, _ results: [RedisResult]) -> [Action] {
        for result in results where result != .reply(.integer(1)) {
            let why = Failure(.storeUnavailable, "the lease has changed meanwhile", retryAfterMS: 1000)
            return [.refuse(id, result == .reply(.integer(0)) ? why : Self.failure(result))]
        }
        return [.reply(id, .leaseResponse(answer))]
    }

    /// Adds the sums of a part: eight bytes each, high byte first; what is missing at the end is 0.
    static func add(_ packed: [UInt8], to sums: inout [UInt64]) {
        for slice in 0..<min(sums.count, packed.count / 8) {
            let value = packed[(slice * 8)..<(slice * 8 + 8)].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            sums[slice] &+= value
        }
    }
}
