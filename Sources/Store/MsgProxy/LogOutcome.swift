import Wire

/// Whose order a record is part of: one device's session in one conversation.
struct SenderLane: Hashable {
    let app: String
    let conversation: String
    let sender: String
    let device: String
    let session: String

    init(_ record: LogRecord) {
        self.app = record.appID
        self.conversation = record.conversation
        self.sender = record.sender
        self.device = record.device
        self.session = record.sessionID
    }

    static var behind: Failure { Failure(.resendInOrder, "an earlier message has to be sent again first") }
}

/// How an append ended.
enum LogOutcome {
    case each([LogAppendResult])
    case refused(Failure)
    case unknown

    /// Where the log has the entry; only for one that it took.
    func offset(_ index: Int) -> UInt64 {
        if case .each(let results) = self { results[index].offset } else { 0 }
    }

    /// What the record with that entry is told. Behind a record that has to come again nothing is `accepted`: what
    /// the log took all the same is `unknown`, for its sender will send it again.
    func result(_ index: Int, broken: Bool) -> SendResult {
        switch self {
        case .refused(let failure): return .refused(broken ? SenderLane.behind : failure)
        case .unknown: return .unknown
        case .each(let results):
            let result = results[index]
            if result.unknown { return .unknown }
            if result.hasFailure { return .refused(broken ? SenderLane.behind : result.failure.asStoreFailure) }
            if broken { return .unknown }
            var accepted = SendResult()
            accepted.outcome = .accepted
            return accepted
        }
    }
}

extension SendResult {
    static func refused(_ failure: Failure) -> SendResult {
        var result = SendResult()
        result.outcome = .refused
        result.failure = failure
        return result
    }

    static var unknown: SendResult {
        var result = SendResult()
        result.outcome = .unknown
        result.failure = Failure(.outcomeUnknown, "the log did not answer; the same client_msg_id again can tell")
        return result
    }
}

extension Failure {
    /// The log's trouble as the sender sees it: never the message's fault, so always worth another try.
    var asStoreFailure: Failure { retryable ? self : Failure(.storeUnavailable, "the log refused: \(reason)") }
}
