import Identity
import RPC
import Wire

extension LoginMachine {
    mutating func handshake(_ id: ConnectionID, _ reaction: Handshake.Reaction) {
        switch reaction {
        case .pong: write(id, .pong)
        case .bye: finish(id)
        case .refuse(let failure): refuse(id, failure)
        case .welcome(let version):
            // Before WELCOME is written: a device that gives up on this connection after it gets a later number.
            lastWelcomeUS = max(lastWelcomeUS + 1, now.wallMS * 1000)
            connections[id]?.handshake?.welcomedUS = lastWelcomeUS
            var welcome = Welcome()
            welcome.version = version
            welcome.capabilities = ["trace"]
            welcome.serverTimeMs = now.wallMS
            welcome.heartbeatMs = UInt32(config.heartbeatMS)
            welcome.maxFrameBytes = UInt32(FrameLimits.afterLoginBytes)
            welcome.pushAckEvery = config.pushAckEvery
            welcome.pushAckMs = config.pushAckMS
            write(id, .welcome(welcome.buffer))
        case .authenticate(let request):
            if let failure = connections[id]?.handshake?.take(request) { return refuse(id, failure) }
            checkToken(id)
        }
    }

    /// Checks the token with what is known of its app, or asks first.
    private mutating func checkToken(_ id: ConnectionID) {
        guard let handshake = connections[id]?.handshake, handshake.step == .keys, let token = handshake.token else {
            return
        }
        let appID = token.claims.appID
        guard let known = apps.look(appID, now: now.micros, config: config) else { return apps.wait(id, for: appID) }
        guard known.app.exists else { return refuse(id, Failure(.tokenUnknownApp, "there is no app \(appID)")) }
        guard !known.app.suspended else { return refuse(id, Failure(.appSuspended, "app \(appID) is suspended")) }
        do {
            let claims = try token.verified(keys: known.keys, nowMS: now.wallMS)
            connections[id]?.handshake?.keepsOthers = known.app.multiSession
            if accounts.knows(id, claims) { register(id, claims) }
        } catch {
            if case .unknownKey = error, !handshake.refreshed,
                now.micros >= known.fetchedMicros + config.appMissingMS * 1000
            {
                // The key may be newer than what we know.
                connections[id]?.handshake?.refreshed = true
                return apps.wait(id, for: appID)
            }
            refuse(id, Failure(error))
        }
    }

    mutating func askForApps() {
        let ids = apps.takeWanted()
        guard !ids.isEmpty else { return }
        var request = AppsGet()
        request.appIds = ids
        call(.apps(ids), .user, .appsGet(request))
    }

    mutating func appsAnswered(_ ids: [String], _ result: CallResult) {
        if case .answered(.appsGot(let got)) = result { apps.learn(got.apps, now: now.micros) }
        for appID in ids {
            let waiting = apps.takeWaiting(appID)
            if apps.look(appID, now: now.micros, config: config) != nil {
                for id in waiting { checkToken(id) }
            } else {
                let failure = Failure(.serviceUnavailable, "the app's keys cannot be read now", retryAfterMS: 1000)
                for id in waiting { refuse(id, failure) }
            }
        }
    }

    /// The connection's token is good: Online is told.
    mutating func register(_ id: ConnectionID, _ claims: TokenClaims) {
        guard let handshake = connections[id]?.handshake, handshake.step == .keys else { return }
        sessionCount += 1
        let sessionID = "\(loginID)-\(sessionCount)-\(String(random.next(), radix: 36))"
        connections[id]?.handshake?.register(as: sessionID)
        var registration = Registration()
        registration.appID = claims.appID
        registration.userID = claims.userID
        registration.deviceID = handshake.deviceID
        registration.platform = handshake.platform
        registration.sessionID = sessionID
        registration.loginID = loginID
        registration.site = config.site
        registration.tokenEpoch = claims.epoch
        registration.welcomedUs = handshake.welcomedUS
        registration.keepOthers = handshake.keepsOthers
        presence.register(id, registration)
    }

    /// Online knows it: the session is open.
    mutating func open(_ id: ConnectionID, _ registration: Registration, life: UInt64) {
        // `TokenLimits.maxSeconds` keeps the product small.
        let expiresMS = (connections[id]?.handshake?.token?.claims.expiresAt ?? 0) * 1000
        let endsMicros = now.micros + (max(expiresMS, now.wallMS) - now.wallMS) * 1000
        connections[id]?.handshake = nil
        connections[id]?.session = Session(registration, life: life, endsMicros: endsMicros)
        sessions[registration.sessionID] = id
        presence.slices.add(registration.sessionID)
        // Later ends are looked at with the heartbeats.
        if endsMicros < now.micros + config.handshakeMS * 1000 {
            wheel.add(.init(connection: id, kind: .token), atMicros: endsMicros)
        }
        var authenticated = Authenticated()
        authenticated.appID = registration.appID
        authenticated.userID = registration.userID
        authenticated.sessionID = registration.sessionID
        authenticated.serverTimeMs = now.wallMS
        write(id, .authenticated(authenticated.buffer))
        output(.frameLimit(id, FrameLimits.afterLoginBytes))
        adjustReading(id)
    }
}
