import Foundation
import Identity
import RPC
import Wire

/// A conversation, across apps.
struct ConversationRef: Hashable {
    let app: String
    let conversation: String
}

/// The sends of one device to one conversation in one ServiceCalls: they stand and fall in order.
struct SendGroup {
    struct Key: Hashable {
        let app: String
        let user: String
        let device: String
        let session: String
        let conversation: String

        init(caller: Caller, conversation: String) {
            self.app = caller.appID
            self.user = caller.userID
            self.device = caller.deviceID
            self.session = caller.sessionID
            self.conversation = conversation
        }
    }

    enum Verdict {
        case open
        case refused(Failure)
        case unknown(Failure)
        case accepted
    }

    struct Item {
        let send: SendItem
        let traceID: String
        var verdict = Verdict.open
        var sentMS: UInt64 = 0

        var isOpen: Bool {
            if case .open = verdict { return true }
            return false
        }

        /// Whether what stands behind may not be stored before this one is sent again.
        var breaks: Bool {
            switch verdict {
            case .unknown: true
            case .refused(let failure): failure.retryable
            case .open, .accepted: false
            }
        }

        var result: SendResult {
            var result = SendResult()
            switch verdict {
            case .accepted:
                result.outcome = .accepted
                result.sentMs = sentMS
            case .refused(let failure):
                result.outcome = .refused
                result.failure = failure
            case .unknown(let failure):
                result.outcome = .unknown
                result.failure = failure
            case .open: result.outcome = .unknown
            }
            return result
        }
    }

    /// One ServiceCall: where its reply goes and which items are its.
    struct Call {
        let index: Int
        let items: Range<Int>
        let traceID: String
    }

    let batch: UInt64
    let caller: Caller
    let conversation: String
    let peer: String
    let deadline: UInt64
    private(set) var calls: [Call] = []
    var items: [Item] = []
    /// Facts that have not come yet.
    var missing = 0

    init(batch: UInt64, caller: Caller, conversation: String, peer: String, deadline: UInt64) {
        self.batch = batch
        self.caller = caller
        self.conversation = conversation
        self.peer = peer
        self.deadline = deadline
    }

    mutating func add(_ request: SendRequest, index: Int, traceID: String) {
        let first = items.count
        items += request.items.map { Item(send: $0, traceID: traceID) }
        calls.append(Call(index: index, items: first..<items.count, traceID: traceID))
    }

    mutating func refuseOpen(_ failure: Failure) {
        for index in items.indices where items[index].isOpen { items[index].verdict = .refused(failure) }
    }

    /// Lets nothing pass that stands behind an item which has to be sent again. What was handed over behind it may be
    /// in the log, so it is unknown; the rest certainly is not.
    mutating func cut() {
        guard let first = items.firstIndex(where: \.breaks) else { return }
        let failure = Failure(.resendInOrder, "an earlier message has to be sent again first")
        for index in items.index(after: first)..<items.count {
            switch items[index].verdict {
            case .open: items[index].verdict = .refused(failure)
            case .accepted: items[index].verdict = .unknown(failure)
            case .refused, .unknown: break
            }
        }
    }

    /// The replies, once every item has its verdict, with the places they belong to.
    func replies() -> [(index: Int, reply: ServiceReply)] {
        var broken = false
        return calls.map { call in
            let mine = items[call.items]
            broken = broken || mine.contains(where: \.breaks)
            var reply = ServiceReply()
            reply.broken = broken
            let results = mine.map(\.result)
            if broken, !results.contains(where: { $0.outcome == .accepted }), let failure = Self.failure(of: results) {
                reply.failure = failure
                return (call.index, reply)
            }
            var response = SendResponse()
            response.results = results
            reply.body = (try? response.serializedBytes() as Data) ?? Data()
            return (call.index, reply)
        }
    }

    /// The failure of a call of which nothing was accepted: `outcome_unknown` as soon as anything is.
    private static func failure(of results: [SendResult]) -> Failure? {
        if results.contains(where: { $0.outcome == .unknown }) {
            return Failure(.outcomeUnknown, "perhaps stored; send the same client_msg_id again")
        }
        return results.first { $0.failure.retryable }?.failure
    }
}
