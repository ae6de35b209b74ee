import Machinery
import RPC
import Wire

/// An entry of the user index.
struct EntryKey: Hashable, Sendable {
    let app: String
    let user: String
    let conversation: String
}

/// Who waits for a write.
enum Waiter: Sendable, Equatable {
    case touch(PartedCalls<Part>.Slot)
    case state(job: UInt64, index: Int)
}

/// Changes of one entry, merged: seqs by maximum, everything else the latest.
struct EntryChange: Sendable {
    var change = IndexChange()
    var waiters: [Waiter] = []
    /// Sessions whose set_state is in it; "" for calls without one.
    var sessions: Set<String> = []

    init(_ key: EntryKey) {
        change.appID = key.app
        change.userID = key.user
        change.change.conversation = key.conversation
    }

    var hasHint: Bool { !sessions.isEmpty }

    mutating func merge(_ later: EntryChange) {
        let new = later.change.change
        change.change.readSeq = max(change.change.readSeq, new.readSeq)
        change.change.deliveredSeq = max(change.change.deliveredSeq, new.deliveredSeq)
        change.change.clearedSeq = max(change.change.clearedSeq, new.clearedSeq)
        if new.hasPinned { change.change.pinned = new.pinned }
        if new.hasMuted { change.change.muted = new.muted }
        if new.hasDraft { change.change.draft = new.draft }
        // The first joined_seq is the one that an entry is created with.
        if change.joinedSeq == 0 { change.joinedSeq = later.change.joinedSeq }
        if change.peer.isEmpty { change.peer = later.change.peer }
        change.create = change.create || later.change.create
        waiters += later.waiters
        sessions.formUnion(later.sessions)
    }

    /// The row as it will be once this is written.
    func apply(to row: inout IndexRow) {
        let new = change.change
        row.readSeq = max(row.readSeq, new.readSeq)
        row.deliveredSeq = max(row.deliveredSeq, new.deliveredSeq)
        row.clearedSeq = max(row.clearedSeq, new.clearedSeq)
        if new.hasPinned { row.pinned = new.pinned }
        if new.hasMuted { row.muted = new.muted }
        if new.hasDraft { row.draft = new.draft }
    }
}

/// What waits to be written to the user index: one write a second per entry, one under way at a time, creations at
/// once.
struct StateWriter: Sendable {
    private struct Entry: Sendable {
        var pending: EntryChange?
        var flying: EntryChange?
        /// The next write may start then.
        var notBefore: UInt64 = 0
        /// In `ready` or `later` already.
        var queued = false
    }

    private let coalesceMicros: UInt64
    private var entries: [EntryKey: Entry] = [:]
    private var ready: [EntryKey] = []
    /// In the order in which they are due: the wait is the same for all.
    private var later: [(at: UInt64, key: EntryKey)] = []
    private var cooling: [(at: UInt64, key: EntryKey)] = []
    /// Entries that certainly exist: a touch of one of them creates nothing and may wait.
    private var known: BoundedCache<EntryKey, Bool>

    init(coalesceMS: UInt32, knownEntries: Int) {
        coalesceMicros = UInt64(coalesceMS) * 1000
        known = BoundedCache(limit: knownEntries)
    }

    var needsTick: Bool { !later.isEmpty || !cooling.isEmpty }
    var count: Int { entries.count }

    mutating func add(_ key: EntryKey, _ change: EntryChange, now: UInt64) {
        var entry = entries[key] ?? Entry()
        if entry.pending == nil { entry.pending = change } else { entry.pending?.merge(change) }
        let isUrgent = change.change.create && known[key] == nil
        if entry.flying == nil, !entry.queued || isUrgent { queue(key, &entry, now, isUrgent) }
        entries[key] = entry
    }

    private mutating func queue(_ key: EntryKey, _ entry: inout Entry, _ now: UInt64, _ isUrgent: Bool) {
        entry.queued = true
        if isUrgent || now >= entry.notBefore { ready.append(key) } else { later.append((entry.notBefore, key)) }
    }

    /// Moves to `ready` what is due, and forgets entries that have cooled down.
    mutating func tick(now: UInt64) {
        let due = later.prefix { $0.at <= now }
        ready += due.map(\.key)
        later.removeFirst(due.count)
        let cold = cooling.prefix { $0.at <= now }
        for item in cold {
            guard let entry = entries[item.key], entry.pending == nil, entry.flying == nil, entry.notBefore <= now
            else { continue }
            entries[item.key] = nil
        }
        cooling.removeFirst(cold.count)
    }

    /// What is to be written now.
    mutating func take(now: UInt64) -> [(key: EntryKey, change: EntryChange)] {
        guard !ready.isEmpty else { return [] }
        let keys = ready
        ready = []
        return keys.compactMap { key in
            guard var entry = entries[key], entry.flying == nil, let change = entry.pending else { return nil }
            guard now >= entry.notBefore || (change.change.create && known[key] == nil) else {
                // Urgent and written since it was queued; what came after that waits its turn.
                later.append((entry.notBefore, key))
                entries[key]?.queued = true
                return nil
            }
            entry.flying = change
            entry.pending = nil
            entry.queued = false
            entry.notBefore = now + coalesceMicros
            entries[key] = entry
            return (key, change)
        }
    }

    /// A write has ended; `exists` when its row is in the index now.
    mutating func landed(_ key: EntryKey, exists: Bool, now: UInt64) {
        if exists { known[key] = true }
        guard var entry = entries[key] else { return }
        entry.flying = nil
        if let pending = entry.pending {
            if !entry.queued { queue(key, &entry, now, pending.change.create && !exists) }
        } else {
            cooling.append((max(now, entry.notBefore), key))
        }
        entries[key] = entry
    }

    /// The row with what is not written yet.
    func overlay(_ row: inout IndexRow, _ app: String, _ user: String) {
        guard !entries.isEmpty,
            let entry = entries[EntryKey(app: app, user: user, conversation: row.conversation)]
        else { return }
        entry.flying?.apply(to: &row)
        entry.pending?.apply(to: &row)
    }
}
