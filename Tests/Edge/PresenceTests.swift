import Identity
import RPC
import Testing
import Wire

@testable import LoginRole

@Suite struct PresenceTests {
    private func leases(_ script: inout LoginScript) -> [LoginScript.Made] {
        script.takeCalls(.online) { if case .leaseRequest = $0 { true } else { false } }
    }

    private func lease(_ life: UInt64, _ slices: SessionSlices? = nil, shown: [Registration] = []) -> Payload {
        .leaseResponse(
            LeaseResponse.with {
                $0.life = life
                $0.slices = slices?.sums ?? []
                $0.shown = shown
            })
    }

    private func registered(_ results: (epoch: UInt64, life: UInt64)...) -> Payload {
        .registerResponse(
            RegisterResponse.with {
                $0.results = results.map { one in
                    RegisterResult.with {
                        $0.epoch = one.epoch
                        $0.life = one.life
                    }
                }
            })
    }

    private func registrations(_ call: LoginScript.Made) throws -> [Registration] {
        guard case .registerRequest(let request) = call.payload else {
            Issue.record("\(call)")
            return []
        }
        return request.registrations
    }

    @Test func leasesEveryTwoSeconds() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.answersLeases = false
        script.advance(ms: 100)
        let first = leases(&script)
        #expect(
            first.map(\.payload) == [
                .leaseRequest(
                    LeaseRequest.with {
                        $0.loginID = "login-0"
                        $0.leaseMs = 6000
                    })
            ])
        // One at a time; a lost one is not waited for longer than its call.
        script.advance(ms: 5000)
        #expect(leases(&script).isEmpty)
        script.fail(first[0], .unknown(Failure(.deadlineExceeded, "")))
        script.advance(ms: 100)
        #expect(leases(&script).count == 1)
    }

    @Test func aForgottenLoginRegistersEverybodyAgain() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice")
        let bob = try script.login(2, "bob")
        script.answersLeases = false
        script.advance(ms: 100)
        script.answer(leases(&script)[0], lease(2))
        let call = try script.takeCall(.online)
        #expect(try Set(registrations(call).map(\.sessionID)) == [alice, bob])
        #expect(try registrations(call).map(\.welcomedUs).allSatisfy { $0 >= LoginScript.startMS * 1000 })
        // Tried again until it is heard.
        script.fail(call, .refused(Failure(.serviceUnavailable, "")))
        script.advance(ms: 600)
        _ = leases(&script)
        let again = try script.takeCall(.online)
        #expect(again.payload.kind == 10)
        script.answer(again, registered((9, 2), (9, 2)))
        #expect(script.takeFrames(1).map(\.type) == [.syncNeeded])
        #expect(script.takeFrames(2).map(\.type) == [.syncNeeded])
        script.input(.closed(ConnectionID(1)))
        script.flush()
        guard case .unregisterRequest(let gone) = try script.takeCall(.online).payload else { return }
        #expect(gone.registrations.map(\.epoch) == [9])
    }

    @Test func aSessionThatOnlineRefusesIsKicked() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.answersLeases = false
        script.advance(ms: 100)
        script.answer(leases(&script)[0], lease(2))
        let result = RegisterResult.with { $0.failure = Failure(.tokenRevoked, "") }
        script.answer(try script.takeCall(.online), .registerResponse(RegisterResponse.with { $0.results = [result] }))
        guard case .kick(let body)? = script.takeFrames(1).last else {
            Issue.record("no KICK")
            return
        }
        #expect(Kick(body: body)?.reason == "token_revoked")
    }

    /// Somebody's registration has begun the lease anew before Login asked for it: that answer is enough.
    @Test func aNewcomersAnswerSaysThatTheOthersAreForgotten() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice")
        script.life = 2
        try script.login(2, "bob")
        let call = try script.takeCall(.online)
        #expect(try registrations(call).map(\.sessionID) == [alice])
        script.answer(call, registered((5, 2)))
        #expect(script.takeFrames(1).map(\.type) == [.syncNeeded])
        script.advance(ms: 3000)
        #expect(script.takeCalls(.online).isEmpty)
        // The answer of an earlier life, late: only this one is not there any more.
        script.life = 1
        let carol = try script.login(3, "carol")
        #expect(script.takeCalls(.online).isEmpty)
        script.life = 2
        script.advance(ms: 300)
        let late = try script.takeCall(.online)
        #expect(try registrations(late).map(\.sessionID) == [carol])
        script.answer(late, registered((6, 2)))
        script.advance(ms: 3000)
        #expect(script.takeCalls(.online).isEmpty)
    }

    /// Nobody is told to sync whose registration was there all the time.
    @Test func aRegistrationThatWasThereIsNoReasonToSync() throws {
        var script = LoginScript()
        try script.login(1, "alice", epoch: 7)
        script.answersLeases = false
        script.advance(ms: 100)
        script.answer(leases(&script)[0], lease(2))
        script.answer(try script.takeCall(.online), registered((7, 2)))
        #expect(script.takeFrames(1).isEmpty)
    }

    @Test func sessionsAndRegistrationsAreComparedBothWays() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice", epoch: 3)
        let bob = try script.login(2, "bob")
        script.answersLeases = false
        script.advance(ms: 100)
        // Bob is there, Alice is not, and there is somebody we do not know.
        let other = Registration.with {
            $0.sessionID = "login-0-99-x"
            $0.loginID = "login-0"
            $0.epoch = 8
        }
        var slices = SessionSlices()
        slices.add(bob)
        slices.add(other.sessionID)
        script.answer(leases(&script)[0], lease(1, slices))
        #expect(script.takeCalls(.online).isEmpty)
        script.advance(ms: 2000)
        let asked = leases(&script)[0]
        guard case .leaseRequest(let request) = asked.payload else { return }
        #expect(request.show == [alice, other.sessionID].map { UInt32(SessionSlices.slice(of: $0)) }.sorted())
        script.answer(asked, lease(1, slices, shown: [other]))
        let calls = script.takeCalls(.online)
        try #require(calls.count == 2)
        guard case .unregisterRequest(let gone) = calls[0].payload else {
            Issue.record("\(calls[0])")
            return
        }
        #expect(gone.registrations == [other])
        #expect(try registrations(calls[1]).map(\.sessionID) == [alice])
        script.answer(calls[0], .done(Done()))
        script.answer(calls[1], registered((9, 1)))
        #expect(script.takeFrames(1).map(\.type) == [.syncNeeded])
        script.advance(ms: 2000)
        let last = leases(&script)[0]
        slices = script.machine.presence.slices
        script.answer(last, lease(1, slices))
        script.advance(ms: 2000)
        #expect(
            leases(&script).map(\.payload) == [
                .leaseRequest(
                    LeaseRequest.with {
                        $0.loginID = "login-0"; $0.leaseMs = 6000
                    })
            ])
    }

    /// With sessions always on their way every slice differs: each is looked at in its turn.
    @Test func everySliceHasItsTurn() throws {
        var script = LoginScript()
        script.answersLeases = false
        var seen: Set<UInt32> = []
        var wrong = SessionSlices()
        for number in 0..<10_000 { wrong.add("s\(number)") }
        for _ in 0...SessionSlices.count / 4 {
            script.advance(ms: 2000)
            let asked = leases(&script)[0]
            guard case .leaseRequest(let request) = asked.payload else { return }
            #expect(request.show.count <= 4)
            seen.formUnion(request.show)
            script.answer(asked, lease(1, wrong))
        }
        #expect(seen.count == SessionSlices.count)
    }

    /// Ours is the older session, whichever registered first: it ends for good, or its device comes back.
    @Test func theOlderSessionEnds() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.answersLeases = false
        script.advance(ms: 100)
        script.answer(leases(&script)[0], lease(2))
        let failure = RegisterResult.with { $0.failure = Failure(.superseded, "a later login") }
        let response = RegisterResponse.with { $0.results = [failure] }
        script.answer(try script.takeCall(.online), .registerResponse(response))
        guard case .kick(let body)? = script.takeFrames(1).last else {
            Issue.record("no KICK")
            return
        }
        #expect(Kick(body: body)?.reason == "displaced_by_newer_login")
        _ = script.takeOutputs()
        _ = script.takeCalls(.online)

        // A handshake has served nobody yet: its device is told to come back.
        script.present(2, token: try script.token("alice"))
        script.answer(try script.takeCall(.online), .registerResponse(response))
        let error = try script.takeError(2)
        #expect(error.isCode(.superseded))
        #expect(error.retryable)
    }

    /// The number that orders sessions is taken before WELCOME is written, and never twice.
    @Test func sessionsAreOrderedByTheirWelcome() throws {
        var script = LoginScript()
        script.input(.opened(ConnectionID(1)))
        script.frame(1, LoginScript.hello())
        script.input(.opened(ConnectionID(2)))
        script.frame(2, LoginScript.hello())
        script.now.wallMS -= 5000
        script.input(.opened(ConnectionID(3)))
        script.frame(3, LoginScript.hello())
        var found: [UInt64] = []
        for id in [3, 2, 1] as [UInt64] {
            script.frame(id, LoginScript.authenticate(try script.token("u\(id)")))
            script.flush()
            script.knowApps()
            let call = try script.takeCall(.online)
            found += try registrations(call).map(\.welcomedUs)
        }
        let first = LoginScript.startMS * 1000
        #expect(found == [first + 2, first + 1, first])
    }

    @Test func appsMayAllowSeveralSessions() throws {
        var script = LoginScript()
        script.present(1, token: try script.token("alice"), app: LoginScript.app { $0.multiSession = true })
        let call = try script.takeCall(.online)
        #expect(try registrations(call).map(\.keepOthers) == [true])
        script.answer(call, registered((1, 1)))
        script.answersLeases = false
        script.advance(ms: 100)
        script.answer(leases(&script)[0], lease(2))
        #expect(try registrations(try script.takeCall(.online)).map(\.keepOthers) == [true])
    }

    @Test func aSessionEndsWithItsToken() throws {
        var script = LoginScript()
        func login(_ id: UInt64, seconds: UInt64) throws {
            let token = try LoginScript.issuer.issue(
                userID: "u\(id)", lifetimeSeconds: seconds, nowMS: script.now.wallMS)
            script.present(id, token: token)
            script.answer(try script.takeCall(.online), registered((1, 1)))
            _ = script.takeFrames(id)
        }
        try login(1, seconds: 2)
        try login(2, seconds: 100)
        try login(3, seconds: 3600)
        _ = script.takeOutputs()
        script.advance(ms: 1900)
        #expect(script.takeFrames(1).isEmpty)
        script.advance(ms: 200)
        guard case .kick(let body)? = script.takeFrames(1).first else {
            Issue.record("no KICK")
            return
        }
        #expect(Kick(body: body)?.reason == "token_expired")
        #expect(script.takeOutputs() == [.finish(ConnectionID(1))])
        // Heard all the time, and ended all the same.
        for _ in 0..<9 {
            script.advance(ms: 10_000)
            script.frame(2, .ping)
            script.frame(3, .ping)
        }
        #expect(script.takeFrames(2).map(\.type).contains(.kick) == false)
        script.advance(ms: 8000)
        #expect(script.takeFrames(2).map(\.type) == [.kick])
        #expect(script.takeFrames(3).map(\.type).contains(.kick) == false)
    }

    @Test func unregistrationsAreTriedAgain() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice", epoch: 4)
        script.frame(1, .bye)
        #expect(script.takeOutputs() == [.finish(ConnectionID(1))])
        script.flush()
        for _ in 0..<3 {
            let call = try script.takeCall(.online)
            guard case .unregisterRequest(let request) = call.payload else {
                Issue.record("\(call)")
                return
            }
            #expect(request.registrations.map(\.sessionID) == [alice])
            #expect(request.registrations.map(\.epoch) == [4])
            script.fail(call, .unknown(Failure(.deadlineExceeded, "")))
            script.advance(ms: 5100)
        }
        script.answer(try script.takeCall(.online), .done(Done()))
        script.advance(ms: 10_000)
        #expect(script.takeCalls(.online).isEmpty)
    }

    @Test func heartbeats() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.advance(ms: 50_000)
        script.frame(1, .ping)
        #expect(script.takeFrames(1) == [.pong])
        script.advance(ms: 59_900)
        #expect(script.takeFrames(1).isEmpty)
        script.advance(ms: 200)
        #expect(try script.takeError(1).isCode(.heartbeatTimeout))
        #expect(try script.takeCall(.online).payload.kind == 12)
    }

    @Test func drainingLetsRequestsEnd() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        try script.login(2, "bob")
        script.request(1, 1)
        script.flush()
        let (call, _) = try script.takeServiceCalls()
        script.input(.drain)
        script.flush()
        #expect(try script.takeError(2).isCode(.goingAway))
        #expect(script.takeFrames(1).isEmpty)
        script.request(1, 2)
        #expect(script.takeFrames(1).compactMap { $0.failureCode?.code } == [ErrorCode.goingAway.number])
        script.answerCalls(call, [LoginScript.ok()])
        #expect(script.takeFrames(1).map(\.type) == [.response, .error])
        _ = script.takeOutputs()
        // Not done before Online knows.
        for _ in 0..<2 {
            script.advance(ms: 200)
            #expect(script.takeOutputs().isEmpty)
            for gone in script.takeCalls(.online) { script.answer(gone, .done(Done())) }
        }
        script.advance(ms: 200)
        #expect(script.takeOutputs().contains(.drained))
        script.input(.opened(ConnectionID(3)))
        #expect(try script.takeError(3).isCode(.goingAway))
    }

    @Test func goodbyesAreSpread() throws {
        var script = LoginScript {
            $0.drainPerTick = 2
            $0.drainSpreadMS = 1000
        }
        for id in 1...30 as ClosedRange<UInt64> { try script.login(id, "u\(id)") }
        _ = script.takeOutputs()
        script.input(.drain)
        var ended: [Int] = []
        for _ in 0..<12 {
            ended.append(script.takeOutputs().filter { if case .finish = $0 { true } else { false } }.count)
            for gone in script.takeCalls(.online) { script.answer(gone, .done(Done())) }
            script.advance(ms: 100)
        }
        #expect(ended == [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0])
    }

    @Test func routesAreToldThatItIsAlive() throws {
        var script = LoginScript()
        script.advance(ms: 3000)
        #expect(script.announced.map(\.loginID) == ["login-0", "login-0", "login-0"])
        #expect(script.announced.map(\.leaving) == [false, false, false])
        script.announced = []
        script.input(.drain)
        #expect(script.announced.map(\.leaving) == [true])
        script.advance(ms: 3000)
        #expect(script.announced.count == 1)
    }

    @Test func drainingEndsInAnyCase() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.request(1, 1)
        script.flush()
        script.input(.drain)
        script.advance(ms: 5200)
        #expect(script.takeFrames(1).map(\.type) == [.error])
        #expect(script.takeOutputs().contains(.drained))
    }

    @Test func theSameEventsTheSameActions() throws {
        func run() throws -> [String] {
            var script = LoginScript()
            var log: [String] = []
            for id in 1...20 as ClosedRange<UInt64> { log.append(try script.login(id, "u\(id)")) }
            script.answersLeases = false
            script.advance(ms: 2100)
            for call in leases(&script) { script.answer(call, lease(2)) }
            script.input(.drain)
            script.advance(ms: 6000)
            log += script.calls.map { "\($0)" } + script.written.map { "\($0)" } + script.outputs.map { "\($0)" }
            return log
        }
        #expect(try run() == run())
    }
}
