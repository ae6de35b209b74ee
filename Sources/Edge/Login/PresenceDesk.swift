import Machinery
import RPC
import Wire

/// What Online is to be told: gathered here, sent at the flush, tried again until it is heard.
struct PresenceDesk: Sendable {
    /// Wanted registrations of handshakes.
    var newcomers: [(id: ConnectionID, registration: Registration)] = []
    /// Those that Online has been asked about, or is about to be.
    var registering: Set<String> = []
    /// Registrations under way, by connection, for their answers.
    var asked: [ConnectionID: Registration] = [:]
    /// Open sessions that Online has forgotten.
    var again: [ConnectionID] = []
    var againUnderWay = false
    /// Not before; likewise below.
    var againMicros: UInt64 = 0
    private(set) var leaving: [Registration] = []
    var leavingUnderWay = false
    var leavingMicros: UInt64 = 0
    private(set) var strays: [UserKey] = []
    var straysUnderWay = false
    var straysMicros: UInt64 = 0
    var leaseUnderWay = false
    var leaseMicros: UInt64 = 0
    var againBackoff: Backoff
    var leavingBackoff: Backoff

    init(config: LoginConfig) {
        againBackoff = Backoff(firstMS: config.retryFirstMS, mostMS: config.retryMostMS)
        leavingBackoff = againBackoff
    }

    mutating func register(_ id: ConnectionID, _ registration: Registration) {
        registering.insert(registration.sessionID)
        newcomers.append((id, registration))
    }

    mutating func unregister(_ registration: Registration, config: LoginConfig) {
        if leaving.count >= config.maxUnregistering { leaving.removeFirst() }
        leaving.append(registration)
    }

    mutating func takeLeaving(_ count: Int) -> [Registration] {
        let batch = Array(leaving.prefix(count))
        leaving.removeFirst(batch.count)
        return batch
    }

    /// The user may have a registration here without a session: look.
    mutating func stray(_ appID: String, _ userID: String, now: UInt64, config: LoginConfig) {
        guard strays.count < config.maxStrays, !userID.isEmpty else { return }
        // Not at once: what is under way to Online now is over by then.
        if strays.isEmpty { straysMicros = now + config.leaseEveryMS * 1000 }
        var user = UserKey()
        user.appID = appID
        user.userID = userID
        if !strays.contains(user) { strays.append(user) }
    }

    mutating func takeStrays(_ count: Int) -> [UserKey] {
        let batch = Array(strays.prefix(count))
        strays.removeFirst(batch.count)
        return batch
    }
}

extension LoginMachine {
    mutating func flushPresence() {
        while !presence.newcomers.isEmpty {
            let batch = presence.newcomers.prefix(config.maxRegistrationsPerCall)
            presence.newcomers.removeFirst(batch.count)
            // Who has gone meanwhile is not announced at all.
            let present = batch.filter { connections[$0.id]?.handshake?.step == .registration }
            for gone in batch where connections[gone.id]?.handshake == nil {
                presence.registering.remove(gone.registration.sessionID)
            }
            guard !present.isEmpty else { continue }
            for one in present { presence.asked[one.id] = one.registration }
            var request = RegisterRequest()
            request.registrations = present.map(\.registration)
            call(.register(present.map(\.id)), .online, .registerRequest(request))
        }
        if !presence.leaving.isEmpty, !presence.leavingUnderWay, presence.leavingMicros <= now.micros {
            let batch = presence.takeLeaving(config.maxRegistrationsPerCall)
            presence.leavingUnderWay = true
            var request = UnregisterRequest()
            request.registrations = batch
            call(.unregister(batch), .online, .unregisterRequest(request))
        }
        if !presence.again.isEmpty, !presence.againUnderWay, presence.againMicros <= now.micros { registerAgain() }
    }

    /// Leases and second tries, from the tick.
    mutating func presenceTick() {
        if !presence.leaseUnderWay, presence.leaseMicros <= now.micros {
            presence.leaseUnderWay = true
            presence.leaseMicros = now.micros + config.leaseEveryMS * 1000
            var request = LeaseRequest()
            request.loginID = loginID
            request.leaseMs = config.leaseMS
            request.sessions = UInt64(sessions.count)
            call(.lease, .online, .leaseRequest(request))
        }
        if !presence.strays.isEmpty, !presence.straysUnderWay, presence.straysMicros <= now.micros {
            presence.straysUnderWay = true
            var request = LookupRequest()
            request.users = presence.takeStrays(config.maxRegistrationsPerCall)
            call(.strays, .online, .lookupRequest(request))
        }
    }

