import Machinery
import RPC
import Wire

/// Consuming the log: membership by fetching, rebalancing, and the positions.
extension PushServerMachine {
    /// The next fetch, unless one is under way. It goes on while records are unsettled; a partition whose window is
    /// full is left out, and a fetch without any keeps the membership alive.
    mutating func startFetch() -> RoleAction<Never>? {
        guard fetchToken == nil, !fetchPaused, !hasLeft else { return nil }
        var fetch = LogFetch()
        fetch.log = config.log
        fetch.group = config.group
        fetch.member = config.member
        fetch.generation = generation
        fetch.maxBytes = config.fetchBytes
        var full = windows.reduce(0) { $0 + $1.bytes } >= config.windowBytes
        if !full {
            for partition in windows.keys.sorted() {
                guard let count = windows[partition]?.count, count < config.windowRecords else {
                    full = true
                    continue
                }
                fetch.positions.append(Self.position(partition, windows[partition]?.next ?? 0))
            }
        }
        fetch.waitMs = full ? config.fullWaitMS : config.fetchWaitMS
        let token = takeToken()
        fetchToken = token
        return .call(
            token, .any(.pushLog), .logFetch(fetch), timeoutMS: fetch.waitMs + config.fetchTimeoutMS)
    }

    /// Leaves the group, so that others need not wait until its silence has lasted. What is not settled they expand
    /// again.
    mutating func leave(_ id: CallID) -> RoleAction<Never> {
        hasLeft = true
        var body = LogLeave()
        body.log = config.log
        body.group = config.group
        body.member = config.member
        let token = takeToken()
        leaving = (token, id)
        return .call(token, .any(.pushLog), .logLeave(body), timeoutMS: config.fetchTimeoutMS)
    }

    mutating func left(_ result: CallResult) -> [RoleAction<Never>] {
        guard let id = leaving?.id else { return [] }
        leaving = nil
        switch result {
        case .answered: return [.reply(id, .done(Done()))]
        case .refused(let failure), .unknown(let failure): return [.refuse(id, failure)]
        }
    }

    mutating func fetched(_ result: CallResult, _ now: Instant) -> [RoleAction<Never>] {
        fetchToken = nil
        guard case .answered(.logFetched(let body)) = result else {
            fetchFailures += 1
            fetchPaused = true
            return [.timer(Timer.fetch, afterMS: UInt32(delayMS(attempts: fetchFailures)))]
        }
        fetchFailures = 0
        var actions: [RoleAction<Never>] = []
        if let known = incarnation, known != body.incarnation {
            // Another log under the same name: offsets of the old one mean nothing. Connections that the loss
            // concerns sync by themselves (ARCHITECTURE, section 3.5).
            actions.append(.warn("push log was replaced", ["log": config.log, "incarnation": "\(body.incarnation)"]))
            windows = [:]
            commit = nil
            incarnation = body.incarnation
            // Join again to learn where the new log's positions are.
            guard !body.assigned.isEmpty else {
                generation = 0
                return actions
            }
        }
        incarnation = body.incarnation
        if body.generation != generation || (windows.isEmpty && !body.assigned.isEmpty) { rebalance(body) }
        for entry in body.entries { take(entry, &actions) }
        return actions
    }

    /// A new generation: partitions that stay keep their windows, others start at the group's position.
    private mutating func rebalance(_ body: LogFetched) {
        generation = body.generation
        var kept: SlotTable<UInt32, PartitionWindow> = [:]
        for position in body.assigned {
            if var window = windows[position.partition] {
                window.fastForward(position.offset)
                kept[position.partition] = window
            } else {
                kept[position.partition] = PartitionWindow(life: nextLife, start: position.offset)
                nextLife += 1
            }
        }
        windows = kept
    }

    private mutating func take(_ entry: LogEntry, _ actions: inout [RoleAction<Never>]) {
        // Entries of a partition that just went away, that are behind us, or beyond the window: the latter come
        // again. Only numbers are taken out of the window here: a copy of it would make the append below copy its
        // records.
        let taken = windows.change(entry.partition) { window in
            window.takes(entry.offset) && window.count < config.windowRecords ? window.life : nil
        }
        guard let life = taken else { return }
        guard let record = try? PushRecord(serializedBytes: entry.record) else {
            actions.append(
                .warn("push record does not decode", ["partition": "\(entry.partition)", "offset": "\(entry.offset)"]))
            windows[entry.partition]?.skip(entry.offset)
            return
        }
        if !record.traceID.isEmpty { actions.append(.trace(record.traceID, hop: "pushserver")) }
        let members = record.members
        guard !members.isEmpty else {
            windows[entry.partition]?.skip(entry.offset)
            return
        }
        var slot = PartitionWindow.Slot(
            offset: entry.offset, bytes: entry.record.count, record: record, waiting: members)
        slot.queued = true
        guard let serial = windows.change(entry.partition, { $0.append(slot) }) else { return }
        expansion.append(RecordKey(partition: entry.partition, life: life, serial: serial))
    }

    mutating func startCommit(_ now: Instant) -> RoleAction<Never>? {
        guard commit == nil, now.micros >= nextCommitMicros else { return nil }
        var moved: [LogPosition] = []
        for partition in windows.keys(where: { $0.uncommitted }).sorted() {
            moved.append(Self.position(partition, windows[partition]?.position ?? 0))
        }
        guard !moved.isEmpty else { return nil }
        nextCommitMicros = now.micros + UInt64(config.commitEveryMS) * 1000
        var body = LogCommit()
        body.log = config.log
        body.group = config.group
        body.member = config.member
        body.generation = generation
        body.positions = moved
        let token = takeToken()
        commit = (token, moved)
        return .call(token, .any(.pushLog), .logCommit(body), timeoutMS: config.commitTimeoutMS)
    }

    /// A refused or unknown commit is made again with the next one: positions only grow.
    mutating func committed(_ result: CallResult, _ now: Instant) {
        guard let commit else { return }
        self.commit = nil
        guard case .answered(.done(let done)) = result else { return }
        for (index, position) in commit.positions.enumerated() {
            if index < done.failures.count, done.failures[index].code != 0 { continue }
            windows[position.partition]?.confirm(position.offset)
        }
    }

    static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        var position = LogPosition()
        position.partition = partition
        position.offset = offset
        return position
    }

    /// 300 ms, doubling, at most 5 s.
    func delayMS(attempts: Int) -> UInt64 {
        min(config.retryMostMS, config.retryFirstMS << UInt64(min(max(attempts - 1, 0), 16)))
    }
}
