/// Everything that happened in a run, as the clients saw it. Pure: time comes with the events. About a hundred bytes
/// per message, for the length of the run.
struct History: Sendable {
    enum Outcome: UInt8, Sendable { case open, refused, accepted }

    struct Send: Sendable {
        var device: Int32
        var conversation: Int32
        /// When it was first written; 0 before.
        var sentMicros: UInt64 = 0
        var outcome = Outcome.open
        /// At some time its outcome was not certain: it may be stored although a later answer refused it.
        var doubtful = false
        /// Some device of the other member has it.
        var arrived = false
    }

    /// What devices were shown at a place, by whichever of them saw it first.
    struct Seen: Sendable, Equatable {
        var number: Int32
        var n: UInt32
        var timeMS: UInt64
    }

    enum Channel: Sendable { case push, notice, repair }

    private(set) var sends: [Send] = []
    /// Conversation -> seq -> what was shown there.
    private(set) var seen: [[UInt64: Seen]]
    /// Conversation -> member's position -> the highest read seq that the server confirmed, and that was asked for.
    private(set) var readConfirmed: [[UInt64]]
    private(set) var readAsked: [[UInt64]]
    private(set) var acceptedIn: [Int]
    private(set) var acked = 0
    private(set) var refused = 0
    /// Why sends were refused for good, by the failure's reason.
    private(set) var refusals: [String: Int] = [:]
    private(set) var delivered = 0
    private(set) var redelivered = 0
    /// Two devices, or one device twice, were shown different things at one place.
    private(set) var contradictions = 0
    private(set) var miscounts = 0
    private(set) var foreign = 0
    var latency = Quantiles()
    var ackLatency = Quantiles()
    private let members: [[Int]]
    private let userOf: [Int]

    init(roster: Roster) {
        seen = Array(repeating: [:], count: roster.conversations.count)
        acceptedIn = Array(repeating: 0, count: roster.conversations.count)
        readConfirmed = Array(repeating: [0, 0], count: roster.conversations.count)
        readAsked = readConfirmed
        members = roster.conversations.map(\.members)
        userOf = roster.devices.map(\.user)
    }

    /// A device wants to send; the number is the message's name from now on, growing in send order.
    mutating func offered(device: Int, conversation: Int) -> Int {
        sends.append(Send(device: Int32(device), conversation: Int32(conversation)))
        return sends.count - 1
    }

    mutating func written(_ number: Int, now: UInt64) {
        if sends[number].sentMicros == 0 { sends[number].sentMicros = max(1, now) }
    }

    mutating func accepted(_ number: Int, now: UInt64) {
        guard sends[number].outcome != .accepted else { return }
        if sends[number].outcome == .refused { refused -= 1 }
        sends[number].outcome = .accepted
        acked += 1
        acceptedIn[Int(sends[number].conversation)] += 1
        ackLatency.add(now &- sends[number].sentMicros)
    }

    mutating func refused(_ number: Int, reason: String) {
        guard sends[number].outcome == .open else { return }
        refusals[reason, default: 0] += 1
        sends[number].outcome = .refused
        refused += 1
    }

    mutating func doubted(_ number: Int) { sends[number].doubtful = true }

    /// A device received what stands at a place. `isNew`: for the first time. `onlineSince` is that of its connection.
    mutating func received(
        device: Int, conversation: Int, row: Row, isNew: Bool, by channel: Channel, onlineSince: UInt64, now: UInt64
    ) {
        if !isNew && channel != .repair { redelivered += 1 }
        let number = row.number ?? -1
        if number < 0 && isNew { foreign += 1 }
        note(conversation, row, number)
        guard isNew, sends.indices.contains(number) else { return }
        let send = sends[number]
        guard Int(send.device) != device else { return }
        delivered += 1
        guard !send.arrived, userOf[device] != userOf[Int(send.device)] else { return }
        sends[number].arrived = true
        if onlineSince <= send.sentMicros { latency.add(now &- send.sentMicros) }
    }

    private mutating func note(_ conversation: Int, _ row: Row, _ number: Int) {
        let now = Seen(
            number: Int32(truncatingIfNeeded: number), n: UInt32(truncatingIfNeeded: row.n), timeMS: row.timeMS)
        guard let before = seen[conversation][row.seq] else {
            seen[conversation][row.seq] = now
            return
        }
        if before.number != now.number || before.timeMS != now.timeMS { contradictions += 1 }
        if before.n != now.n { miscounts += 1 }
    }

    mutating func askedRead(user: Int, conversation: Int, seq: UInt64) {
        guard let member = members[conversation].firstIndex(of: user) else { return }
        readAsked[conversation][member] = max(readAsked[conversation][member], seq)
    }

    mutating func confirmedRead(user: Int, conversation: Int, seq: UInt64) {
        guard let member = members[conversation].firstIndex(of: user) else { return }
        readConfirmed[conversation][member] = max(readConfirmed[conversation][member], seq)
    }

    var unresolved: Int { sends.count - acked - refused }
}

/// Times in microseconds, kept exactly (4 bytes each) until asked.
struct Quantiles: Sendable, Equatable {
    private var values: [UInt32] = []

    mutating func add(_ micros: UInt64) { values.append(UInt32(clamping: micros)) }

    /// The asked shares (0 to 1) in milliseconds; zeros when there are no values.
    func milliseconds(_ shares: [Double]) -> [Double] {
        guard !values.isEmpty else { return shares.map { _ in 0 } }
        let sorted = values.sorted()
        return shares.map { share in
            let rank = min(sorted.count - 1, max(0, Int((share * Double(sorted.count)).rounded(.up)) - 1))
            return Double(sorted[rank]) / 1000
        }
    }
}

/// Which seqs of a conversation a device has: a dense prefix and what came ahead of it.
struct SeqSet: Sendable, Equatable {
    private(set) var dense: UInt64 = 0
    private(set) var ahead: Set<UInt64> = []

    /// True when it is new.
    mutating func insert(_ seq: UInt64) -> Bool {
        guard !contains(seq) else { return false }
        if seq == dense + 1 {
            dense = seq
            while !ahead.isEmpty, ahead.remove(dense + 1) != nil { dense += 1 }
        } else {
            ahead.insert(seq)
        }
        return true
    }

    func contains(_ seq: UInt64) -> Bool { seq <= dense || ahead.contains(seq) }
}
