import RPC
import Testing
import Wire

@testable import LoginRole

@Suite struct PresenceTests {
    private func leases(_ script: inout LoginScript) -> [LoginScript.Made] {
        script.takeCalls(.online) { if case .leaseRequest = $0 { true } else { false } }
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
                        $0.sessions = 1
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
        script.answer(leases(&script)[0], .leaseResponse(LeaseResponse()))
        let call = try script.takeCall(.online)
        guard case .registerRequest(let request) = call.payload else {
            Issue.record("\(call)")
            return
        }
        #expect(Set(request.registrations.map(\.sessionID)) == [alice, bob])
        // Tried again until it is heard.
        script.fail(call, .refused(Failure(.serviceUnavailable, "")))
        script.advance(ms: 600)
        _ = leases(&script)
        let again = try script.takeCall(.online)
        #expect(again.payload.kind == 10)
        var results = [RegisterResult(), RegisterResult()]
        results[0].epoch = 9
        results[1].epoch = 9
        script.answer(again, .registerResponse(RegisterResponse.with { $0.results = results }))
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
        script.answer(leases(&script)[0], .leaseResponse(LeaseResponse()))
        let result = RegisterResult.with { $0.failure = Failure(.tokenRevoked, "") }
        script.answer(try script.takeCall(.online), .registerResponse(RegisterResponse.with { $0.results = [result] }))
        guard case .kick(let body)? = script.takeFrames(1).last else {
            Issue.record("no KICK")
            return
        }
        #expect(Kick(body: body)?.reason == "token_revoked")
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
            for call in leases(&script) { script.answer(call, .leaseResponse(LeaseResponse())) }
            script.input(.drain)
            script.advance(ms: 6000)
            log += script.calls.map { "\($0)" } + script.written.map { "\($0)" } + script.outputs.map { "\($0)" }
            return log
        }
        #expect(try run() == run())
    }
}
