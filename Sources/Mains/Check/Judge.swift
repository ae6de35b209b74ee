/// What the audit read on fresh connections after the run.
struct Audit: Sendable, Equatable {
    struct Entry: Sendable, Equatable {
        var head: UInt64
        var unread: UInt64
    }
    /// Conversation -> member's position -> the whole history as that member sees it; nil: it could not be read.
    var histories: [[[Row]?]]
    /// Conversation -> member's position -> the conversation's entry in that member's sync; nil: it is not there.
    var entries: [[Entry?]]

    init(conversations: Int) {
        histories = Array(repeating: [nil, nil], count: conversations)
        entries = Array(repeating: [nil, nil], count: conversations)
    }
}

/// What a device has at the end.
struct DeviceReceipts: Sendable, Equatable {
    var device: Int
    var connected: Bool
    var conversations: [Int: SeqSet]
}

/// What is wrong with a run; all zeros is a clean one.
struct Verdict: Sendable, Equatable {
    var lost = 0
    var duplicated = 0
    var outOfOrder = 0
    var unreadMismatches = 0
    /// Stored although certainly refused, or never sent by this run.
    var phantom = 0
    /// Sends whose outcome is still unknown.
    var unresolved = 0
    /// Histories that could not be read back.
    var unaudited = 0
    /// Devices that could not connect again.
    var disconnected = 0
    /// Who has a wrong unread count: worth asking again a moment later, because counts follow messages.
    var wrongUnread: Set<Int> = []
    /// The first few findings in words.
    var findings: [String] = []

    var isClean: Bool {
        lost + duplicated + outOfOrder + unreadMismatches + phantom + unresolved + unaudited + disconnected == 0
    }

    static let mostFindings = 20

    mutating func find(_ words: String) {
        if findings.count < Self.mostFindings { findings.append(words) }
    }
}

/// Compares what clients saw with what is stored. Pure.
struct Judge {
    let roster: Roster
    let history: History
    let audit: Audit
    let receipts: [DeviceReceipts]
    private var verdict = Verdict()
    /// Numbers; a message that is missing in several ways is lost once.
    private var lost: Set<Int> = []

    static func verdict(roster: Roster, history: History, audit: Audit, receipts: [DeviceReceipts]) -> Verdict {
        var judge = Judge(roster: roster, history: history, audit: audit, receipts: receipts)
        return judge.run()
    }

    private init(roster: Roster, history: History, audit: Audit, receipts: [DeviceReceipts]) {
        self.roster = roster
        self.history = history
        self.audit = audit
        self.receipts = receipts
    }

    private mutating func run() -> Verdict {
        verdict.outOfOrder += history.contradictions
        verdict.unreadMismatches += history.miscounts
        verdict.unresolved = history.unresolved
        verdict.disconnected = receipts.count { !$0.connected }
        if history.contradictions > 0 { verdict.find("\(history.contradictions) places showed different messages") }
        if history.miscounts > 0 { verdict.find("\(history.miscounts) places were counted differently") }
        var accepted = Array(repeating: [Int](), count: roster.conversations.count)
        for (number, send) in history.sends.enumerated() where send.outcome == .accepted {
            accepted[Int(send.conversation)].append(number)
        }
        for conversation in roster.conversations.indices {
            stored(conversation, accepted: accepted[conversation])
            unread(conversation)
        }
        verdict.lost = lost.count
        return verdict
    }

    private mutating func stored(_ conversation: Int, accepted: [Int]) {
        var views: [[Row]] = []
        for rows in audit.histories[conversation] {
            if let rows { views.append(rows) } else { verdict.unaudited += 1 }
        }
        guard let first = views.first else { return }
        var faults = structure(conversation, first)
        for other in views.dropFirst() where other != first {
            faults.merge(structure(conversation, other))
            let differing = zip(first, other).count { $0 != $1 }
            faults.outOfOrder = max(faults.outOfOrder, differing)
            verdict.find("\(name(conversation)): the two members' histories differ")
        }
        verdict.outOfOrder += faults.outOfOrder
        verdict.duplicated += faults.duplicated
        verdict.phantom += faults.phantom
        verdict.unreadMismatches += faults.miscounted
        for rows in views {
            let there = Set(rows.compactMap(\.number))
            for number in accepted where !there.contains(number) { lose(number, "is not in the history") }
        }
        compareSeen(conversation, first)
        compareReceipts(conversation, first)
    }

    private struct Faults {
        var outOfOrder = 0
        var duplicated = 0
        var phantom = 0
        var miscounted = 0

        /// Both members see the same row: a fault in it is one fault.
        mutating func merge(_ other: Faults) {
            outOfOrder = max(outOfOrder, other.outOfOrder)
            duplicated = max(duplicated, other.duplicated)
            phantom = max(phantom, other.phantom)
            miscounted = max(miscounted, other.miscounted)
        }
    }

