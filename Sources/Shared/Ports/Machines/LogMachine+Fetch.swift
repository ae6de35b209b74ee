import RPC
import Wire

extension LogMachine {
    private static func isName(_ name: String) -> Bool { !name.isEmpty && name.utf8.count <= Limits.nameBytes }

    /// Answers with records, or with the new assignment when the member's generation is over, or parks.
    mutating func fetch(_ id: CallID, _ request: LogFetch, _ now: Instant) -> [RoleAction<Never>] {
        guard var log = logs.removeValue(forKey: request.log) else {
            return [.refuse(id, Self.unknownLog(request.log))]
        }
        defer { logs[request.log] = log }
        guard Self.isName(request.group), Self.isName(request.member) else {
            return [.refuse(id, Failure(.malformedRequest, "group and member have 1 to \(Limits.nameBytes) bytes"))]
        }
        if log.groups[request.group] == nil {
            guard log.groups.count < Limits.groups else {
                return [.refuse(id, Failure(.limitExceeded, "a log has at most \(Limits.groups) groups"))]
            }
            // From the clock, so that a member of an earlier life never meets its own old generation again.
            log.groups[request.group] = LogGroup(partitions: log.store.partitions, generation: now.wallMS << 10)
        }
        guard var group = log.groups[request.group] else { return [] }
        guard group.members[request.member] != nil || group.members.count < Limits.members else {
            return [.refuse(id, Failure(.limitExceeded, "a group has at most \(Limits.members) members"))]
        }
        var actions: [RoleAction<Never>] = []
        let isNew = group.called(request.member, micros: now.micros)
        log.groups[request.group] = group
        // A second fetch of the same member: the first one's caller has given up on it.
        if let stale = log.parked[request.group]?.removeValue(forKey: request.member) {
            actions.append(Self.answer(log, stale.id, stale.fetch, withRecords: false))
        }
        if isNew { actions += Self.endGeneration(&log, request.group) }
        if isNew || request.generation != group.generation {
            return actions + [.reply(id, .logFetched(Self.assigned(log, request)))]
        }
        guard request.positions.allSatisfy({ group.has(request.member, $0.partition) }) else {
            return actions + [
                .refuse(id, Failure(.forbidden, "\(request.member) asked for a partition that is not its own"))
            ]
        }
        if request.waitMs == 0 || Self.hasRecords(log, request) || Self.isOutOfRange(log, request) {
            return actions + [Self.answer(log, id, request)]
        }
        let deadline = now.micros + UInt64(min(request.waitMs, Limits.waitMS)) * 1000
        log.parked[request.group, default: [:]][request.member] = Parked(id: id, fetch: request, deadline: deadline)
        return actions + arm(deadline, now)
    }

    private mutating func arm(_ deadline: UInt64, _ now: Instant) -> [RoleAction<Never>] {
        if let armedFor, armedFor <= deadline { return [] }
        armedFor = deadline
        let wait = deadline > now.micros ? (deadline - now.micros + 999) / 1000 : 0
        return [.timer(Self.parkTimer, afterMS: UInt32(wait))]
    }

