import Machinery
import NIOCore
import Wire

/// Who waits for a target of a delivery: a call, and the target's place in it.
struct Waiter: Sendable, Equatable {
    let call: CallKey
    let item: Int32
    let target: Int32
    let sender: Bool

    typealias CallKey = UInt64
}

/// What one session was sent and has not acknowledged, in push-id order. Ids are given when frames are written, once
/// per flush: first one SEQ_NOTICE for all the places learned since the last, then the pushes.
struct PushWindow: Sendable {
    struct Entry: Sendable {
        /// 0: not written yet.
        var pushID: UInt32 = 0
        let notice: Bool
        let conversation: String
        let seq: UInt64
        /// The frame's body; empty in all but the first of the entries that share a notice.
        var body: ByteBuffer
        /// For a notice that is not written yet.
        var stored: SeqNotice.Stored?
        var waiter: Waiter?
        var more: [Waiter] = []
        var sentMicros: UInt64 = 0
        var skipped = false
    }

    enum Ack: Equatable {
        case settled
        /// Nothing new.
        case old
        /// An id that was never sent.
        case impossible
    }

    private(set) var entries: [Entry] = []
    private(set) var bytes = 0
    /// Entries at the end that are not written yet.
    private var unwritten = 0
    private var lastID: UInt32 = 0
    private var ackedID: UInt32 = 0
    private var repeats: UInt64 = 0
    private var lastRepeatMicros: UInt64 = 0
    /// How long this client takes to acknowledge, smoothed as TCP smooths its round-trip time (RFC 6298); 0: not known.
    private var ackMicros: UInt64 = 0
    /// Test faults only: a push that waits for the next one to pass it.
    @Seldom private var swapped: Entry?

    var isEmpty: Bool { entries.isEmpty }
    /// The session has used up its ids and must be opened anew.
    var exhausted: Bool { lastID >= UInt32.max - 1024 }

    func hasRoom(_ config: LoginConfig) -> Bool {
        entries.count < config.pushWindow && bytes < config.pushWindowBytes
    }

    /// Lets a waiter wait for the same message, if it is in the window.
    mutating func join(_ conversation: String, _ seq: UInt64, notice: Bool, _ waiter: Waiter) -> Bool {
        guard
            let index = entries.firstIndex(where: {
                $0.seq == seq && $0.notice == notice && $0.conversation == conversation
            })
        else { return false }
        if entries[index].waiter == nil {
            entries[index].waiter = waiter
        } else {
            entries[index].more.append(waiter)
        }
        return true
    }

    mutating func push(_ message: PushedMessage, body: ByteBuffer, _ waiter: Waiter?, skipped: Bool = false) {
        append(
            Entry(
                notice: false, conversation: message.conversation, seq: message.seq, body: body, waiter: waiter,
                skipped: skipped))
        if let entry = swapped {
            swapped = nil
            append(entry)
        }
    }

    mutating func notice(_ stored: SeqNotice.Stored, _ waiter: Waiter) {
        append(
            Entry(
                notice: true, conversation: stored.conversation, seq: stored.seq, body: ByteBuffer(), stored: stored,
                waiter: waiter))
    }

    /// Test faults only: it goes out behind the next push.
    mutating func swapWithNext(_ message: PushedMessage, body: ByteBuffer, _ waiter: Waiter?) {
        swapped = Entry(
            notice: false, conversation: message.conversation, seq: message.seq, body: body, waiter: waiter)
    }

    private mutating func append(_ entry: Entry) {
        bytes += entry.body.readableBytes
        entries.append(entry)
        unwritten += 1
    }

    /// Adds the frames of what came since the last time, in the order of their new ids.
    mutating func write(_ frames: inout [Frame], now: UInt64) {
        guard unwritten > 0 else { return }
        if unwritten == entries.count { lastRepeatMicros = now }
        let first = entries.count - unwritten
        unwritten = 0
        let notices = entries[first...].reduce(0) { $0 + ($1.notice ? 1 : 0) }
        if notices > 0 {
            if notices < entries.count - first { putNoticesFirst(from: first) }
            frames.append(number(noticesFrom: first, to: first + notices, now: now))
        }
        for index in first + notices..<entries.count {
            lastID += 1
            entries[index].pushID = lastID
            entries[index].sentMicros = now
            if !entries[index].skipped { frames.append(.push(pushID: lastID, entries[index].body)) }
        }
    }

