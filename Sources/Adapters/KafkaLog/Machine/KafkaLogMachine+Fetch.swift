import Machinery
import Ports
import RPC
import Wire

extension KafkaLogMachine {
    /// Each blocks the lane of questions for a moment.
    private static let mostProgressAsks = 16

    private static func isName(_ name: String) -> Bool { !name.isEmpty && name.utf8.count <= Limits.nameBytes }

    /// Answers with records, or with the new share when the member's generation is over, or parks.
    mutating func fetch(_ id: CallID, _ request: LogFetch, _ now: Instant) -> [Action] {
        guard request.log == log else { return [.refuse(id, Self.unknownLog(request.log))] }
        guard Self.isName(request.group), Self.isName(request.member) else {
            return [.refuse(id, Failure(.malformedRequest, "group and member have 1 to \(Limits.nameBytes) bytes"))]
        }
        let name = LogMember.Name(group: request.group, member: request.member)
        var actions: [Action] = []
        if members[name] == nil {
            guard members.count < Limits.members else {
                return [.refuse(id, Failure(.limitExceeded, "a log has at most \(Limits.members) members here"))]
            }
            actions += join(name, now)
        }
        guard members[name]?.leaving == nil else {
            return [.refuse(id, Failure(.serviceUnavailable, "\(name.member) is leaving group \(name.group)"))]
        }
        members[name]?.lastCall = now.micros
        // A second fetch of the same member: the first one's caller has given up on it.
        if let stale = members[name]?.parked {
            members[name]?.parked = nil
            actions.append(.reply(stale.id, .logFetched(head(name))))
        }
        let wait = UInt64(min(request.waitMs, Limits.waitMS))
        guard members[name]?.hasShare == true else {
            return actions + park(name, id, request, max(wait, limits.joinMS), wantsFacts: false, now)
        }
        guard request.generation == members[name]?.generation else {
            return actions + [.reply(id, .logFetched(share(name)))]
        }
        guard request.positions.allSatisfy({ members[name]?.parts[$0.partition] != nil }) else {
            let text = "\(request.member) asked for a partition that is not its own"
            return actions + [.refuse(id, Failure(.forbidden, text))]
        }
        actions += align(name, request.positions)
        if wait == 0, members[name]?.parts.isEmpty == false {
            return actions + park(name, id, request, limits.joinMS, wantsFacts: true, now) + ask(name)
        }
        let isBeyond = request.positions.contains { $0.offset > members[name]?.parts[$0.partition]?.end ?? 0 }
        actions += park(name, id, request, wait, wantsFacts: false, now)
        if wait == 0 || isBeyond || members[name]?.hasRecords(request) == true {
            actions += answerParked(name, now)
        }
        return actions
    }

    private mutating func join(_ name: LogMember.Name, _ now: Instant) -> [Action] {
        let id = MemberID(group: name.group, member: name.member, life: number())
        // From the clock, so that a member of an earlier life never meets its own old generation again.
        lastGeneration = max(now.wallMS << 10, lastGeneration + 2)
        members[name] = LogMember(id: id, generation: lastGeneration, lastCall: now.micros)
        return [.output(.join(id))]
    }

    /// Puts the reader of every wanted partition where the member wants to read.
    private mutating func align(_ name: LogMember.Name, _ wanted: [LogPosition]) -> [Action] {
        guard let id = members[name]?.id else { return [] }
        var actions: [Action] = []
        for position in wanted {
            // Beyond the end there is nothing to go to; the answer's ends tell the member.
            guard let end = members[name]?.parts[position.partition]?.end, position.offset <= end else { continue }
            if members[name]?.parts[position.partition]?.align(position.offset) == true { continue }
            let version = number()
            members[name]?.parts[position.partition]?.version = version
            guard let place = members[name]?.parts[position.partition]?.place else { continue }
            actions.append(.output(.move(id, place)))
        }
        return actions + unpause(name)
    }

    private mutating func park(
        _ name: LogMember.Name, _ id: CallID, _ fetch: LogFetch, _ waitMS: UInt64, wantsFacts: Bool, _ now: Instant
    ) -> [Action] {
        let deadline = now.micros + waitMS * 1000
        members[name]?.parked = LogMember.Parked(id: id, fetch: fetch, deadline: deadline, wantsFacts: wantsFacts)
        return arm(deadline, now)
    }

    private mutating func arm(_ deadline: UInt64, _ now: Instant) -> [Action] {
        if let armedFor, armedFor <= deadline { return [] }
        armedFor = deadline
        let wait = deadline > now.micros ? (deadline - now.micros + 999) / 1000 : 0
        return [.timer(Self.parkTimer, afterMS: UInt32(wait))]
    }

    /// Answers fetches whose wait is over.
    mutating func endParked(_ now: Instant) -> [Action] {
        var actions: [Action] = []
        var earliest: UInt64?
        for name in members.keys.sorted() {
            guard let deadline = members[name]?.parked?.deadline else { continue }
            if deadline <= now.micros {
                actions += answerParked(name, now)
            } else {
                earliest = min(earliest ?? deadline, deadline)
            }
        }
        armedFor = nil
        return actions + (earliest.map { arm($0, now) } ?? [])
    }