    /// Answers fetches whose wait is over.
    mutating func endParked(_ now: Instant) -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        var earliest: UInt64?
        for name in logs.keys.sorted() {
            guard var log = logs.removeValue(forKey: name) else { continue }
            for group in log.parked.keys.sorted() {
                for (member, parked) in log.parked[group, default: [:]].sorted(by: { $0.key < $1.key }) {
                    if parked.deadline <= now.micros {
                        log.parked[group]?[member] = nil
                        actions.append(Self.answer(log, parked.id, parked.fetch))
                    } else {
                        earliest = min(earliest ?? parked.deadline, parked.deadline)
                    }
                }
            }
            logs[name] = log
        }
        armedFor = nil
        return actions + (earliest.map { arm($0, now) } ?? [])
    }

    /// The group has a new generation: everybody who waits learns of it.
    static func endGeneration(_ log: inout LogState, _ group: String) -> [RoleAction<Never>] {
        let waiting = log.parked.removeValue(forKey: group) ?? [:]
        return waiting.sorted { $0.key < $1.key }.map { _, parked in
            .reply(parked.id, .logFetched(assigned(log, parked.fetch)))
        }
    }

    static func hasRecords(_ log: LogState, _ fetch: LogFetch) -> Bool {
        fetch.positions.contains { $0.offset < log.store.range(of: $0.partition).end }
    }

    private static func isOutOfRange(_ log: LogState, _ fetch: LogFetch) -> Bool {
        fetch.positions.contains { $0.offset > log.store.range(of: $0.partition).end }
    }

    private static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        var position = LogPosition()
        position.partition = partition
        position.offset = offset
        return position
    }

    private static func head(_ log: LogState, _ fetch: LogFetch) -> LogFetched {
        var answer = LogFetched()
        let group = log.groups[fetch.group]
        answer.generation = group?.generation ?? 0
        answer.incarnation = log.store.incarnation
        answer.partitions = log.store.partitions
        answer.ends = (group?.partitions(of: fetch.member) ?? []).map { position($0, log.store.range(of: $0).end) }
        return answer
    }

    /// A new generation: the member's partitions and where the group is in each.
    static func assigned(_ log: LogState, _ fetch: LogFetch) -> LogFetched {
        var answer = head(log, fetch)
        let committed = log.store.committed(fetch.group)
        answer.assigned = answer.ends.map { end in
            let start = log.store.range(of: end.partition).start
            return position(end.partition, max(start, committed[end.partition] ?? 0))
        }
        return answer
    }

    static func answer(
        _ log: LogState, _ id: CallID, _ fetch: LogFetch, withRecords: Bool = true
    ) -> RoleAction<Never> {
        var answer = head(log, fetch)
        guard withRecords else { return .reply(id, .logFetched(answer)) }
        let bytes = min(max(Int(fetch.maxBytes), Limits.fetchBytesLeast), Limits.fetchBytes)
        do throws(Failure) {
            // A position beyond the end is no reason to starve the other partitions: `ends` shows it to the member.
            let wanted = fetch.positions.filter { $0.offset <= log.store.range(of: $0.partition).end }
            answer.entries = try log.store.read(wanted, maxBytes: bytes)
            return .reply(id, .logFetched(answer))
        } catch { return .refuse(id, error) }
    }

    /// Moves the group's positions, unless the member's generation is over.
    mutating func commit(_ id: CallID, _ request: LogCommit, _ now: Instant) -> [RoleAction<Never>] {
        guard var log = logs.removeValue(forKey: request.log) else {
            return [.refuse(id, Self.unknownLog(request.log))]
        }
        defer { logs[request.log] = log }
        guard var group = log.groups[request.group], group.members[request.member] != nil else {
            return [.refuse(id, Failure(.forbidden, "\(request.member) is no member of group \(request.group)"))]
        }
        guard group.generation == request.generation else {
            let text =
                "generation \(request.generation) of group \(request.group) is over; it is now \(group.generation)"
            return [.refuse(id, Failure(.forbidden, text))]
        }
        for position in request.positions {
            guard group.has(request.member, position.partition) else {
                return [
                    .refuse(id, Failure(.forbidden, "partition \(position.partition) is not \(request.member)'s own"))
                ]
            }
            guard position.offset <= log.store.range(of: position.partition).end else {
                return [
                    .refuse(id, Failure(.limitExceeded, "a position beyond the end of partition \(position.partition)"))
                ]
            }
        }
        _ = group.called(request.member, micros: now.micros)
        log.groups[request.group] = group
        log.store.commit(request.group, request.positions)
        return [.reply(id, .done(Done()))]
    }

    func progress(_ id: CallID, _ request: LogProgressAsk) -> RoleAction<Never> {
        guard let log = logs[request.log] else { return .refuse(id, Self.unknownLog(request.log)) }
        let committed = log.store.committed(request.group)
        var answer = LogProgress()
        for partition in 0..<log.store.partitions {
            guard let offset = committed[partition] else { continue }
            var position = LogPosition()
            position.partition = partition
            position.offset = offset
            answer.committed.append(position)
        }
        return .reply(id, .logProgress(answer))
    }

    mutating func leave(_ id: CallID, _ request: LogLeave) -> [RoleAction<Never>] {
        guard var log = logs.removeValue(forKey: request.log) else {
            return [.refuse(id, Self.unknownLog(request.log))]
        }
        defer { logs[request.log] = log }
        var actions: [RoleAction<Never>] = []
        if let stale = log.parked[request.group]?.removeValue(forKey: request.member) {
            actions.append(Self.answer(log, stale.id, stale.fetch, withRecords: false))
        }
        if log.groups[request.group]?.leave(request.member) == true {
            actions += Self.endGeneration(&log, request.group)
        }
        return actions + [.reply(id, .done(Done()))]
    }
}
