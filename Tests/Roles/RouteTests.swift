import RPC
import Testing
import Wire

@testable import RouteRole

@Suite struct RouteTests {
    typealias Route = Script<RouteMachine>

    static func announce(_ svids: [UInt32], _ id: String, app: String = "", leaving: Bool = false) -> Payload {
        .serviceAnnounce(
            .with {
                $0.svids = svids
                $0.instanceID = id
                $0.appID = app
                $0.leaving = leaving
            })
    }

    static func route(_ instances: String..., svid: UInt32 = 1, app: String = "") -> Route {
        var route = Route(RouteMachine(instance: "r1"))
        for id in instances { _ = route.call(announce([svid], id, app: app)) }
        return route
    }

    /// Answers a call with replies that carry the bodies asked.
    static func echo(_ asked: Asked) throws -> Payload {
        guard case .serviceCalls(let calls) = asked.payload else { throw Failure(.internalError, "no calls") }
        return .serviceReplies(.with { $0.replies = calls.calls.map { call in .with { $0.body = call.body } } })
    }

    static func numbered(_ numbers: [UInt32], session: String = "s1", key: String = "c") -> [ServiceCall] {
        numbers.map { number in
            serviceCall(
                1, number, session: session, key: key, body: TypingRequest.with { $0.conversation = "\(number)" })
        }
    }

    static func methods(_ asked: Asked?) -> [UInt32] {
        guard case .serviceCalls(let calls)? = asked?.payload else { return [] }
        return calls.calls.map(\.method)
    }