    /// One member's history by itself: dense, counted, in time, in every sender's order, nothing twice.
    private mutating func structure(_ conversation: Int, _ rows: [Row]) -> Faults {
        var faults = Faults()
        var before = Row(seq: 0, n: 0, timeMS: 0)
        var numbers: Set<Int> = []
        var latest: [Int: Int] = [:]
        for row in rows {
            if row.seq != before.seq + 1 || row.timeMS < before.timeMS {
                faults.outOfOrder += 1
                verdict.find("\(name(conversation)) seq \(row.seq) follows \(before.seq), times out of step or a hole")
            }
            if row.n != before.n + (row.control ? 0 : 1) {
                faults.miscounted += 1
                verdict.find("\(name(conversation)) seq \(row.seq): n \(row.n) follows \(before.n)")
            }
            before = row
            guard let number = known(conversation, row) else {
                faults.phantom += 1
                verdict.find("\(name(conversation)) seq \(row.seq): nobody sent this, or it was refused")
                continue
            }
            guard numbers.insert(number).inserted else {
                faults.duplicated += 1
                verdict.find("\(name(conversation)) seq \(row.seq): message \(number) is stored twice")
                continue
            }
            let device = Int(history.sends[number].device)
            if let last = latest[device], last > number {
                faults.outOfOrder += 1
                verdict.find("\(name(conversation)) seq \(row.seq): message \(number) was sent before \(last)")
            }
            latest[device] = max(latest[device] ?? number, number)
        }
        return faults
    }

    /// The number of a row that this run sent here and that may be stored; nil otherwise.
    private func known(_ conversation: Int, _ row: Row) -> Int? {
        guard let number = row.number, history.sends.indices.contains(number) else { return nil }
        let send = history.sends[number]
        guard Int(send.conversation) == conversation, row.device == Int(send.device) else { return nil }
        return send.outcome == .refused && !send.doubtful ? nil : number
    }

    /// What devices were shown must be what is stored.
    private mutating func compareSeen(_ conversation: Int, _ rows: [Row]) {
        var stored: [UInt64: Row] = [:]
        for row in rows { stored[row.seq] = row }
        for (seq, seen) in history.seen[conversation] {
            guard let row = stored[seq] else {
                if seen.number >= 0 { lose(Int(seen.number), "was shown at seq \(seq) and is not stored there") }
                continue
            }
            if Int32(truncatingIfNeeded: row.number ?? -1) != seen.number || row.timeMS != seen.timeMS {
                verdict.outOfOrder += 1
                verdict.find("\(name(conversation)) seq \(seq): shown \(seen.number), stored \(row.number ?? -1)")
            } else if UInt32(truncatingIfNeeded: row.n) != seen.n {
                verdict.unreadMismatches += 1
                verdict.find("\(name(conversation)) seq \(seq): shown with n \(seen.n), stored with \(row.n)")
            }
        }
    }

    /// Every device of a member that is connected has every row.
    private mutating func compareReceipts(_ conversation: Int, _ rows: [Row]) {
        for user in roster.conversations[conversation].members {
            for device in roster.devicesOf[user] where receipts[device].connected {
                let received = receipts[device].conversations[conversation] ?? SeqSet()
                for row in rows where !received.contains(row.seq) {
                    guard let number = row.number else { continue }
                    let place = "\(roster.users[user])/\(roster.devices[device].name) at seq \(row.seq)"
                    lose(number, "never reached \(place)")
                }
            }
        }
    }

    private mutating func unread(_ conversation: Int) {
        for (member, user) in roster.conversations[conversation].members.enumerated() {
            guard let rows = audit.histories[conversation][member] else { continue }
            let entry = audit.entries[conversation][member]
            if rows.isEmpty && (entry?.head ?? 0) == 0 && (entry?.unread ?? 0) == 0 { continue }
            let mine = rows.last { $0.device.map { roster.devices[$0].user } == user }?.seq ?? 0
            let most = count(rows, user, above: max(mine, history.readConfirmed[conversation][member]))
            let fewest = count(rows, user, above: max(mine, history.readAsked[conversation][member]))
            if let entry, entry.head == rows.last?.seq, (fewest...most).contains(entry.unread) { continue }
            verdict.unreadMismatches += 1
            verdict.wrongUnread.insert(user)
            let told = entry.map { "head \($0.head), unread \($0.unread)" } ?? "no entry"
            verdict.find(
                "\(name(conversation)) for \(roster.users[user]): sync says \(told); "
                    + "head \(rows.last?.seq ?? 0), unread \(most) expected")
        }
    }

    private func count(_ rows: [Row], _ user: Int, above read: UInt64) -> UInt64 {
        UInt64(
            rows.count { row in
                row.seq > read && !row.control && row.device.map { roster.devices[$0].user } != user
            })
    }

    private mutating func lose(_ number: Int, _ how: String) {
        if lost.insert(number).inserted { verdict.find("message \(number) \(how)") }
    }

    private func name(_ conversation: Int) -> String { roster.conversations[conversation].name }
}
