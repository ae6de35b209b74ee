import Foundation
import Machinery
import NIOCore
import Wire

/// One device of the workload: sends, receives, syncs, repairs, reads and reconnects by the rules for clients. Pure:
/// what it learns goes into the `History` that is passed in, what it wants into the actions. Read this first; sending
/// is in ClientMachine+Sending.swift, receiving in ClientMachine+Receiving.swift.
struct ClientMachine {
    /// A request that waits for its answer.
    enum Pending: Equatable {
        case send(conversation: Int, turn: UInt16, numbers: [Int])
        case history(conversation: Int)
        case sync
        case read(conversation: Int, seq: UInt64)
    }

    struct Waiting: Equatable {
        var pending: Pending
        var since: UInt64
    }

    /// A message without a final outcome.
    struct Outgoing: Equatable {
        var number: Int
        /// Made when it is first written, from the server's clock; the same for every resend.
        var id = Data()
    }

    /// This device's side of a conversation.
    struct Thread {
        let index: Int
        let name: String
        /// In send order. The first `written` of them are on their way in this turn.
        var outbox: [Outgoing] = []
        var written = 0
        var turn: UInt16 = 0
        var inFlight = 0
        /// The order is broken: nothing is written until every frame of the turn has been answered. The longest wait
        /// that the server asked for.
        var broken: UInt64?
        /// They all have been; then everything is resent with the next turn.
        var resendAt: UInt64?
        /// Turns broken since something was accepted.
        var breaks: UInt64 = 0
        var received = SeqSet()
        var head: UInt64 = 0
        var gapAt: UInt64?
        var repairing = false
        var readWanted: UInt64 = 0
        var readConfirmed: UInt64 = 0
        var readInFlight = false
        var readAt: UInt64 = 0
    }

    let device: Int
    let user: Int
    let roster: Roster
    let config: CheckConfig
    var link: Link
    var random: SeededRandom
    var threads: [Thread]
    /// Conversation of the roster -> position in `threads`.
    let position: [Int: Int]
    var requests: [UInt32: Waiting] = [:]
    var nextRequest: UInt32 = 1
    /// Of the last finished sync; and of the page before the one that is asked now.
    var syncToken = Data()
    var pageToken = Data()
    var syncing = false
    var syncAt: UInt64?
    /// Any request was ever unanswered for so long that the connection was given up.
    var stalls = 0

    init(device: Int, roster: Roster, token: String, config: CheckConfig, seed: UInt64, firstOpen: UInt64) {
        let own = roster.devices[device]
        self.device = device
        self.user = own.user
        self.roster = roster
        self.config = config
        self.random = SeededRandom(seed: seed)
        var authenticate = Authenticate()
        authenticate.token = token
        authenticate.deviceID = own.name
        authenticate.platform = own.platform
        link = Link(config: config, authenticate: authenticate, firstOpen: firstOpen)
        threads = roster.conversationsOf[own.user].map { Thread(index: $0, name: roster.conversations[$0].name) }
        position = Dictionary(
            uniqueKeysWithValues: roster.conversationsOf[own.user].enumerated().map { ($0.element, $0.offset) })
    }

    /// Everything it does, it does here.
    mutating func on(_ event: LinkEvent, now: UInt64, history: inout History, actions: inout [LinkAction]) {
        switch event {
        case .opened: link.opened(now, &actions)
        case .closed(let why):
            link.closed(why, now, &random)
            dropped(&history)
        case .tick:
            if link.tick(now, &random, &actions) { return dropped(&history) }
            if link.isOnline { timers(now, &history, &actions) }
        case .frame(let frame):
            switch link.heard(frame, now, &random, &actions) {
            case .nothing: break
            case .lost: dropped(&history)
            case .online: online(now, &history, &actions)
            case .pass(let frame): heard(frame, now, &history, &actions)
            }
        }
    }

    /// The workload cuts the connection.
    mutating func disconnect(now: UInt64, history: inout History, actions: inout [LinkAction]) {
        guard link.isOnline else { return }
        _ = link.lose("cut by the workload", now, &random, &actions)
        dropped(&history)
    }