    @Test func announcedServiceIsToldLeaseAndAnswersInOrder() throws {
        var route = Route(RouteMachine(instance: "r1"))
        let announced = route.call(Self.announce([1], "im/a"))
        #expect(
            announced.actions.reply(announced.id)
                == .serviceAnnounced(
                    .with {
                        $0.leaseMs = 5000
                        $0.routeID = "r1"
                    }))
        let one = route.take(.serviceCalls(.with { $0.calls = Self.numbered([1, 2]) }))
        let two = route.take(.serviceCalls(.with { $0.calls = Self.numbered([3], session: "s2") }))
        #expect(one.actions.isEmpty && two.actions.isEmpty)
        let asked = route.flush().asked
        #expect(asked.count == 1)
        #expect(asked[0].address == .instance(.im, "a"))
        #expect(Self.methods(asked[0]) == [1, 2, 3])
        let done = route.answer(asked[0], try Self.echo(asked[0]))
        #expect(try body(done.serviceReplies(one.id)?[1], TypingRequest.self).conversation == "2")
        #expect(try body(done.serviceReplies(two.id)?[0], TypingRequest.self).conversation == "3")
    }

    @Test func unknownServiceIsRetryWhileLearningThenUnavailableOrUnknown() {
        var route = Route(RouteMachine(instance: "r1"))
        let early = route.call(serviceCalls(serviceCall(7, 1), serviceCall(1000, 1)))
        #expect(early.actions.serviceReplies(early.id)?.map(\.failure.reason) == ["retry", "retry"])
        route.pass(ms: 3001)
        let late = route.call(serviceCalls(serviceCall(7, 1), serviceCall(1000, 1)))
        #expect(
            late.actions.serviceReplies(late.id)?.map(\.failure.reason) == ["service_unavailable", "no_such_service"])
    }

    @Test func servicesFrom1000BelongToAnApp() {
        var route = Self.route("bot/a", svid: 1000, app: "demo")
        route.pass(ms: 3001)
        _ = route.call(Self.announce([1000], "bot/a", app: "demo"))
        let other = route.call(serviceCalls(serviceCall(1000, 1, app: "else")))
        #expect(other.actions.serviceReplies(other.id)?.first?.failure.isCode(.noSuchService) == true)
        let own = route.call(serviceCalls(serviceCall(1000, 1)))
        #expect(own.actions.asked.map(\.address) == [.instance(RoleName(rawValue: "bot"), "a")])
        let nameless = route.call(Self.announce([1000], "bot/a"))
        #expect(nameless.actions.refusal(nameless.id)?.isCode(.malformedRequest) == true)
        let tooLarge = route.call(Self.announce([70_000], "bot/a", app: "demo"))
        #expect(tooLarge.actions.refusal(tooLarge.id)?.isCode(.malformedRequest) == true)
        // A service of an app cannot make itself IM.
        let pretender = route.call(Self.announce([1], "service/a", app: "demo"))
        #expect(pretender.actions.refusal(pretender.id)?.isCode(.forbidden) == true)
        let noRole = route.call(Self.announce([1], "bot"))
        #expect(noRole.actions.refusal(noRole.id)?.isCode(.malformedRequest) == true)
    }

    @Test func leaseEndsAndLeavingDrains() {
        var route = Self.route("im/a", "im/b")
        _ = route.call(Self.announce([1], "im/a", leaving: true))
        for _ in 0..<4 {
            let sent = route.call(serviceCalls(serviceCall(1, 1)))
            #expect(sent.actions.asked.map(\.address) == [.instance(.im, "b")])
        }
        route.pass(ms: 5001)
        let sent = route.call(serviceCalls(serviceCall(1, 1)))
        #expect(sent.actions.serviceReplies(sent.id)?.first?.failure.isCode(.serviceUnavailable) == true)
        _ = route.timer(1)
        #expect(route.machine.table.registrations == 0)
    }

    @Test func balancesButKeepsAnOrderedBatchTogether() {
        var route = Self.route("im/a", "im/b")
        let calls = Self.numbered([1, 2, 3], session: "s1") + Self.numbered([4, 5], session: "s2")
        let sent = route.call(.serviceCalls(.with { $0.calls = calls }))
        #expect(sent.actions.asked.map { Self.methods($0) } == [[1, 2, 3], [4, 5]])
        let loose = route.call(.serviceCalls(.with { $0.calls = Self.numbered([1, 2, 3, 4], key: "") }))
        #expect(loose.actions.asked.map { Self.methods($0) } == [[1, 3], [2, 4]])
    }

    @Test func refusedBatchGoesWholeAndFirstToAnotherInstance() throws {
        var route = Self.route("im/a", "im/b")
        let first = route.call(.serviceCalls(.with { $0.calls = Self.numbered([1, 2]) }))
        let asked = try first.actions.first()
        #expect(asked.address == .instance(.im, "a"))
        // A resend of the same key arrives before the refusal is known, and waits for the same flush.
        let later = route.take(.serviceCalls(.with { $0.calls = Self.numbered([3]) }))
        let second = route.answer(asked, refused)
        #expect(second.asked.count == 1)
        #expect(second.asked[0].address == .instance(.im, "b"))
        #expect(Self.methods(second.asked[0]) == [1, 2, 3])
        let done = route.answer(second.asked[0], try Self.echo(second.asked[0]))
        #expect(done.serviceReplies(first.id)?.count == 2)
        #expect(done.serviceReplies(later.id)?.count == 1)
    }

    @Test func secondRefusalOnlyInstanceAndExpiredCallsFail() throws {
        var route = Self.route("im/a", "im/b")
        let twice = route.call(serviceCalls(serviceCall(1, 1)))
        let again = route.answer(try twice.actions.first(), refused)
        let end = route.answer(try again.first(), refused)
        #expect(end.serviceReplies(twice.id)?.first?.failure.isCode(.serviceUnavailable) == true)

        var single = Self.route("im/a")
        let only = single.call(serviceCalls(serviceCall(1, 1)))
        let gone = single.answer(try only.actions.first(), refused)
        #expect(gone.serviceReplies(only.id)?.first?.failure.isCode(.serviceUnavailable) == true)

        let late = route.call(serviceCalls(serviceCall(1, 1)), deadlineMS: 100)
        let asked = try late.actions.first()
        #expect(asked.timeoutMS <= 101)
        route.pass(ms: 200)
        let expired = route.answer(asked, refused)
        #expect(expired.asked.isEmpty)
        #expect(expired.serviceReplies(late.id)?.first?.failure.isCode(.deadlineExceeded) == true)
    }

    @Test func silenceAndNonsenseAreOutcomeUnknown() throws {
        var route = Self.route("im/a", "im/b")
        let silent = route.call(serviceCalls(serviceCall(1, 1)))
        let end = route.answer(try silent.actions.first(), timedOut)
        #expect(end.asked.isEmpty)
        #expect(end.serviceReplies(silent.id)?.first?.failure.isCode(.outcomeUnknown) == true)
        let odd = route.call(serviceCalls(serviceCall(1, 1)))
        let short = route.answer(try odd.actions.first(), .serviceReplies(ServiceReplies()))
        #expect(short.serviceReplies(odd.id)?.first?.failure.isCode(.outcomeUnknown) == true)
    }

    @Test func repeatableCallsGoToAnotherInstanceWhenTheirOutcomeIsUnknown() throws {
        func start(_ ids: String...) -> Route {
            var route = Route(RouteMachine(instance: "r1"))
            for id in ids {
                let announce = ServiceAnnounce.with {
                    $0.svids = [1]
                    $0.instanceID = id
                    $0.repeatableMethods = [7]
                }
                _ = route.call(.serviceAnnounce(announce))
            }
            return route
        }
        var route = start("im/a", "im/b")
        let sent = route.call(.serviceCalls(.with { $0.calls = Self.numbered([7, 8]) }))
        let again = route.answer(try sent.actions.first(), timedOut)
        #expect(again.asked.map(\.address) == [.instance(.im, "b")])
        #expect(Self.methods(again.asked.first) == [7], "what is not repeatable is not repeated")
        let done = route.answer(try again.first(), try Self.echo(try again.first()))
        #expect(done.serviceReplies(sent.id)?.map(\.failure.reason) == ["", "outcome_unknown"])
        // Once open, a refusal of the second instance, none at all, or a passed deadline are no certain failures.
        let refusedNext = route.call(serviceCalls(serviceCall(1, 7)))
        let second = route.answer(try refusedNext.actions.first(), timedOut)
        let end = route.answer(try second.first(), refused)
        #expect(end.serviceReplies(refusedNext.id)?.first?.failure.isCode(.outcomeUnknown) == true)
        var single = start("im/a")
        let only = single.call(serviceCalls(serviceCall(1, 7)))
        let gone = single.answer(try only.actions.first(), timedOut)
        #expect(gone.serviceReplies(only.id)?.first?.failure.isCode(.outcomeUnknown) == true)
        let late = route.call(serviceCalls(serviceCall(1, 7)), deadlineMS: 100)
        route.pass(ms: 200)
        let expired = route.answer(try late.actions.first(), timedOut)
        #expect(expired.serviceReplies(late.id)?.first?.failure.isCode(.outcomeUnknown) == true)
    }

    @Test func breakerSkipsAfterFiveFailuresAndCloses() throws {
        var route = Self.route("im/a")
        for round in 1...5 {
            let sent = route.call(serviceCalls(serviceCall(1, 1)))
            let end = route.answer(try sent.actions.first(), timedOut)
            #expect(end.warnings == (round == 5 ? 1 : 0))
        }
        let skipped = route.call(serviceCalls(serviceCall(1, 1)))
        #expect(skipped.actions.serviceReplies(skipped.id)?.first?.failure.isCode(.serviceUnavailable) == true)
        route.pass(ms: 2001)
        let probe = route.call(serviceCalls(serviceCall(1, 1)))
        let asked = try probe.actions.first()
        _ = route.answer(asked, try Self.echo(asked))
        let next = route.call(serviceCalls(serviceCall(1, 1)))
        _ = route.answer(try next.actions.first(), timedOut)
        let open = route.call(serviceCalls(serviceCall(1, 1)))
        #expect(open.actions.asked.count == 1, "one failure after a success skips nobody")
    }

    @Test func overLimitIsOverloadedAndTracesAreEmitted() {
        var config = RouteConfig()
        config.maxItems = 2
        var route = Route(RouteMachine(instance: "r1", config: config))
        _ = route.call(Self.announce([1], "im/a"))
        let sent = route.call(serviceCalls(serviceCall(1, 1, trace: "t1"), serviceCall(1, 2)))
        #expect(sent.actions.traces == ["t1 route up"])
        let more = route.call(serviceCalls(serviceCall(1, 1)))
        #expect(more.actions.refusal(more.id)?.isCode(.overloaded) == true)
    }

    // MARK: down

    static func deliver(_ login: String) -> Payload {
        .deliverRequest(
            .with { request in
                request.loginID = login
                request.deliveries = [
                    .with { delivery in
                        delivery.traceID = "t9"
                        delivery.targets = [.with { $0.sessionID = "s1" }, .with { $0.sessionID = "s2" }]
                        delivery.senders = [.with { $0.sessionID = "s3" }]
                    }
                ]
            })
    }

    @Test func deliveryGoesToItsLoginAndBack() throws {
        var route = Route(RouteMachine(instance: "r1"))
        let sent = route.call(Self.deliver("l1"), deadlineMS: 1500)
        let asked = try sent.actions.first()
        #expect(asked.address == .instance(.login, "l1"))
        #expect(asked.payload == Self.deliver("l1"))
        #expect(asked.timeoutMS <= 1501)
        #expect(sent.actions.traces == ["t9 route down"])
        let response = Payload.deliverResponse(.with { $0.results = [.with { $0.targets = [.delivered, .full] }] })
        #expect(route.answer(asked, response).reply(sent.id) == response)
    }

    @Test func unreachableLoginIsNotHereOnlyWhenRouteCanKnow() throws {
        var route = Route(RouteMachine(instance: "r1"))
        let early = route.call(Self.deliver("l1"))
        #expect(route.answer(try early.actions.first(), refused).refusal(early.id)?.isCode(.retry) == true)
        route.pass(ms: 3001)
        let late = route.call(Self.deliver("l1"))
        let nobody = Payload.deliverResponse(
            .with {
                $0.results = [
                    .with {
                        $0.targets = [.notHere, .notHere]
                        $0.senders = [.notHere]
                    }
                ]
            })
        #expect(route.answer(try late.actions.first(), refused).reply(late.id) == nobody)
        _ = route.call(.loginAnnounce(.with { $0.loginID = "l1" }))
        let alive = route.call(Self.deliver("l1"))
        #expect(route.answer(try alive.actions.first(), refused).refusal(alive.id)?.isCode(.retry) == true)
        _ = route.call(
            .loginAnnounce(
                .with {
                    $0.loginID = "l1"
                    $0.leaving = true
                }))
        let gone = route.call(Self.deliver("l1"))
        #expect(route.answer(try gone.actions.first(), refused).reply(gone.id) == nobody)
        _ = route.call(.loginAnnounce(.with { $0.loginID = "l1" }))
        route.pass(ms: 3001)
        let dead = route.call(Self.deliver("l1"))
        #expect(route.answer(try dead.actions.first(), refused).reply(dead.id) == nobody)
        let silent = route.call(Self.deliver("l1"))
        let unknown = route.answer(try silent.actions.first(), timedOut)
        #expect(unknown.refusal(silent.id)?.isCode(.outcomeUnknown) == true)
        let busy = route.call(Self.deliver("l1"))
        let overloaded = CallResult.refused(Failure(.overloaded, "full"))
        #expect(route.answer(try busy.actions.first(), overloaded).refusal(busy.id)?.isCode(.overloaded) == true)
    }

    @Test func kicksAndEventsOfAnUnreachableLogin() throws {
        var route = Route(RouteMachine(instance: "r1"))
        route.pass(ms: 3001)
        let kick = route.call(
            .kickRequest(
                .with {
                    $0.loginID = "l1"
                    $0.items = [KickItem()]
                }))
        guard case .done(let done)? = route.answer(try kick.actions.first(), refused).reply(kick.id) else {
            Issue.record("a kick is answered with Done")
            return
        }
        #expect(done.failures.map(\.retryable) == [true])
        let event = route.call(
            .eventRequest(
                .with {
                    $0.loginID = "l1"
                    $0.items = [.with { $0.sessions = [SessionRef()] }]
                }))
        let result = route.answer(try event.actions.first(), refused).reply(event.id)
        #expect(result == .eventResponse(.with { $0.results = [.with { $0.sessions = [.notHere] }] }))
        let nameless = route.call(.kickRequest(KickRequest()))
        #expect(nameless.actions.refusal(nameless.id)?.isCode(.malformedRequest) == true)
    }
}
