import Foundation
import Identity
import RPC
import Wire

/// Reaching users: `push` for who is online now, `notify` for everybody, sooner or later.
extension MartletService {
    /// Pushes an event to every device of the users that is online now. Best effort, neither stored nor ordered.
    ///
    /// - Parameters:
    ///   - users: at most `config.maxUsers`.
    ///   - event: the event's name, as the service's clients know it.
    /// - Returns: per user, in order, what became of it on each online device; empty for a user who is offline.
    /// - Throws: `ServiceError` for malformed input, or when the push proxy cannot be reached.
    public func push(to users: [String], event: String, body: [UInt8]) async throws -> [[PushedTo]] {
        try check(users, body)
        guard !users.isEmpty else { return [] }
        var push = PushEvents()
        push.events = users.map { user in
            var item = PushEvent()
            var key = UserKey()
            key.appID = app
            key.userID = user
            item.users = [key]
            item.event.svid = svid
            item.event.name = event
            item.event.body = Data(body)
            return item
        }
        switch await caller.call(.any(.pushProxy), .pushEvents(push), timeoutMS: config.callTimeoutMS) {
        case .answered(.pushEventResults(let results)) where results.results.count == users.count:
            return results.results.map { $0.sessions.map(PushedTo.init) }
        case .answered(let other):
            throw ServiceError.pushFailed(.internalError("the push proxy answered with payload \(other.kind)"))
        case .refused(let failure), .unknown(let failure): throw ServiceError.pushFailed(ServiceFailure(failure))
        }
    }

    /// Stores a notice for each user, in the user's control conversation: pushed now to who is online, found by
    /// everybody else at the next sync. Repeats what is unknown or refused for the moment, under the same id.
    ///
    /// - Parameter id: the notice's id, for all of the users; fresh by default. Give a derived one to make a notice
    ///   that may be sent again after a crash.
    /// - Returns: per user, in order.
    /// - Throws: `ServiceError` for malformed input; then nothing was stored.
    public func notify(_ users: [String], content: [UInt8], id: NoticeID? = nil) async throws -> [NotifyOutcome] {
        try check(users, content)
        guard !users.isEmpty else { return [] }
        let now = SystemClock.now().wallMS
        let notice = id ?? NoticeID.fresh(timeMS: now)
        var outcomes: [NotifyOutcome?] = users.map { _ in nil }
        let records = users.map { record(user: $0, content, notice, now) }
        var open = Array(users.indices)
        for attempt in 0..<max(1, config.notifyAttempts) where !open.isEmpty {
            if attempt > 0 { try? await Task.sleep(for: .milliseconds(300 << (attempt - 1))) }
            await store(records, open, &outcomes)
            open = open.filter { outcomes[$0]?.worthRepeating ?? true }
        }
        return outcomes.map { $0 ?? .unknown(.serviceUnavailable("never sent")) }
    }

    private func store(_ records: [LogRecord], _ open: [Int], _ outcomes: inout [NotifyOutcome?]) async {
        var request = StoreMessages()
        request.records = open.map { records[$0] }
        let result = await caller.call(.any(.msgProxy), .storeMessages(request), timeoutMS: config.callTimeoutMS)
        for (place, user) in open.enumerated() {
            let before = outcomes[user]
            switch result {
            case .answered(.storeOutcomes(let body)) where body.results.count == open.count:
                outcomes[user] = NotifyOutcome(body.results[place])
            case .answered(let other):
                outcomes[user] = .unknown(.internalError("the message proxy answered with payload \(other.kind)"))
            case .unknown(let failure): outcomes[user] = .unknown(ServiceFailure(failure))
            case .refused(let failure): outcomes[user] = .refused(ServiceFailure(failure))
            }
            // Once unknown, a later refusal says nothing about the first try.
            if case .unknown? = before, case .refused(let failure)? = outcomes[user] {
                outcomes[user] = .unknown(failure)
            }
        }
    }

    private func record(user: String, _ content: [UInt8], _ id: NoticeID, _ now: UInt64) -> LogRecord {
        var message = ChatMessage()
        message.clientMsgID = Data(id.bytes)
        message.kind = .contentNotice
        message.content = Data(content)
        message.sentMs = now
        message.svid = svid
        var record = LogRecord()
        record.appID = app
        record.conversation = ConversationName.control(user).id
        record.clientMsgID = message.clientMsgID
        record.timeMs = now
        record.message = Data(message.buffer.readableBytesView)
        record.members = [user]
        return record
    }

    private func check(_ users: [String], _ content: [UInt8]) throws {
        guard users.count <= config.maxUsers else {
            throw ServiceError.tooManyUsers(users.count, limit: config.maxUsers)
        }
        if let bad = users.first(where: { !NameRule.isUser($0) }) { throw ServiceError.badUser(bad) }
        guard content.count <= config.maxContentBytes else {
            throw ServiceError.contentTooLarge(content.count, limit: config.maxContentBytes)
        }
    }
}

extension NotifyOutcome {
    init(_ result: SendResult) {
        switch result.outcome {
        case .accepted: self = .accepted
        case .refused: self = .refused(ServiceFailure(result.failure))
        case .unknown, .UNRECOGNIZED: self = .unknown(ServiceFailure(result.failure))
        }
    }

    var worthRepeating: Bool {
        switch self {
        case .accepted: false
        case .refused(let failure): failure.retryable
        case .unknown: true
        }
    }
}