    private mutating func putNoticesFirst(from first: Int) {
        let fresh = entries[first...]
        entries.replaceSubrange(first..., with: fresh.filter(\.notice) + fresh.filter { !$0.notice })
    }

    /// One frame for all of them: the first keeps its body.
    private mutating func number(noticesFrom first: Int, to end: Int, now: UInt64) -> Frame {
        lastID += 1
        var notice = SeqNotice()
        notice.stored = entries[first..<end].compactMap(\.stored)
        let body = notice.buffer
        bytes += body.readableBytes
        for index in first..<end {
            entries[index].stored = nil
            entries[index].pushID = lastID
            entries[index].sentMicros = now
        }
        entries[first].body = body
        return .seqNotice(pushID: lastID, body)
    }

    /// Takes everything up to the id out; `settle` gets those who waited.
    mutating func acknowledge(_ id: UInt32, now: UInt64, settle: (Waiter) -> Void) -> Ack {
        guard id <= lastID else { return .impossible }
        guard id > ackedID else { return .old }
        ackedID = id
        learn(now: now)
        let count = entries.firstIndex { $0.pushID == 0 || $0.pushID > id } ?? entries.count
        for entry in entries[..<count] {
            bytes -= entry.body.readableBytes
            if let waiter = entry.waiter { settle(waiter) }
            for waiter in entry.more { settle(waiter) }
        }
        if count == entries.count {
            entries = []
        } else {
            entries.removeFirst(count)
        }
        repeats = 0
        lastRepeatMicros = now
        return .settled
    }

    /// What was written more than once tells nothing: the acknowledgement may be for any of them (Karn's algorithm).
    private mutating func learn(now: UInt64) {
        guard repeats == 0, let first = entries.first, first.pushID > 0 else { return }
        let sample = now - min(now, first.sentMicros)
        ackMicros = ackMicros == 0 ? sample : (7 * ackMicros + sample) / 8
    }

    /// The session is over: everybody who waited.
    mutating func giveUp() -> [Waiter] {
        let waiters = (entries + [swapped].compactMap { $0 }).flatMap { entry in
            [entry.waiter].compactMap { $0 } + entry.more
        }
        self = PushWindow()
        return waiters
    }

    /// When the oldest written frame has to be acknowledged; nil when there is none.
    func ackDueMicros(_ config: LoginConfig) -> UInt64? {
        guard let first = entries.first, first.pushID > 0 else { return nil }
        return first.sentMicros + config.pushAckTimeoutMS * 1000
    }

    /// When unacknowledged frames are to be written again; nil when there are none. Never before the client had twice
    /// the time that it usually takes: repeating to those that are merely slow makes everybody slower.
    func repeatDueMicros(_ config: LoginConfig) -> UInt64? {
        guard let first = entries.first, first.pushID > 0 else { return nil }
        let firstMS = max(config.pushRepeatMS, 2 * ackMicros / 1000)
        let waitMS = min(firstMS << min(repeats, 16), config.pushRepeatMostMS)
        return max(first.sentMicros, lastRepeatMicros) + waitMS * 1000
    }

    /// The frame to write again: the oldest. A stream loses nothing on its way, so one frame that was never written
    /// is all
    /// that a repeat can heal, and the acknowledgement that follows it covers what came behind; repeating the whole
    /// window to a client that is merely slow would make it slower.
    mutating func again(now: UInt64, config: LoginConfig) -> [Frame] {
        repeats += 1
        lastRepeatMicros = now
        guard let first = entries.first, first.pushID > 0, first.body.readableBytes > 0 else { return [] }
        return [first.notice ? .seqNotice(pushID: first.pushID, first.body) : .push(pushID: first.pushID, first.body)]
    }
}
