import Foundation
import Identity
import Machinery
import RPC
import Wire

/// Typing hints on their way to the other side: best effort, gathered per flush.
struct TypingQueue {
    private struct Typist: Hashable {
        let app: String
        let user: String
        let conversation: String
    }

    private let config: IMConfig
    private var rates: BoundedCache<Typist, TokenBucket>
    private var events: [PushEvent] = []
    /// Hints of one flush; more are dropped, as hints may be.
    private static let eventsPerFlush = 1024

    init(config: IMConfig) {
        self.config = config
        self.rates = BoundedCache(limit: config.cacheEntries)
    }

    mutating func reply(to request: TypingRequest, from caller: Caller, now: Instant) -> ServiceReply {
        var reply = ServiceReply()
        guard let peer = ConversationName(request.conversation)?.peer(of: caller.userID) else {
            reply.failure = Failure(.badConversation, "not a pair that you are in")
            return reply
        }
        let typist = Typist(app: caller.appID, user: caller.userID, conversation: request.conversation)
        var rate =
            rates[typist]
            ?? TokenBucket(
                perSecond: config.typingPerSecond, burst: config.typingPerSecond, nowMicros: now.micros)
        let allowed = rate.take(nowMicros: now.micros)
        rates[typist] = rate
        if allowed, events.count < Self.eventsPerFlush { events.append(Self.event(request, caller, peer)) }
        return reply
    }

    mutating func take() -> [RoleAction<Never>] {
        guard !events.isEmpty else { return [] }
        var body = PushEvents()
        body.events = events
        events = []
        return [.tell(.any(.pushProxy), .pushEvents(body))]
    }

    private static func event(_ request: TypingRequest, _ caller: Caller, _ peer: String) -> PushEvent {
        var typing = TypingEvent()
        typing.conversation = request.conversation
        typing.userID = caller.userID
        var key = UserKey()
        key.appID = caller.appID
        key.userID = peer
        var push = PushEvent()
        push.users = [key]
        push.event.svid = WellKnownService.im
        push.event.name = "typing"
        push.event.body = (try? typing.serializedBytes() as Data) ?? Data()
        push.notSession = caller.sessionID
        return push
    }
}
