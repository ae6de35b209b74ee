import Identity
import NIOCore
import RPC
import Testing
import Wire

@testable import LoginRole

@Suite struct HandshakeTests {
    @Test func welcomeHasVersionAndTime() throws {
        var script = LoginScript()
        script.input(.opened(ConnectionID(1)))
        script.frame(1, LoginScript.hello(version: 9))
        script.flush()
        guard case .welcome(let body)? = script.takeFrames(1).first, let welcome = Welcome(body: body) else {
            Issue.record("no WELCOME")
            return
        }
        #expect(welcome.version == 1)
        #expect(welcome.serverTimeMs == LoginScript.startMS)
        #expect(welcome.heartbeatMs == 30_000)
        #expect(welcome.maxFrameBytes == 128 * 1024)
        #expect(script.outputs.last == .flush)
    }

    @Test func versionZeroIsRefused() throws {
        var script = LoginScript()
        script.input(.opened(ConnectionID(1)))
        script.frame(1, LoginScript.hello(version: 0))
        #expect(try script.takeError(1).isCode(.unsupportedVersion))
    }

    @Test func framesOutOfOrderAreRefused() throws {
        let cases: [[Frame]] = [
            [LoginScript.authenticate("x")], [LoginScript.hello(), LoginScript.hello()],
            [LoginScript.hello(), .request(.init(svid: 1, method: 1, requestID: 1), ByteBuffer())],
            [.pushAck(pushID: 1)], [.welcome(ByteBuffer())],
            Array(repeating: .ping, count: 17),
        ]
        for frames in cases {
            var script = LoginScript()
            script.input(.opened(ConnectionID(1)))
            for frame in frames { script.frame(1, frame) }
            #expect(try script.takeError(1).isCode(.unexpectedFrame), "\(frames)")
        }
    }

    @Test func bodiesThatDoNotDecode() throws {
        var script = LoginScript()
        script.input(.opened(ConnectionID(1)))
        script.frame(1, .hello(ByteBuffer(bytes: [0x08])))
        #expect(try script.takeError(1).isCode(.malformedFrame))
        script.input(.opened(ConnectionID(2)))
        script.input(.malformed(ConnectionID(2), .tooLarge("9000 bytes")))
        #expect(try script.takeError(2).isCode(.frameTooLarge))
    }

    @Test func silenceBeforeLogin() throws {
        var script = LoginScript()
        script.input(.opened(ConnectionID(1)))
        script.advance(ms: 9900)
        #expect(script.takeFrames(1).isEmpty)
        script.frame(1, .ping)
        script.advance(ms: 200)
        #expect(try script.takeError(1).isCode(.handshakeTimeout))
        script.advance(ms: 1100)
        #expect(script.takeOutputs() == [.abort(ConnectionID(1))])
    }

    @Test func loginRegistersThenAuthenticates() throws {
        var script = LoginScript()
        script.present(1, token: try script.token("alice"))
        let call = try script.takeCall(.online)
        guard case .registerRequest(let request) = call.payload, let one = request.registrations.first else {
            Issue.record("\(call)")
            return
        }
        #expect(one.appID == "demo" && one.userID == "alice" && one.deviceID == "phone" && one.platform == "ios")
        #expect(one.loginID == "login-0" && one.sessionID.hasPrefix("login-0-1-"))
        // WELCOME, and nothing more until Online has answered.
        #expect(script.takeFrames(1).count == 1)
    }

    @Test func keysAreAskedForOnceAndKept() throws {
        var script = LoginScript()
        for id in 1...3 as ClosedRange<UInt64> {
            script.input(.opened(ConnectionID(id)))
            script.frame(id, LoginScript.hello())
            script.frame(id, LoginScript.authenticate(try script.token("u\(id)")))
        }
        script.flush()
        let call = try script.takeCall(.user)
        #expect(call.payload == .appsGet(AppsGet.with { $0.appIds = ["demo"] }))
        script.answer(call, .appsGot(AppsGot.with { $0.apps = [LoginScript.app()] }))
        script.accountsExist()
        guard case .registerRequest(let request) = try script.takeCall(.online).payload else { return }
        #expect(request.registrations.count == 3)
        script.advance(ms: 59_000)
        script.input(.opened(ConnectionID(4)))
        script.frame(4, LoginScript.hello())
        script.frame(4, LoginScript.authenticate(try script.token("u4")))
        script.flush()
        script.accountsExist()
        #expect(script.takeCalls(.user).isEmpty)
        script.advance(ms: 2000)
        script.input(.opened(ConnectionID(5)))
        script.frame(5, LoginScript.hello())
        script.frame(5, LoginScript.authenticate(try script.token("u5")))
        script.flush()
        #expect(script.takeCalls(.user).count == 1)
    }