    /// Ends the wait of a member's fetch: with its share when that has changed, with records otherwise.
    mutating func answerParked(_ name: LogMember.Name, _ now: Instant) -> [Action] {
        guard let parked = members[name]?.parked else { return [] }
        members[name]?.parked = nil
        members[name]?.lastCall = now.micros
        if parked.wantsFacts, parked.deadline <= now.micros {
            return [.refuse(parked.id, Failure(.storeUnavailable, "the brokers do not say where the log ends"))]
        }
        guard parked.fetch.generation == members[name]?.generation else {
            return [.reply(parked.id, .logFetched(share(name)))]
        }
        let bytes = min(max(Int(parked.fetch.maxBytes), Limits.fetchBytesLeast), Limits.fetchBytes)
        let entries = members[name]?.take(parked.fetch.positions, maxBytes: bytes) ?? []
        var answer = head(name)
        answer.entries = entries
        return [.reply(parked.id, .logFetched(answer))] + unpause(name)
    }

    private func head(_ name: LogMember.Name) -> LogFetched {
        var answer = LogFetched()
        answer.generation = members[name]?.generation ?? 0
        answer.incarnation = incarnation
        answer.partitions = partitions
        answer.ends = members[name]?.ends() ?? []
        return answer
    }

    /// A new generation: the member's partitions and where the group is in each.
    func share(_ name: LogMember.Name) -> LogFetched {
        var answer = head(name)
        answer.assigned = members[name]?.shares() ?? []
        return answer
    }

    // MARK: Records

    mutating func took(_ id: MemberID, _ runs: [KafkaRun]) -> [Action] {
        guard let name = name(of: id) else { return [] }
        for run in runs {
            members[name]?.parts[run.partition]?.append(run)
            if let end = members[name]?.parts[run.partition]?.end { saw(run.partition, end: end) }
        }
        members[name]?.hasNews = true
        let limit = aheadLimit(name)
        let full = members[name]?.parts.keys(where: { !$0.isPaused && $0.bytes > limit }).sorted() ?? []
        guard !full.isEmpty else { return [] }
        for partition in full { members[name]?.parts[partition]?.isPaused = true }
        return [.output(.pause(id, full))]
    }

    private mutating func unpause(_ name: LogMember.Name) -> [Action] {
        let limit = aheadLimit(name) / 2
        guard let id = members[name]?.id,
            let ready = members[name]?.parts.keys(where: { $0.isPaused && $0.bytes <= limit }).sorted(), !ready.isEmpty
        else { return [] }
        for partition in ready { members[name]?.parts[partition]?.isPaused = false }
        return [.output(.resume(id, ready))]
    }

    private func aheadLimit(_ name: LogMember.Name) -> Int {
        max(LogLimits.recordBytes / 4, limits.aheadBytes / max(1, members[name]?.parts.count ?? 1))
    }

    // MARK: Positions

    /// Moves the group's positions, unless the member's generation is over.
    mutating func commit(_ id: CallID, _ request: LogCommit, _ now: Instant) -> [Action] {
        guard request.log == log else { return [.refuse(id, Self.unknownLog(request.log))] }
        let name = LogMember.Name(group: request.group, member: request.member)
        guard let member = members[name]?.id, members[name]?.leaving == nil, members[name]?.hasShare == true else {
            return [.refuse(id, Failure(.forbidden, "\(request.member) is no member of group \(request.group)"))]
        }
        guard let generation = members[name]?.generation, generation == request.generation else {
            let text = "generation \(request.generation) of group \(request.group) is over"
            return [.refuse(id, Failure(.forbidden, text))]
        }
        var moved: [LogPosition] = []
        for position in request.positions {
            guard let end = members[name]?.parts[position.partition]?.end else {
                let text = "partition \(position.partition) is not \(request.member)'s own"
                return [.refuse(id, Failure(.forbidden, text))]
            }
            guard position.offset <= end else {
                let text = "a position beyond the end of partition \(position.partition)"
                return [.refuse(id, Failure(.limitExceeded, text))]
            }
            if position.offset > members[name]?.parts[position.partition]?.committed ?? 0 { moved.append(position) }
        }
        members[name]?.lastCall = now.micros
        guard !moved.isEmpty else { return [.reply(id, .done(Done()))] }
        let token = number()
        commits[token] = (id, name, member.life, moved)
        return [.output(.commit(member, token: token, moved))]
    }

    mutating func committed(_ token: UInt64, _ failure: Failure?) -> [Action] {
        guard let commit = commits.removeValue(forKey: token) else { return [] }
        if let failure { return [.refuse(commit.call, failure)] }
        if members[commit.name]?.id.life == commit.life {
            for position in commit.positions {
                guard let known = members[commit.name]?.parts[position.partition]?.committed else { continue }
                members[commit.name]?.parts[position.partition]?.committed = max(known, position.offset)
            }
        }
        return [.reply(commit.call, .done(Done()))]
    }

    // MARK: Progress

    /// Where a group is, asked by anybody: the coordinator knows.
    mutating func progress(_ id: CallID, _ request: LogProgressAsk) -> [Action] {
        guard request.log == log else { return [.refuse(id, Self.unknownLog(request.log))] }
        guard Self.isName(request.group) else {
            return [.refuse(id, Failure(.malformedRequest, "a group has 1 to \(Limits.nameBytes) bytes"))]
        }
        guard progressAsks.count < Self.mostProgressAsks else {
            return [.refuse(id, Failure(.overloaded, "\(progressAsks.count) questions for positions wait for Kafka"))]
        }
        let ticket = number()
        progressAsks[ticket] = id
        return [.output(.askProgress(ticket: ticket, group: request.group))]
    }

    mutating func progressed(_ ticket: UInt64, _ result: Result<[LogPosition], Failure>) -> [Action] {
        guard let id = progressAsks.removeValue(forKey: ticket) else { return [] }
        switch result {
        case .failure(let failure): return [.refuse(id, failure)]
        case .success(let positions):
            var answer = LogProgress()
            answer.committed = positions
            return [.reply(id, .logProgress(answer))]
        }
    }
}
