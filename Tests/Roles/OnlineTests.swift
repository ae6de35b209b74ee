import RPC
import Testing
import Wire

@testable import OnlineRole

@Suite struct OnlineTests {
    typealias Online = Script<OnlineMachine>

    static func registration(_ user: String, _ session: String, login: String = "l1", epoch: UInt64 = 0) -> Registration
    {
        .with {
            $0.appID = "demo"
            $0.userID = user
            $0.deviceID = "d-\(session)"
            $0.platform = "web"
            $0.sessionID = session
            $0.loginID = login
            $0.epoch = epoch
        }
    }

    static func register(_ registrations: Registration...) -> Payload {
        .registerRequest(.with { $0.registrations = registrations })
    }

    static func registered(_ results: RegisterResult...) -> Payload {
        .registerResponse(.with { $0.results = results })
    }

    static func state(_ state: PresenceState, _ registrations: Registration...) -> LookupResult {
        .with {
            $0.state = state
            $0.registrations = registrations
        }
    }

    static func found(_ results: LookupResult...) -> Payload { .lookupResponse(.with { $0.results = results }) }

    static func kicks(_ actions: [RoleAction<Never>]) -> [KickRequest] {
        actions.asked(.any(.route)).compactMap {
            if case .kickRequest(let request) = $0.payload { request } else { nil }
        }
    }