    @Test func everyWayATokenCanBeWrong() throws {
        let now = LoginScript.startMS / 1000
        func token(_ claims: TokenClaims, key: TokenKey? = nil) throws -> String {
            try TokenIssuer(appID: "demo", key: key ?? LoginScript.issuer.key).issue(claims)
        }
        let good = TokenClaims(appID: "demo", userID: "alice", expiresAt: now + 60)
        var expired = good
        expired.expiresAt = now
        var early = good
        early.notBefore = now + 3600
        let cases: [(ErrorCode, String, App)] = [
            (.tokenMalformed, "nonsense", LoginScript.app()),
            (.tokenWrongAlgorithm, try unsigned(good), LoginScript.app()),
            (.tokenUnknownApp, try token(good), LoginScript.app { $0.exists = false }),
            (.appSuspended, try token(good), LoginScript.app { $0.suspended = true }),
            (.tokenUnknownKey, try token(good, key: TokenKey(id: "k2", secret: LoginScript.secret)), LoginScript.app()),
            (.tokenUnknownKey, try token(good), LoginScript.app { $0.keys[0].retired = true }),
            (
                .tokenBadSignature, try token(good, key: TokenKey(id: "k1", secret: [UInt8](repeating: 8, count: 32))),
                LoginScript.app()
            ),
            (.tokenExpired, try token(expired), LoginScript.app()),
            (.tokenNotYetValid, try token(early), LoginScript.app()),
        ]
        for (code, token, app) in cases {
            var script = LoginScript()
            script.present(1, token: token, app: app)
            #expect(try script.takeError(1).isCode(code), "\(code.name)")
            #expect(script.takeCalls(.online).isEmpty)
        }
    }

    /// A good token with its header replaced by alg "none" and no signature.
    private func unsigned(_ claims: TokenClaims) throws -> String {
        let parts = try LoginScript.issuer.issue(claims).split(separator: ".")
        // {"alg":"none","kid":"k1"}
        return "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ." + parts[1] + "."
    }

    @Test func aRevokedTokenIsRefusedByTheRegistration() throws {
        var script = LoginScript()
        script.present(1, token: try script.token("alice"))
        let call = try script.takeCall(.online)
        let result = RegisterResult.with { $0.failure = Failure(.tokenRevoked, "") }
        script.answer(call, .registerResponse(RegisterResponse.with { $0.results = [result] }))
        #expect(try script.takeError(1).isCode(.tokenRevoked))
    }

    @Test func badDevices() throws {
        let long = String(repeating: "d", count: 65)
        for (device, platform) in [("", "ios"), ("phone", ""), ("a b", "ios"), (long, "ios")] {
            var script = LoginScript()
            script.input(.opened(ConnectionID(1)))
            script.frame(1, LoginScript.hello())
            script.frame(1, LoginScript.authenticate(try script.token("alice"), device: device, platform: platform))
            #expect(try script.takeError(1).isCode(.badDevice))
        }
    }

