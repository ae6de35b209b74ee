import RPC
import Wire

/// Answers: per item, put together when the last one is known.
extension UserMachine {
    func isFull(_ more: Int) -> Bool { calls.missing + services.missing + more > config.maxItems }

    /// Too many entries with writes that wait, are under way or have just been made.
    var isWriterFull: Bool { writer.count >= config.maxWrites }

    func full(_ id: CallID) -> Action {
        .refuse(id, Failure(.overloaded, "user has \(config.maxItems) items waiting"))
    }

    mutating func settle(_ slot: Slot, _ part: Part) -> [Action] {
        guard let done = calls.fill(slot, part) else { return [] }
        for case .failed(let failure) in done.parts { return [.refuse(done.call, failure)] }
        return [.reply(done.call, Self.payload(done.parts))]
    }

    /// All parts of one call are of one kind.
    private static func payload(_ parts: [Part]) -> Payload {
        switch parts.first {
        case .fact:
            var checked = UserChecked()
            checked.users = parts.compactMap { if case .fact(let fact) = $0 { fact } else { nil } }
            return .userChecked(checked)
        case .app:
            var got = AppsGot()
            got.apps = parts.compactMap { if case .app(let app) = $0 { app } else { nil } }
            return .appsGot(got)
        case .page:
            var loaded = IndexLoaded()
            loaded.pages = parts.compactMap { if case .page(let page) = $0 { page } else { nil } }
            return .indexLoaded(loaded)
        case .done, .failed, nil:
            var done = Done()
            let failures = parts.compactMap { if case .done(let failure) = $0 { failure } else { nil } }
            if failures.contains(where: { $0.code != 0 }) { done.failures = failures }
            return .done(done)
        }
    }

    mutating func respond(_ slot: ServiceSlot, failure: Failure) -> [Action] {
        var reply = ServiceReply()
        reply.failure = failure
        return respond(slot, reply)
    }

    mutating func respond(_ slot: ServiceSlot, _ reply: ServiceReply) -> [Action] {
        guard let done = services.fill(slot, reply) else { return [] }
        var replies = ServiceReplies()
        replies.replies = done.parts
        return [.reply(done.call, .serviceReplies(replies))]
    }

    /// What a caller is told when a store did not answer as asked. All writes here are idempotent.
    static func failure(of result: CallResult, _ stated: Failure? = nil) -> Failure {
        if let stated, stated.code != 0 { return stated }
        switch result {
        case .refused(let failure): return Failure(.storeUnavailable, "a store refused: \(failure.reason)")
        case .unknown: return Failure(.outcomeUnknown, "a store did not answer in time")
        case .answered: return Failure(.internalError, "a store's answer does not fit the question")
        }
    }
}
