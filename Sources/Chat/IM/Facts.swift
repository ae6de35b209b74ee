import Machinery
import RPC
import Wire

/// A user, across apps.
struct UserRef: Hashable {
    let app: String
    let user: String
}

/// A recall whose target has to be looked at.
struct RecallCheck {
    let group: UInt64
    let item: Int
    let app: String
    let conversation: String
    let target: UInt64
    /// Unix milliseconds in the recall's client_msg_id.
    let madeMS: UInt64
}

/// What IM has to ask others, and what it still believes of what they said.
struct Facts {
    private struct Known {
        let exists: Bool
        let until: UInt64
    }

    private let config: IMConfig
    private var users: BoundedCache<UserRef, Known>
    private var waiting: [UserRef: [UInt64]] = [:]
    private var newUsers: [UserRef] = []
    private var newRows: [RecallCheck] = []

    init(config: IMConfig) {
        self.config = config
        self.users = BoundedCache(limit: config.cacheEntries)
    }

    /// Nil when it has to be asked.
    mutating func exists(_ user: UserRef, now: Instant) -> Bool? {
        guard let known = users[user], known.until > now.micros else { return nil }
        return known.exists
    }

    mutating func want(_ user: UserRef, for group: UInt64) {
        if waiting[user] == nil { newUsers.append(user) }
        waiting[user, default: []].append(group)
    }

    mutating func want(_ check: RecallCheck) { newRows.append(check) }

    /// Keeps an answer and says who waited for it.
    mutating func learned(_ user: UserRef, exists: Bool?, now: Instant) -> [UInt64] {
        if let exists {
            let ms = exists ? config.userCacheMS : config.missingUserCacheMS
            users[user] = Known(exists: exists, until: now.micros + ms * 1000)
        }
        return waiting.removeValue(forKey: user) ?? []
    }

    mutating func takeUsers(atMost limit: Int) -> [[UserRef]] {
        defer { newUsers = [] }
        return newUsers.chunks(of: limit)
    }

    mutating func takeRows(atMost limit: Int) -> [[RecallCheck]] {
        defer { newRows = [] }
        return newRows.chunks(of: limit)
    }

    static func question(_ users: [UserRef]) -> UserCheck {
        var body = UserCheck()
        body.users = users.map { user in
            var key = UserKey()
            key.appID = user.app
            key.userID = user.user
            return key
        }
        return body
    }

    static func question(_ checks: [RecallCheck]) -> ReadRows {
        var body = ReadRows()
        body.queries = checks.map { check in
            var query = RowsQuery()
            query.appID = check.app
            query.conversation = check.conversation
            query.fromSeq = check.target
            query.limit = 1
            query.atLeast = check.target
            return query
        }
        return body
    }
}

extension IMMachine {
    /// User has said who exists.
    mutating func learn(_ users: [UserRef], _ result: CallResult, now: Instant) {
        var answers: [UserFact]?
        if case .answered(.userChecked(let body)) = result, body.users.count == users.count { answers = body.users }
        for (index, user) in users.enumerated() {
            let exists = answers?[index].exists
            for number in facts.learned(user, exists: exists, now: now) {
                if exists == false {
                    groups[number]?.refuseOpen(Failure(.noSuchUser, "there is no user \(user.user)"))
                } else if exists == nil {
                    groups[number]?.refuseOpen(Failure(.serviceUnavailable, "the recipient could not be looked up"))
                }
                gotFact(number)
            }
        }
    }

    /// MsgReader has read the rows that recalls mean.
    mutating func learn(_ checks: [RecallCheck], _ result: CallResult, now: Instant) {
        var pages: [RowsPage]?
        if case .answered(.rowsRead(let body)) = result, body.pages.count == checks.count { pages = body.pages }
        for (index, check) in checks.enumerated() {
            if let failure = recallFailure(check, pages?[index], now: now),
                groups[check.group]?.items[check.item].isOpen == true
            {
                groups[check.group]?.items[check.item].verdict = .refused(failure)
            }
            gotFact(check.group)
        }
    }

    private mutating func gotFact(_ number: UInt64) {
        groups[number]?.missing -= 1
        if groups[number]?.missing == 0 { ready.append(number) }
    }

    /// Why the message may not be taken back; nil when it may: by its sender, for two minutes.
    private func recallFailure(_ check: RecallCheck, _ page: RowsPage?, now: Instant) -> Failure? {
        if let page, page.hasHead, page.head.seq < check.target {
            // A store that has just come back is behind what clients have seen, and a refusal for good whose answer is
            // lost would let the resend in behind later messages: so not while the resend can still find the row.
            guard check.madeMS + config.recallResendMS <= now.wallMS else {
                return Failure(.historyUnavailable, "message \(check.target) is not there, or not yet")
            }
            return Failure(.notFound, "there is no message \(check.target) to recall")
        }
        guard let page, !page.hasFailure else {
            return Failure(.historyUnavailable, "the message to recall could not be read")
        }
        guard let row = page.rows.first, row.seq == check.target else {
            return Failure(.notFound, "there is no message \(check.target) to recall")
        }
        guard row.sender == groups[check.group]?.caller.userID, !row.lost else {
            return Failure(.forbidden, "only the sender of a message recalls it")
        }
        // Taken back already: this is the recall that did it, sent again, and its first copy was judged in time.
        if page.recalledSeqs.contains(check.target) { return nil }
        guard !row.control else { return Failure(.forbidden, "only messages are recalled") }
        guard judgedMS(check, now) <= row.timeMs + config.recallWindowMS else {
            return Failure(.forbidden, "messages are recalled within \(config.recallWindowMS / 1000) s")
        }
        return nil
    }

    /// The time by which a recall is late or not: the one in its id, which a resend carries again, so that a resend
    /// is judged as its first copy was even while that is in the log and not yet in the store. A client may choose its
    /// ids, so it is believed for `recallResendMS` only, and never about the future.
    private func judgedMS(_ check: RecallCheck, _ now: Instant) -> UInt64 {
        min(now.wallMS, max(check.madeMS, now.wallMS - min(now.wallMS, config.recallResendMS)))
    }
}

extension Array {
    /// The elements in runs of at most `limit`.
    func chunks(of limit: Int) -> [[Element]] {
        stride(from: 0, to: count, by: limit).map { Array(self[$0..<Swift.min($0 + limit, count)]) }
    }
}
