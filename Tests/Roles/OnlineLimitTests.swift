import RPC
import Testing
import Wire

@testable import OnlineRole

/// What one user can make an Online hold.
@Suite struct OnlineLimitTests {
    typealias Online = Script<OnlineMachine>

    static func presence(_ users: [String], method: UInt32 = 1, session: String = "s1") -> Payload {
        serviceCalls(serviceCall(5, method, session: session, body: PresenceRequest.with { $0.userIds = users }))
    }

    static func users(_ asked: Asked) -> [String] {
        guard case .lookupRequest(let request) = asked.payload else { return [] }
        return request.users.map(\.userID)
    }

    static func found(_ asked: Asked, platforms: [String] = ["web"]) -> Payload {
        .lookupResponse(
            .with {
                $0.results = users(asked).map { user in
                    .with {
                        $0.state = .presenceOnline
                        $0.registrations = platforms.map { platform in .with { $0.platform = platform } }
                    }
                }
            })
    }

    @Test func aUserNamedOftenIsLookedUpOnce() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let sent = online.call(Self.presence(Array(repeating: "me", count: 499) + ["bob"]))
        let asked = try sent.actions.first()
        #expect(Self.users(asked) == ["me", "bob"])
        let reply = online.answer(asked, Self.found(asked)).serviceReplies(sent.id)?.first
        #expect(try body(reply, PresenceResponse.self).users.map(\.userID) == ["me", "bob"])
    }

    @Test func aFlushLooksUpSoManyAndMoreIsRefused() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        var replies: [ServiceReply] = []
        for call in 0..<131 {
            let taken = online.take(Self.presence((0..<500).map { "u\(call)-\($0)" }, session: "s\(call)"))
            replies += taken.actions.serviceReplies(taken.id) ?? []
        }
        #expect(replies.count == 131 - 8 && replies.allSatisfy { $0.failure.isCode(.overloaded) })
        #expect(replies.allSatisfy { $0.failure.retryable && $0.failure.retryAfterMs > 0 })
        let asked = online.flush().asked(.any(.presenceStore))
        #expect(asked.map { Self.users($0).count } == [1500, 1500, 1000])
        // They are still being looked up: their users count.
        #expect(online.machine.usersAsked == 4000)
        for call in asked { _ = online.answer(call, Self.found(call)) }
        #expect(online.machine.usersAsked == 0)
        #expect(online.call(Self.presence(["bob"])).actions.asked.count == 1)
    }

    @Test func usersUnderWayCountAgainstTheLimit() throws {
        var config = OnlineConfig()
        config.maxItems = 1000
        var online = Online(OnlineMachine(instance: "o1", config: config))
        let first = online.call(Self.presence((0..<500).map { "u\($0)" }))
        let second = online.call(Self.presence((0..<500).map { "v\($0)" }))
        #expect(second.actions.serviceReplies(second.id)?.first?.failure.isCode(.overloaded) == true)
        for call in first.actions.asked { _ = online.answer(call, refused) }
        #expect(online.machine.usersAsked == 0, "a failed look-up ends as well")
    }

    @Test func platformsOfManyDoNotFillTheFrame() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let ids = (100..<600).map { "\($0)" + String(repeating: "x", count: 61) }
        let sent = online.call(Self.presence(ids))
        let asked = try sent.actions.first()
        let platforms = (1...8).map { "\($0)" + String(repeating: "p", count: 63) }
        let reply = try #require(
            online.answer(asked, Self.found(asked, platforms: platforms)).serviceReplies(sent.id)?.first)
        #expect(reply.body.count <= FrameLimits.afterLoginBytes - 5, "\(reply.body.count)")
        let users = try body(reply, PresenceResponse.self).users
        #expect(users.count == 500 && users[0].platforms == platforms && users[499].platforms.isEmpty)
    }

    /// A change that thousands watch is told to all of them, in calls that PushProxy takes.
    @Test func aChangeReachesAllOfManyWatchers() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        func look(_ state: PresenceState) throws -> [RoleAction<Never>] {
            _ = online.take(
                .watchRequest(
                    .with {
                        $0.watcher.appID = "demo"
                        $0.userIds = ["star"]
                    }))
            let asked = try online.flush().first()
            #expect(Self.users(asked) == ["star"])
            return online.answer(asked, .lookupResponse(.with { $0.results = [.with { $0.state = state }] }))
        }
        for number in 0..<5000 {
            var call = serviceCall(
                5, 2, user: "fan\(number)", session: "s\(number)",
                body: PresenceRequest.with { $0.userIds = ["star"] })
            call.caller.deviceID = "d"
            let sent = online.call(serviceCalls(call))
            _ = online.answer(
                try sent.actions.first(),
                .lookupResponse(.with { $0.results = [.with { $0.state = .presenceOffline }] }))
        }
        let parts = try look(.presenceOnline).told(.any(.pushProxy)).map { payload -> [String] in
            guard case .pushEvents(let events) = payload else { return [] }
            return events.events.flatMap(\.users).map(\.userID)
        }
        #expect(parts.count == 5 && parts.allSatisfy { $0.count <= 1024 })
        #expect(Set(parts.joined()) == Set((0..<5000).map { "fan\($0)" }))
    }
}