    private mutating func online(_ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]) {
        sync(now, &actions)
        for index in threads.indices {
            if hasGap(index) { askLater(index, now) }
            pump(index, now, &history, &actions)
        }
    }

    /// The connection is gone: a new one starts at turn 0, and everything unacknowledged is sent again, in order.
    private mutating func dropped(_ history: inout History) {
        for waiting in requests.values {
            if case .send(_, _, let numbers) = waiting.pending { for number in numbers { history.doubted(number) } }
        }
        requests.removeAll(keepingCapacity: true)
        syncing = false
        syncAt = nil
        for index in threads.indices {
            threads[index].turn = 0
            threads[index].written = 0
            threads[index].inFlight = 0
            threads[index].broken = nil
            threads[index].resendAt = nil
            threads[index].breaks = 0
            threads[index].repairing = false
            threads[index].gapAt = nil
            threads[index].readInFlight = false
        }
    }

    private mutating func timers(_ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]) {
        if requests.values.contains(where: { now >= $0.since + config.requestTimeout }) {
            stalls += 1
            _ = link.lose("a request was never answered", now, &random, &actions)
            return dropped(&history)
        }
        if let due = syncAt, now >= due { sync(now, &actions) }
        for index in threads.indices {
            if let due = threads[index].resendAt, now >= due { nextTurn(index) }
            pump(index, now, &history, &actions)
            if let due = threads[index].gapAt, now >= due { repair(index, now, &actions) }
            moveRead(index, now, &history, &actions)
        }
    }

    private mutating func heard(
        _ frame: Frame, _ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]
    ) {
        switch frame {
        case .push(_, let body):
            guard let pushed = PushedMessage(body: body) else { return }
            take(pushed, .push, now, &history)
        case .seqNotice(_, let body):
            guard let notice = SeqNotice(body: body) else { return }
            for stored in notice.stored { take(stored, now, &history) }
        case .syncNeeded: sync(now, &actions)
        case .response(let id, let body):
            guard let waiting = requests.removeValue(forKey: id) else { return }
            answered(waiting.pending, body, now, &history, &actions)
        case .failure(let id, let body):
            guard let waiting = requests.removeValue(forKey: id) else { return }
            let failure = Failure(body: body) ?? Failure(.outcomeUnknown, "a FAILURE that does not decode")
            failed(waiting.pending, failure, now, &history, &actions)
        default: break
        }
    }

    private mutating func answered(
        _ pending: Pending, _ body: ByteBuffer, _ now: UInt64, _ history: inout History,
        _ actions: inout [LinkAction]
    ) {
        switch pending {
        case .send(let index, let turn, let numbers):
            sendAnswered(index, turn, numbers, SendResponse(body: body), now, &history, &actions)
        case .history(let index): historyAnswered(index, HistoryResponse(body: body), now, &history)
        case .sync: syncAnswered(SyncResponse(body: body), now, &history, &actions)
        case .read(let index, let seq):
            readAnswered(index, seq, ok: SetStateResponse(body: body)?.results.first?.ok ?? false, now, &history)
        }
    }

    private mutating func failed(
        _ pending: Pending, _ failure: Failure, _ now: UInt64, _ history: inout History,
        _ actions: inout [LinkAction]
    ) {
        switch pending {
        case .send(let index, let turn, let numbers):
            sendFailed(index, turn, numbers, failure, now, &history, &actions)
        case .history(let index): historyAnswered(index, nil, now, &history)
        case .sync:
            if !failure.retryable { syncToken = Data() }
            syncAnswered(nil, now, &history, &actions)
        case .read(let index, let seq): readAnswered(index, seq, ok: false, now, &history)
        }
    }

    /// Writes a plain or ordered request and remembers what it is about.
    mutating func request(
        _ svid: UInt16, _ method: UInt16, _ pending: Pending, ordered: (key: String, turn: UInt16)? = nil,
        _ body: ByteBuffer, _ now: UInt64, _ actions: inout [LinkAction]
    ) {
        let header = Frame.RequestHeader(svid: svid, method: method, requestID: nextRequest)
        requests[nextRequest] = Waiting(pending: pending, since: now)
        nextRequest = nextRequest == .max ? 1 : nextRequest + 1
        if let ordered {
            link.write(.orderedRequest(header, key: ordered.key, turn: ordered.turn, body), now, &actions)
        } else {
            link.write(.request(header, body), now, &actions)
        }
    }

    mutating func pause(_ least: UInt64, _ jitter: UInt64) -> UInt64 {
        least + UInt64.random(in: 0...jitter, using: &random)
    }

    /// Every send has its outcome and every read cursor is confirmed.
    var isQuiet: Bool {
        threads.allSatisfy { $0.outbox.isEmpty && $0.readWanted <= $0.readConfirmed && !$0.readInFlight }
    }

    var receipts: DeviceReceipts {
        DeviceReceipts(
            device: device, connected: link.isOnline,
            conversations: Dictionary(uniqueKeysWithValues: threads.map { ($0.index, $0.received) }))
    }
}