    @Test func aKeyNewerThanTheCacheIsFetched() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.advance(ms: 6000)
        let newKey = TokenKey(id: "k2", secret: [UInt8](repeating: 9, count: 32))
        let token = try TokenIssuer(appID: "demo", key: newKey)
            .issue(userID: "bob", lifetimeSeconds: 60, nowMS: script.now.wallMS)
        let rotated = LoginScript.app { app in
            app.keys.append(
                AppKey.with {
                    $0.keyID = "k2"; $0.secret = .init(newKey.secret)
                })
        }
        script.present(2, token: token, app: rotated)
        #expect(try script.takeCall(.online).payload.kind == 10)
    }

    @Test func storesThatCannotBeReached() throws {
        var script = LoginScript()
        for id in 1...2 as ClosedRange<UInt64> {
            script.input(.opened(ConnectionID(id)))
            script.frame(id, LoginScript.hello())
            script.frame(id, LoginScript.authenticate(try script.token("u\(id)")))
        }
        script.flush()
        script.fail(try script.takeCall(.user), .unknown(Failure(.deadlineExceeded, "")))
        for id in 1...2 as ClosedRange<UInt64> {
            guard case .error(let body)? = script.takeFrames(id).last, let failure = Failure(body: body) else {
                Issue.record("no ERROR")
                continue
            }
            #expect(failure.isCode(.serviceUnavailable) && failure.retryable)
        }
    }

    /// A user exists from the first login on; who was seen lately is not asked about again.
    @Test func accountsAreMadeOnceAndRemembered() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.input(.opened(ConnectionID(2)))
        script.frame(2, LoginScript.hello())
        script.frame(2, LoginScript.authenticate(try script.token("alice")))
        script.flush()
        #expect(script.takeCalls(.user).isEmpty)
        #expect(script.takeCalls(.online).count == 1)
        script.input(.opened(ConnectionID(3)))
        script.frame(3, LoginScript.hello())
        script.frame(3, LoginScript.authenticate(try script.token("bob")))
        script.flush()
        let call = try script.takeCall(.user)
        guard case .usersPut(let request) = call.payload else {
            Issue.record("\(call)")
            return
        }
        #expect(request.users.map(\.profile.userID) == ["bob"])
        #expect(script.takeCalls(.online).isEmpty, "registered before the account exists")
        script.fail(call, .refused(Failure(.storeUnavailable, "")))
        #expect(try script.takeError(3).isCode(.serviceUnavailable))
    }

    @Test func noPresenceNoSession() throws {
        var script = LoginScript()
        script.present(1, token: try script.token("alice"))
        script.fail(try script.takeCall(.online), .refused(Failure(.serviceUnavailable, "")))
        #expect(try script.takeError(1).isCode(.serviceUnavailable))
    }

    /// Nobody knows whether Online has it: the next lease shows that it does, and it is taken out.
    @Test func anUnknownRegistrationIsFound() throws {
        var script = LoginScript()
        script.present(1, token: try script.token("alice"))
        let call = try script.takeCall(.online)
        guard case .registerRequest(let request) = call.payload, var ghost = request.registrations.first else { return }
        script.fail(call, .unknown(Failure(.deadlineExceeded, "")))
        #expect(try script.takeError(1).isCode(.serviceUnavailable))
        ghost.epoch = 77
        script.answersLeases = false
        for _ in 0..<2 {
            script.advance(ms: 2000)
            let leases = script.takeCalls(.online)
            let asked = try #require(leases.count == 1 ? leases.first : nil)
            var slices = SessionSlices()
            slices.add(ghost.sessionID)
            script.answer(
                asked,
                .leaseResponse(
                    LeaseResponse.with {
                        $0.life = 1
                        $0.slices = slices.sums
                        if case .leaseRequest(let lease) = asked.payload, !lease.show.isEmpty { $0.shown = [ghost] }
                    }))
        }
        let expected = UnregisterRequest.with { $0.registrations = [ghost] }
        #expect(try script.takeCall(.online).payload == .unregisterRequest(expected))
    }

    @Test func whoLeavesWhileRegisteringIsUnregistered() throws {
        var script = LoginScript()
        script.present(1, token: try script.token("alice"))
        let call = try script.takeCall(.online)
        script.input(.closed(ConnectionID(1)))
        let result = RegisterResult.with { $0.epoch = 5 }
        script.answer(call, .registerResponse(RegisterResponse.with { $0.results = [result] }))
        guard case .unregisterRequest(let request) = try script.takeCall(.online).payload else { return }
        #expect(request.registrations.map(\.epoch) == [5])
        #expect(script.takeFrames(1).count == 1)
    }
}
