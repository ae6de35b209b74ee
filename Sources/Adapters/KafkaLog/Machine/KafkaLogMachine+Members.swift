import Machinery
import Ports
import RPC
import Wire

/// Shares that come and go, and what has to be known of a partition before it is read.
extension KafkaLogMachine {
    /// The group gives partitions. They are read from the group's position on once that, and where they end, is known:
    /// a claim made with an end seen long ago would look like a log that lost its end.
    mutating func assigned(_ id: MemberID, _ partitions: [UInt32], _ now: Instant) -> [Action] {
        guard let name = name(of: id), members[name]?.leaving == nil else { return [] }
        members[name]?.owesAssign = true
        for partition in partitions.sorted() where partition < self.partitions {
            if members[name]?.pending.contains(partition) == false { members[name]?.pending.append(partition) }
        }
        guard members[name]?.pending.isEmpty == true else { return ask(name) }
        return begin(name, [], now)
    }

    /// Starts reading new partitions, or, with none, tells the group that its decision was heard.
    private mutating func begin(_ name: LogMember.Name, _ facts: [PartitionFacts], _ now: Instant) -> [Action] {
        guard let id = members[name]?.id, members[name]?.owesAssign == true else { return [] }
        members[name]?.owesAssign = false
        members[name]?.pending = []
        var places: [KafkaPlace] = []
        for fact in facts {
            let reader = PartReader(fact, version: number())
            places.append(reader.place)
            saw(fact.partition, end: fact.end)
            members[name]?.parts[fact.partition] = reader
        }
        if !facts.isEmpty || members[name]?.hasShare == false { bump(name, by: 1) }
        members[name]?.hasShare = true
        return [.output(.assign(id, places))] + answerParkedIfOver(name, now)
    }

    private mutating func answerParkedIfOver(_ name: LogMember.Name, _ now: Instant) -> [Action] {
        guard let parked = members[name]?.parked, parked.fetch.generation != members[name]?.generation else {
            return []
        }
        return answerParked(name, now)
    }

    /// The group takes partitions away. They are let go at once: what their member has under way is fenced by the
    /// store's epochs, and its positions were committed when they were handled.
    mutating func revoked(_ id: MemberID, _ partitions: [UInt32], _ now: Instant) -> [Action] {
        guard let name = name(of: id) else { return [] }
        // What was given and not begun is void: the group decides anew.
        members[name]?.owesAssign = false
        members[name]?.pending = []
        var hadAny = false
        for partition in partitions.sorted() {
            hadAny = members[name]?.parts.removeValue(forKey: partition) != nil || hadAny
        }
        var actions = letGo(.unassign(id, partitions.sorted()), now)
        if hadAny {
            bump(name, by: 1)
            if let parked = members[name]?.parked {
                members[name]?.parked = nil
                actions.append(.reply(parked.id, .logFetched(share(name))))
            }
        }
        return actions
    }

    private mutating func letGo(_ command: KafkaCommand, _ now: Instant) -> [Action] {
        guard limits.letGoMS > 0 else { return [.output(command)] }
        lettingGo.append((now.micros + UInt64(limits.letGoMS) * 1000, command))
        return [.timer(Self.letGoTimer, afterMS: limits.letGoMS)]
    }

    mutating func endLettingGo(_ now: Instant) -> [Action] {
        let over = lettingGo.prefix { $0.due <= now.micros }
        lettingGo.removeFirst(over.count)
        let rest = lettingGo.first.map { ($0.due - now.micros + 999) / 1000 }
        return over.map { .output($0.command) } + (rest.map { [.timer(Self.letGoTimer, afterMS: UInt32($0))] } ?? [])
    }

    // MARK: Questions

    /// Asks for what is not known, one question at a time.
    mutating func ask(_ name: LogMember.Name) -> [Action] {
        guard let id = members[name]?.id, members[name]?.asking == nil, members[name]?.wantsFacts == true else {
            return []
        }
        let ticket = number()
        members[name]?.asking = ticket
        let wanted = (members[name]?.partitions ?? []) + (members[name]?.pending ?? [])
        return [.output(.ask(id, ticket: ticket, wanted.sorted()))]
    }