    @Test func registrationsOfAFlushAreOneCallAndLeasesGoFirst() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let one = online.take(Self.register(Self.registration("alice", "s1")))
        let two = online.take(Self.register(Self.registration("bob", "s2")))
        let lease = online.take(.leaseRequest(.with { $0.loginID = "l1" }))
        let asked = online.flush().asked(.any(.presenceStore))
        #expect(
            asked.map(\.payload) == [
                .leaseRequest(.with { $0.loginID = "l1" }),
                Self.register(Self.registration("alice", "s1"), Self.registration("bob", "s2")),
            ])
        let known = online.answer(asked[0], .leaseResponse(.with { $0.life = 3 }))
        #expect(known.reply(lease.id) == .leaseResponse(.with { $0.life = 3 }))
        let revoked = RegisterResult.with { $0.failure = Failure(.tokenRevoked, "old") }
        let done = online.answer(asked[1], Self.registered(.with { $0.epoch = 4 }, revoked))
        #expect(done.reply(one.id) == Self.registered(.with { $0.epoch = 4 }))
        #expect(done.reply(two.id) == Self.registered(revoked))
    }

    @Test func aLookUpTracesItsMessages() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let request = LookupRequest.with {
            $0.users = [.with { $0.userID = "alice" }]
            $0.traceIds = ["t1", "t2"]
        }
        #expect(online.call(.lookupRequest(request)).actions.traces == ["t1 online", "t2 online"])
        let plain = LookupRequest.with { $0.users = request.users }
        #expect(online.call(.lookupRequest(plain)).actions.traces.isEmpty)
    }

    @Test func displacedSessionIsKickedButNeverOneself() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let newer = Self.registration("alice", "s2")
        let sent = online.call(Self.register(newer))
        let asked = try sent.actions.first()
        let old = Self.registration("alice", "s1", login: "l7", epoch: 3)
        let done = online.answer(
            asked,
            Self.registered(
                .with {
                    $0.epoch = 9
                    $0.displaced = [old, Self.registration("alice", "s2", epoch: 2)]
                }))
        let kicks = Self.kicks(done)
        #expect(kicks.count == 1)
        #expect(kicks.first?.loginID == "l7")
        #expect(kicks.first?.items.map(\.session.sessionID) == ["s1"])
        #expect(kicks.first?.items.first?.session.epoch == 3)
        #expect(kicks.first?.items.first?.kick.code == ErrorCode.displaced.number)

        var free = newer
        free.keepOthers = true
        let open = online.call(Self.register(free))
        let other = online.answer(try open.actions.first(), Self.registered(.with { $0.displaced = [old] }))
        #expect(Self.kicks(other).isEmpty)
    }

    @Test func kicksAreRepeatedWhileTheLoginMayLive() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let sent = online.call(Self.register(Self.registration("alice", "s2")))
        var actions = online.answer(
            try sent.actions.first(),
            Self.registered(.with { $0.displaced = [Self.registration("alice", "s1", login: "l7")] }))
        let unreachable = CallResult.answered(.done(.with { $0.failures = [Failure(.serviceUnavailable, "away")] }))
        for result in [refused, timedOut, unreachable] {
            let asked = try #require(actions.asked(.any(.route)).first)
            actions = online.answer(asked, result)
            #expect(Self.kicks(actions).isEmpty, "not before the wait is over")
            online.pass(ms: 300)
            actions = online.timer(2)
            #expect(Self.kicks(actions).count == 1)
        }
        let asked = try #require(actions.asked(.any(.route)).first)
        online.pass(ms: 10_000)
        let given = online.answer(asked, refused)
        #expect(given.warnings == 1)
        online.pass(ms: 300)
        #expect(Self.kicks(online.timer(2)).isEmpty)
    }

    @Test func confirmedKickEnds() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let sent = online.call(Self.register(Self.registration("alice", "s2")))
        let actions = online.answer(
            try sent.actions.first(),
            Self.registered(.with { $0.displaced = [Self.registration("alice", "s1", login: "l7")] }))
        _ = online.answer(try #require(actions.asked(.any(.route)).first), .done(Done()))
        #expect(online.machine.kicks.count == 0)
    }

    @Test func storeTroubleIsNamed() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let one = online.call(Self.register(Self.registration("alice", "s1")))
        let no = online.answer(try one.actions.first(), refused)
        #expect(no.refusal(one.id)?.isCode(.storeUnavailable) == true)
        let two = online.call(.unregisterRequest(.with { $0.registrations = [Self.registration("alice", "s1")] }))
        let silent = online.answer(try two.actions.first(), timedOut)
        #expect(silent.refusal(two.id)?.isCode(.outcomeUnknown) == true)
        let three = online.call(.lookupRequest(.with { $0.users = [key("alice")] }))
        let short = online.answer(try three.actions.first(), Self.found())
        #expect(short.refusal(three.id)?.isCode(.internalError) == true)
        let bad = online.call(Self.register(Self.registration("", "s1")))
        guard case .registerResponse(let response)? = bad.actions.reply(bad.id) else {
            Issue.record("bad registrations are answered per item")
            return
        }
        #expect(response.results.first?.failure.isCode(.malformedRequest) == true)
        #expect(bad.actions.asked.isEmpty)
    }

    @Test func revocationClosesOldSessionsOnly() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let revoke = online.call(
            .revokeRequest(
                .with {
                    $0.items = [
                        .with {
                            $0.appID = "demo"
                            $0.userID = "alice"
                            $0.tokenEpoch = 5
                        }
                    ]
                }))
        let accepted = online.answer(try revoke.actions.first(), .done(Done()))
        #expect(accepted.reply(revoke.id) == .done(Done()))
        let lookup = try #require(accepted.asked(.any(.presenceStore)).first)
        #expect(lookup.payload == .lookupRequest(.with { $0.users = [key("alice")] }))
        // The store does not answer, then cannot tell yet: asked again.
        _ = online.answer(lookup, timedOut)
        online.pass(ms: 300)
        let second = try #require(online.timer(2).asked(.any(.presenceStore)).first)
        _ = online.answer(second, Self.found(Self.state(.presenceUnknown)))
        online.pass(ms: 300)
        let third = try #require(online.timer(2).asked(.any(.presenceStore)).first)
        var old = Self.registration("alice", "s1")
        old.tokenEpoch = 4
        var new = Self.registration("alice", "s2")
        new.tokenEpoch = 5
        let kicks = Self.kicks(online.answer(third, Self.found(Self.state(.presenceOnline, old, new))))
        #expect(kicks.flatMap(\.items).map(\.session.sessionID) == ["s1"])
        #expect(kicks.first?.items.first?.kick.reason == "token_revoked")
    }

    // MARK: users' calls

    static func presence(_ method: UInt32, _ users: [String], session: String = "s1", user: String = "alice") -> Payload
    {
        serviceCalls(
            serviceCall(5, method, user: user, session: session, body: PresenceRequest.with { $0.userIds = users }))
    }

    @Test func lookUpAnswersStatesAndPlatforms() throws {
        var online = Online(OnlineMachine(instance: "o1"))
        let sent = online.call(Self.presence(1, ["bob", "carol"]))
        let done = online.answer(
            try sent.actions.first(),
            Self.found(Self.state(.presenceOnline, Self.registration("bob", "b1")), Self.state(.presenceUnknown)))
        let response = try body(done.serviceReplies(sent.id)?.first, PresenceResponse.self)
        #expect(response.users.map(\.state) == [.presenceOnline, .presenceUnknown])
        #expect(response.users.map(\.platforms) == [["web"], []])
        let failed = online.call(Self.presence(1, ["bob", "carol"]))
        let no = online.answer(try failed.actions.first(), refused)
        #expect(no.serviceReplies(failed.id)?.first?.failure.isCode(.storeUnavailable) == true)
    }

    @Test func badPresenceCallsAreNamed() {
        var online = Online(OnlineMachine(instance: "o1"))
        func reason(_ payload: Payload) -> String? {
            let sent = online.call(payload)
            return sent.actions.serviceReplies(sent.id)?.first?.failure.reason
        }
        #expect(reason(serviceCalls(serviceCall(4, 1))) == "no_such_service")
        #expect(reason(serviceCalls(serviceCall(5, 9))) == "no_such_method")
        #expect(reason(Self.presence(1, ["a b"])) == "malformed_request")
        #expect(reason(Self.presence(1, (0...500).map { "u\($0)" })) == "limit_exceeded")
        #expect(reason(Self.presence(2, ["bob"], session: "")) == "forbidden")
        #expect(reason(Self.presence(1, [])) == "")
    }

    /// alice subscribes to bob, who is offline, at one Online.
    static func subscribed() throws -> Online {
        var online = Online(OnlineMachine(instance: "o1"))
        let sent = online.call(Self.presence(2, ["bob"]))
        let done = online.answer(try sent.actions.first(), Self.found(Self.state(.presenceOffline)))
        #expect(done.serviceReplies(sent.id)?.count == 1)
        #expect(done.told(.any(.pushProxy)).isEmpty)
        return online
    }

    @Test func changeMadeAtAnotherOnlineReachesTheSubscriber() throws {
        var here = try Self.subscribed()
        var there = Online(OnlineMachine(instance: "o2"))
        let login = there.call(Self.register(Self.registration("bob", "b1")))
        let made = there.answer(try login.actions.first(), Self.registered(.with { $0.epoch = 1 }))
        let hint = try #require(made.told(.all(.online)).first)
        let look = try #require(here.call(hint).actions.asked(.any(.presenceStore)).first)
        #expect(look.payload == .lookupRequest(.with { $0.users = [key("bob")] }))
        let pushed = here.answer(look, Self.found(Self.state(.presenceOnline, Self.registration("bob", "b1"))))
        guard case .pushEvents(let events)? = pushed.told(.any(.pushProxy)).first else {
            Issue.record("a change is pushed")
            return
        }
        #expect(events.events.map(\.users) == [[key("alice")]])
        #expect(events.events.first?.event.svid == 5)
        #expect(events.events.first?.event.name == "presence")
        let change = try PresenceChange(serializedBytes: events.events.first?.event.body ?? .init())
        #expect(
            change
                == .with {
                    $0.userID = "bob"
                    $0.online = true
                })
        // The same state again is no news, and somebody whom nobody watches is not looked up.
        let again = try #require(here.call(hint).actions.asked(.any(.presenceStore)).first)
        #expect(here.answer(again, Self.found(Self.state(.presenceOnline))).told(.any(.pushProxy)).isEmpty)
        let stranger = here.call(
            .watchRequest(
                .with {
                    $0.watcher.appID = "demo"
                    $0.userIds = ["zoe"]
                }))
        #expect(stranger.actions.asked.isEmpty)
    }

    @Test func unannouncedChangesAreFoundByLookingAndUnknownIsNoChange() throws {
        var online = try Self.subscribed()
        online.pass(ms: 1000)
        let look = try #require(online.timer(1).asked(.any(.presenceStore)).first)
        #expect(look.payload == .lookupRequest(.with { $0.users = [key("alice"), key("bob")] }))
        let alice = Self.state(.presenceOnline, Self.registration("alice", "s1"))
        #expect(online.answer(look, Self.found(alice, Self.state(.presenceUnknown))).told(.any(.pushProxy)).isEmpty)
        let next = try #require(online.timer(1).asked(.any(.presenceStore)).first)
        let pushed = online.answer(next, Self.found(alice, Self.state(.presenceOnline)))
        #expect(pushed.told(.any(.pushProxy)).count == 1)
    }

    @Test func subscriptionEndsWithItsSession() throws {
        var online = try Self.subscribed()
        let look = try #require(online.timer(1).asked(.any(.presenceStore)).first)
        _ = online.answer(look, Self.found(Self.state(.presenceOffline), Self.state(.presenceOffline)))
        #expect(online.machine.watches.isEmpty)
        #expect(online.machine.watches.pairs == 0)
        #expect(online.timer(1).asked(.any(.presenceStore)).isEmpty)
    }

    @Test func announcesItselfEverySecond() {
        var machine = OnlineMachine(instance: "o1")
        let actions = machine.on(.start, now: Instant(micros: 0, wallMS: 0))
        #expect(
            actions.told(.all(.route)) == [
                .serviceAnnounce(
                    .with {
                        $0.svids = [5]
                        $0.instanceID = "online/o1"
                    })
            ])
        #expect(actions.contains(.timer(1, afterMS: 1000)))
    }
}
