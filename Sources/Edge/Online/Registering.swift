import Identity
import RPC
import Wire

/// Register, unregister and lease: the store's answers, and kicks for those whom a newer login displaced.
extension OnlineMachine {
    mutating func register(_ id: CallID, _ registrations: [Registration]) -> [Action] {
        guard !registrations.isEmpty else { return [.reply(id, .registerResponse(RegisterResponse()))] }
        guard !isFull(registrations.count) else { return [full(id)] }
        let job = calls.open(id, count: registrations.count)
        var actions: [Action] = []
        for (index, registration) in registrations.enumerated() {
            let slot = Slot(job: job, index: index)
            if let failure = Self.fault(registration) {
                var result = RegisterResult()
                result.failure = failure
                actions += settle(slot, .registered(result))
            } else {
                registering.append((slot, registration))
            }
        }
        return actions
    }

    mutating func unregister(_ id: CallID, _ registrations: [Registration]) -> [Action] {
        guard !registrations.isEmpty else { return [.reply(id, .done(Done()))] }
        guard !isFull(registrations.count) else { return [full(id)] }
        let job = calls.open(id, count: registrations.count)
        for (index, registration) in registrations.enumerated() {
            unregistering.append((Slot(job: job, index: index), registration))
        }
        return []
    }

    mutating func registered(
        _ items: [(slot: Slot, registration: Registration)], _ result: CallResult, _ now: Instant
    ) -> [Action] {
        guard case .answered(.registerResponse(let response)) = result, response.results.count == items.count else {
            let failure = Self.failure(of: result)
            return items.flatMap { settle($0.slot, .failed(failure)) }
        }
        var actions: [Action] = []
        for (item, result) in zip(items, response.results) {
            // A session that registers again (its Login was forgotten) displaces its own older entry: not a kick.
            let others = result.displaced.filter { $0.sessionID != item.registration.sessionID }
            if !item.registration.keepOthers {
                for other in others { actions += kick(other, Self.displaced(by: item.registration), now) }
            }
            if !result.hasFailure { hints.append(Self.user(of: item.registration)) }
            actions += settle(item.slot, .registered(result))
        }
        return actions
    }

    mutating func unregistered(_ items: [(slot: Slot, registration: Registration)], _ result: CallResult) -> [Action] {
        guard case .answered(.done(let done)) = result, done.failures.isEmpty || done.failures.count == items.count
        else {
            let failure = Self.failure(of: result)
            return items.flatMap { settle($0.slot, .failed(failure)) }
        }
        var actions: [Action] = []
        for (index, item) in items.enumerated() {
            hints.append(Self.user(of: item.registration))
            actions += settle(item.slot, .done(done.failures.isEmpty ? Failure() : done.failures[index]))
        }
        return actions
    }

    func leased(_ id: CallID, _ result: CallResult) -> [Action] {
        switch result {
        case .answered(.leaseResponse(let response)): [.reply(id, .leaseResponse(response))]
        case .answered, .refused, .unknown: [.refuse(id, Self.failure(of: result))]
        }
    }

    /// Fills a slot and answers its call when it was the last.
    mutating func settle(_ slot: Slot, _ part: Part) -> [Action] {
        guard let done = calls.fill(slot, part) else { return [] }
        return [Self.answer(done.call, done.parts)]
    }

    private static func answer(_ id: CallID, _ parts: [Part]) -> Action {
        for case .failed(let failure) in parts { return .refuse(id, failure) }
        switch parts.first {
        case .registered:
            var response = RegisterResponse()
            response.results = parts.compactMap { if case .registered(let result) = $0 { result } else { nil } }
            return .reply(id, .registerResponse(response))
        case .lookedUp:
            var response = LookupResponse()
            response.results = parts.compactMap { if case .lookedUp(let result) = $0 { result } else { nil } }
            return .reply(id, .lookupResponse(response))
        case .done, .failed, nil:
            var done = Done()
            let failures = parts.compactMap { if case .done(let failure) = $0 { failure } else { nil } }
            if failures.contains(where: { $0.code != 0 }) { done.failures = failures }
            return .reply(id, .done(done))
        }
    }

    func full(_ id: CallID) -> Action {
        .refuse(id, Failure(.overloaded, "online has \(config.maxItems) items waiting"))
    }

    /// What a caller is told when the store did not answer. Registering, unregistering, leases and revocations may all
    /// be repeated, so one answer does: try again.
    static func failure(of result: CallResult) -> Failure {
        switch result {
        case .refused(let failure): Failure(.storeUnavailable, "the presence store refused: \(failure.reason)")
        case .unknown: Failure(.outcomeUnknown, "the presence store did not answer in time")
        case .answered: Failure(.internalError, "the presence store's answer does not fit the question")
        }
    }

    static func user(of registration: Registration) -> UserKey {
        var key = UserKey()
        key.appID = registration.appID
        key.userID = registration.userID
        return key
    }

    private static func fault(_ registration: Registration) -> Failure? {
        guard NameRule.isApp(registration.appID), NameRule.isUser(registration.userID) else {
            return Failure(.malformedRequest, "app_id or user_id is malformed")
        }
        guard NameRule.isUser(registration.deviceID), NameRule.isUser(registration.platform) else {
            return Failure(.badDevice, "device_id and platform must be \(NameRule.userForm)")
        }
        guard !registration.sessionID.isEmpty, !registration.loginID.isEmpty else {
            return Failure(.malformedRequest, "session_id and login_id are required")
        }
        return nil
    }

    private static func displaced(by newer: Registration) -> Kick {
        var kick = Kick()
        kick.code = ErrorCode.displaced.number
        kick.reason = ErrorCode.displaced.name
        kick.message = "a newer login on platform \(newer.platform), device \(newer.deviceID)"
        return kick
    }
}