    mutating func registered(_ ids: [ConnectionID], _ result: CallResult) {
        var results: [RegisterResult] = []
        var failure = Failure(.serviceUnavailable, "presence cannot be written now", retryAfterMS: 1000)
        var unknown = false
        switch result {
        case .answered(.registerResponse(let response)) where response.results.count == ids.count:
            results = response.results
        case .refused(let why): if why.isCode(.overloaded) { failure = why }
        case .answered, .unknown: unknown = true
        }
        for (index, id) in ids.enumerated() {
            guard var registration = presence.asked.removeValue(forKey: id) else { continue }
            let waits = connections[id]?.handshake?.step == .registration
            presence.registering.remove(registration.sessionID)
            if index >= results.count {
                if unknown {
                    presence.stray(registration.appID, registration.userID, now: now.micros, config: config)
                }
                if waits { refuse(id, failure) }
                continue
            }
            if results[index].hasFailure {
                if waits { refuse(id, results[index].failure) }
                continue
            }
            registration.epoch = results[index].epoch
            if waits {
                open(id, registration)
            } else {
                presence.unregister(registration, config: config)
            }
        }
    }

    mutating func straysFound(_ result: CallResult) {
        presence.straysUnderWay = false
        guard case .answered(.lookupResponse(let response)) = result else { return }
        for registration in response.results.flatMap(\.registrations) where registration.loginID == loginID {
            let id = registration.sessionID
            if sessions[id] == nil, !presence.registering.contains(id) {
                presence.unregister(registration, config: config)
            }
        }
    }

    mutating func unregistered(_ batch: [Registration], _ result: CallResult) {
        presence.leavingUnderWay = false
        var failed = batch
        if case .answered(.done(let done)) = result {
            failed = zip(batch, done.failures).filter { $0.1.retryable }.map { $0.0 }
        }
        guard !failed.isEmpty else { return presence.leavingBackoff.reset() }
        presence.leavingMicros = now.micros + presence.leavingBackoff.nextMS(using: &random) * 1000
        for registration in failed { presence.unregister(registration, config: config) }
    }

    mutating func leased(_ result: CallResult) {
        presence.leaseUnderWay = false
        guard case .answered(.leaseResponse(let response)) = result, !response.known, !sessions.isEmpty else { return }
        // Sorted: the same events lead to the same actions.
        presence.again = sessions.values.sorted()
    }

    private mutating func registerAgain() {
        var ids: [ConnectionID] = []
        var request = RegisterRequest()
        while ids.count < config.maxRegistrationsPerCall, !presence.again.isEmpty {
            let id = presence.again.removeLast()
            guard let session = connections[id]?.session else { continue }
            ids.append(id)
            request.registrations.append(session.registration(site: config.site))
        }
        guard !ids.isEmpty else { return }
        presence.againUnderWay = true
        call(.registerAgain(ids), .online, .registerRequest(request))
    }

    mutating func registeredAgain(_ ids: [ConnectionID], _ result: CallResult) {
        presence.againUnderWay = false
        guard case .answered(.registerResponse(let response)) = result, response.results.count == ids.count else {
            presence.againMicros = now.micros + presence.againBackoff.nextMS(using: &random) * 1000
            presence.again.append(contentsOf: ids)
            return
        }
        presence.againBackoff.reset()
        for (id, outcome) in zip(ids, response.results) where connections[id]?.session != nil {
            if outcome.hasFailure, outcome.failure.retryable {
                presence.againMicros = now.micros + presence.againBackoff.nextMS(using: &random) * 1000
                presence.again.append(id)
            } else if outcome.hasFailure {
                kick(id, code: outcome.failure)
            } else {
                connections[id]?.session?.epoch = outcome.epoch
                syncNeeded(id, "registered_again")
            }
        }
    }
}
