import Identity
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
    /// Open sessions that Online has forgotten, or may have.
    var again: [ConnectionID] = []
    var againUnderWay = false
    /// Not before; likewise below.
    var againMicros: UInt64 = 0
    private(set) var leaving: [Registration] = []
    var leavingUnderWay = false
    var leavingMicros: UInt64 = 0
    /// The life of our lease, as we heard last; 0 before.
    var life: UInt64 = 0
    /// Our open sessions.
    var slices = SessionSlices()
    /// Slices where Online has others: it shows them with the next lease. Then the one that the choice goes on from.
    var differing: [UInt32] = []
    private var nextCompared = 0
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

    /// Chooses what to compare next: as many as may be, each in its turn.
    mutating func compare(with sums: [UInt64], config: LoginConfig) {
        differing = []
        guard sums.count == SessionSlices.count, sums != slices.sums else { return }
        for step in 0..<SessionSlices.count where differing.count < config.maxComparedSlices {
            let slice = (nextCompared + step) % SessionSlices.count
            if sums[slice] != slices.sums[slice] { differing.append(UInt32(slice)) }
        }
        nextCompared = (differing.last.map(Int.init) ?? 0) + 1
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
            request.show = presence.differing
            call(.lease(presence.differing), .online, .leaseRequest(request))
        }
    }

    mutating func registered(_ ids: [ConnectionID], _ result: CallResult) {
        var results: [RegisterResult] = []
        var failure = Failure(.serviceUnavailable, "presence cannot be written now", retryAfterMS: 1000)
        switch result {
        case .answered(.registerResponse(let response)) where response.results.count == ids.count:
            results = response.results
        case .refused(let why): if why.isCode(.overloaded) { failure = why }
        // A registration that was made after all is found when the sessions are compared.
        case .answered, .unknown: break
        }
        for (index, id) in ids.enumerated() {
            guard var registration = presence.asked.removeValue(forKey: id) else { continue }
            let waits = connections[id]?.handshake?.step == .registration
            presence.registering.remove(registration.sessionID)
            if index >= results.count {
                if waits { refuse(id, failure) }
                continue
            }
            if results[index].hasFailure {
                if waits { refuse(id, results[index].failure) }
                continue
            }
            registration.epoch = results[index].epoch
            if waits {
                open(id, registration, life: results[index].life)
                registeredUnder(results[index].life, id)
            } else {
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

    /// A lease has been answered: what Online holds of us is compared with what we have, both ways.
    mutating func leased(_ slices: [UInt32], _ result: CallResult) {
        presence.leaseUnderWay = false
        guard case .answered(.leaseResponse(let response)) = result else { return }
        hear(life: response.life)
        compare(Set(slices.map(Int.init)), response.shown)
        presence.compare(with: response.slices, config: config)
    }

    /// The lease has begun anew: nothing of before is registered any more, whatever has been registered since.
    private mutating func hear(life: UInt64) {
        guard life != presence.life else { return }
        presence.life = life
        // Sorted: the same events lead to the same actions.
        presence.again = sessions.values.filter { connections[$0]?.session?.life != life }.sorted()
    }

    /// A session is registered under some life of the lease. An answer of an earlier life may come late: then it is
    /// only this session that is not registered any more.
    private mutating func registeredUnder(_ life: UInt64, _ id: ConnectionID) {
        if life > presence.life {
            hear(life: life)
        } else if life < presence.life {
            presence.againMicros = max(presence.againMicros, now.micros + config.retryFirstMS * 1000)
            presence.again.append(id)
        }
    }

    /// Some slices as Online has them. What is on its way may be taken for missing: registering again does no harm.
    private mutating func compare(_ slices: Set<Int>, _ shown: [Registration]) {
        guard !slices.isEmpty else { return }
        for registration in shown where sessions[registration.sessionID] == nil {
            guard !presence.registering.contains(registration.sessionID) else { continue }
            presence.unregister(registration, config: config)
        }
        let held = Set(shown.map(\.sessionID))
        let missing = sessions.filter { slices.contains(SessionSlices.slice(of: $0.key)) && !held.contains($0.key) }
        for id in missing.values { connections[id]?.session?.life = 0 }
        presence.again = Set(presence.again).union(missing.values).sorted()
    }

    private mutating func registerAgain() {
        var ids: [ConnectionID] = []
        var request = RegisterRequest()
        while ids.count < config.maxRegistrationsPerCall, !presence.again.isEmpty {
            let id = presence.again.removeLast()
            guard let session = connections[id]?.session, session.life != presence.life else { continue }
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
            if outcome.hasFailure, outcome.failure.isCode(.superseded) {
                // We have served it until now; whoever logged in later is the one in use.
                kick(id, code: Failure(.displaced, outcome.failure.message))
            } else if outcome.hasFailure, outcome.failure.retryable {
                presence.againMicros = now.micros + presence.againBackoff.nextMS(using: &random) * 1000
                presence.again.append(id)
            } else if outcome.hasFailure {
                kick(id, code: outcome.failure)
            } else {
                // With its epoch the registration was there all the time, and every push came here.
                let isNew = connections[id]?.session?.epoch != outcome.epoch
                connections[id]?.session?.epoch = outcome.epoch
                connections[id]?.session?.life = outcome.life
                if isNew { syncNeeded(id, "registered_again") }
                registeredUnder(outcome.life, id)
            }
        }
    }
}