    mutating func learned(
        _ id: MemberID, _ ticket: UInt64, _ result: Result<[PartitionFacts], Failure>, _ now: Instant
    ) -> [Action] {
        guard let name = name(of: id), members[name]?.asking == ticket else { return [] }
        members[name]?.asking = nil
        let late = members[name]?.refusedMeanwhile ?? []
        members[name]?.refusedMeanwhile = []
        guard case .success(let facts) = result else {
            guard case .failure(let failure) = result, let parked = members[name]?.parked, parked.wantsFacts else {
                return []
            }
            members[name]?.parked = nil
            return [.refuse(parked.id, failure)]
        }
        var actions: [Action] = []
        var found: [PartitionFacts] = []
        for fact in facts.sorted(by: { $0.partition < $1.partition }) {
            if members[name]?.parts[fact.partition] != nil {
                if !late.contains(fact.partition) { actions += update(name, fact) }
            } else if members[name]?.pending.contains(fact.partition) == true {
                found.append(fact)
            }
        }
        if members[name]?.hasShare == false, members[name]?.parts.isEmpty == false,
            members[name]?.parts.keys(where: { $0.isForeign }).isEmpty == true
        {
            members[name]?.hasShare = true
            actions += answerParkedIfOver(name, now)
        }
        if !found.isEmpty, found.count == members[name]?.pending.count { actions += begin(name, found, now) }
        if members[name]?.parked?.wantsFacts == true { actions += answerParked(name, now) }
        return actions + ask(name)
    }

    /// What the brokers say of a partition that is being read.
    private mutating func update(_ name: LogMember.Name, _ fact: PartitionFacts) -> [Action] {
        guard let id = members[name]?.id, let next = members[name]?.parts[fact.partition]?.next else { return [] }
        if members[name]?.parts[fact.partition]?.isForeign == true {
            let fresh = PartitionFacts(partition: fact.partition, start: fact.start, end: fact.end, committed: nil)
            let reader = PartReader(fresh, version: number())
            members[name]?.parts[fact.partition] = reader
            return [.output(.move(id, reader.place))]
        }
        members[name]?.parts[fact.partition]?.start = fact.start
        guard members[name]?.parts[fact.partition]?.isLost == true else {
            let known = members[name]?.parts[fact.partition]?.end ?? 0
            members[name]?.parts[fact.partition]?.end = max(known, fact.end)
            saw(fact.partition, end: fact.end)
            return []
        }
        members[name]?.parts[fact.partition]?.forget(at: next)
        members[name]?.parts[fact.partition]?.end = fact.end
        let values = ["log": log, "partition": "\(fact.partition)", "wanted": "\(next)", "end": "\(fact.end)"]
        members[name]?.parts[fact.partition]?.isLost = false
        members[name]?.parts[fact.partition]?.isBeyond = next > fact.end
        if next > fact.end {
            return [.warn("the log ends before what was read of it", values), .output(.verify(ends: seen))]
        }
        var actions: [Action] = []
        if next < fact.start {
            actions.append(.warn("the log no longer has what is wanted of it", values))
            members[name]?.parts[fact.partition]?.skip(to: fact.start)
        }
        let version = number()
        members[name]?.parts[fact.partition]?.version = version
        guard let place = members[name]?.parts[fact.partition]?.place else { return actions }
        return actions + [.output(.move(id, place))]
    }

    mutating func outOfRange(_ id: MemberID, _ partition: UInt32) -> [Action] {
        guard let name = name(of: id), members[name]?.parts[partition] != nil else { return [] }
        members[name]?.parts[partition]?.isLost = true
        if members[name]?.asking != nil { members[name]?.refusedMeanwhile.insert(partition) }
        return ask(name)
    }

    // MARK: Leaving

    mutating func leave(_ id: CallID, _ request: LogLeave) -> [Action] {
        guard request.log == log else { return [.refuse(id, Self.unknownLog(request.log))] }
        let name = LogMember.Name(group: request.group, member: request.member)
        guard members[name] != nil else { return [.reply(id, .done(Done()))] }
        return depart(name, waiting: [id])
    }

    mutating func depart(_ name: LogMember.Name, waiting: [CallID]) -> [Action] {
        guard let id = members[name]?.id else { return [] }
        if members[name]?.leaving != nil {
            members[name]?.leaving? += waiting
            return []
        }
        var actions: [Action] = []
        if let stale = members[name]?.parked {
            members[name]?.parked = nil
            actions.append(.refuse(stale.id, Failure(.serviceUnavailable, "\(name.member) left group \(name.group)")))
        }
        members[name]?.leaving = waiting
        members[name]?.parts = [:]
        return actions + [.output(.close(id))]
    }

    mutating func memberFailed(_ id: MemberID, _ why: String) -> [Action] {
        guard let name = name(of: id) else { return [] }
        let values = ["log": log, "group": id.group, "member": id.member, "why": why]
        return [.warn("a Kafka consumer failed; its member joins anew", values)] + depart(name, waiting: [])
    }

    mutating func closed(_ id: MemberID) -> [Action] {
        guard let name = name(of: id) else { return [] }
        let waiting = members[name]?.leaving ?? []
        members[name] = nil
        return waiting.map { .reply($0, .done(Done())) }
    }
}
