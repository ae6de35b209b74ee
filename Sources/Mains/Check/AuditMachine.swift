import Foundation
import Identity
import Machinery
import NIOCore
import Wire

/// Reads back, on a fresh connection of one user, the whole history of every conversation and then the unread counts.
/// Pure. Failures are tried again until the audit's time is over.
struct AuditMachine {
    private enum Asking: Equatable { case nothing, page, sync }

    let user: Int
    private let roster: Roster
    private let config: CheckConfig
    private(set) var link: Link
    private var random: SeededRandom
    /// Conversations still to read, the current one last.
    private var remaining: [Int]
    private var rows: [Row] = []
    private let atLeast: [UInt64]
    private var requestID: UInt32 = 0
    private var asking = Asking.nothing
    private var askedAt: UInt64 = 0
    private var retryAt: UInt64?
    private var behind = 0
    private var syncToken = Data()
    private var pages: [Int: Audit.Entry] = [:]
    private(set) var histories: [Int: [Row]] = [:]
    /// The unread counts by conversation, once the sync is complete.
    private(set) var entries: [Int: Audit.Entry]?

    /// `atLeast`: for each conversation, the highest seq that any device has seen.
    init(
        user: Int, roster: Roster, token: String, atLeast: [UInt64], config: CheckConfig, seed: UInt64, now: UInt64
    ) {
        self.user = user
        self.roster = roster
        self.config = config
        self.atLeast = atLeast
        random = SeededRandom(seed: seed)
        remaining = roster.conversationsOf[user]
        var authenticate = Authenticate()
        authenticate.token = token
        authenticate.deviceID = "audit"
        authenticate.platform = "audit"
        link = Link(config: config, authenticate: authenticate, firstOpen: now)
    }

    var isDone: Bool { entries != nil }

    mutating func on(_ event: LinkEvent, now: UInt64, actions: inout [LinkAction]) {
        switch event {
        case .opened: link.opened(now, &actions)
        case .closed(let why):
            link.closed(why, now, &random)
            asking = .nothing
        case .tick:
            if link.tick(now, &random, &actions) { return asking = .nothing }
            if asking != .nothing, now >= askedAt + config.requestTimeout {
                asking = .nothing
                _ = link.lose("a request was never answered", now, &random, &actions)
            }
            if let due = retryAt, now >= due, link.isOnline { ask(now, &actions) }
        case .frame(let frame):
            switch link.heard(frame, now, &random, &actions) {
            case .nothing: break
            case .lost: asking = .nothing
            case .online: ask(now, &actions)
            case .pass(let frame): heard(frame, now, &actions)
            }
        }
    }

    /// Asks for the unread counts once more, on the same connection.
    mutating func syncAgain(now: UInt64, actions: inout [LinkAction]) {
        guard isDone else { return }
        entries = nil
        if link.isOnline { ask(now, &actions) }
    }

    private mutating func ask(_ now: UInt64, _ actions: inout [LinkAction]) {
        retryAt = nil
        guard !isDone else { return }
        requestID += 1
        askedAt = now
        if let conversation = remaining.last {
            asking = .page
            var query = HistoryQuery()
            query.conversation = roster.conversations[conversation].name
            query.fromSeq = (rows.last?.seq ?? 0) + 1
            query.limit = config.page
            query.atLeast = atLeast[conversation]
            var request = HistoryRequest()
            request.queries = [query]
            write(WellKnownService.history, request.buffer, now, &actions)
        } else {
            if asking != .sync { (syncToken, pages) = (Data(), [:]) }
            asking = .sync
            var request = SyncRequest()
            request.token = syncToken
            write(WellKnownService.user, request.buffer, now, &actions)
        }
    }

    private mutating func write(
        _ service: UInt32, _ body: ByteBuffer, _ now: UInt64, _ actions: inout [LinkAction]
    ) {
        let header = Frame.RequestHeader(svid: UInt16(service), method: 1, requestID: requestID)
        link.write(.request(header, body), now, &actions)
    }

    private mutating func heard(_ frame: Frame, _ now: UInt64, _ actions: inout [LinkAction]) {
        switch frame {
        case .response(requestID, let body) where asking == .page: page(HistoryResponse(body: body), now, &actions)
        case .response(requestID, let body) where asking == .sync: synced(SyncResponse(body: body), now, &actions)
        case .failure(requestID, _): later(now)
        default: break
        }
    }

    private mutating func later(_ now: UInt64) {
        asking = .nothing
        retryAt = now + config.retryPause + UInt64.random(in: 0...config.retryJitter, using: &random)
    }

    private mutating func page(_ response: HistoryResponse?, _ now: UInt64, _ actions: inout [LinkAction]) {
        guard let conversation = remaining.last, let page = response?.pages.first else { return later(now) }
        // Nobody wrote here: for the services such a conversation does not exist yet.
        let empty = page.hasFailure && page.failure.isCode(.notAMember) && atLeast[conversation] == 0
        guard !page.hasFailure || empty else { return later(now) }
        rows += page.messages.map { roster.row($0) }
        // A short page is not the end: what a server can serve densely is all that a page promises.
        if !page.messages.isEmpty, (rows.last?.seq ?? 0) < page.headSeq { return ask(now, &actions) }
        if (rows.last?.seq ?? 0) < atLeast[conversation] {
            // Behind what devices were already shown: ask again a few times; then what is missing is missing.
            behind += 1
            if behind <= config.behindRetries { return later(now) }
        }
        behind = 0
        histories[conversation] = rows
        rows = []
        remaining.removeLast()
        ask(now, &actions)
    }

    private mutating func synced(_ response: SyncResponse?, _ now: UInt64, _ actions: inout [LinkAction]) {
        guard let response else { return later(now) }
        for entry in response.entries {
            guard let conversation = roster.index[entry.conversation] else { continue }
            pages[conversation] = Audit.Entry(head: entry.headSeq, unread: entry.unread)
        }
        syncToken = response.token
        if response.more { return ask(now, &actions) }
        asking = .nothing
        entries = pages
    }
}
