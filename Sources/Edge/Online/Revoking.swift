import Identity
import RPC
import Wire

/// Revocation: the token epoch goes to the store, which refuses older tokens from then on; then the user is looked up
/// and every session that came in with an older token is kicked. The caller is answered once the store has the epoch.
extension OnlineMachine {
    mutating func revoke(_ id: CallID, _ items: [RevokeItem]) -> [Action] {
        guard !items.isEmpty else { return [.reply(id, .done(Done()))] }
        guard !isFull(items.count), revocations.count + items.count <= config.maxRevocations else { return [full(id)] }
        let job = calls.open(id, count: items.count)
        var actions: [Action] = []
        for (index, item) in items.enumerated() {
            let slot = Slot(job: job, index: index)
            if NameRule.isApp(item.appID), NameRule.isUser(item.userID) {
                revoking.append((slot, item))
            } else {
                actions += settle(slot, .done(Failure(.malformedRequest, "app_id or user_id is malformed")))
            }
        }
        return actions
    }

    mutating func revoked(_ items: [(slot: Slot, item: RevokeItem)], _ result: CallResult, _ now: Instant) -> [Action] {
        guard case .answered(.done(let done)) = result, done.failures.isEmpty || done.failures.count == items.count
        else {
            let failure = Self.failure(of: result)
            return items.flatMap { settle($0.slot, .failed(failure)) }
        }
        var actions: [Action] = []
        for (index, entry) in items.enumerated() {
            let failure = done.failures.isEmpty ? Failure() : done.failures[index]
            if failure.code == 0 {
                var user = UserKey()
                user.appID = entry.item.appID
                user.userID = entry.item.userID
                lookups.append((.revocation(epoch: entry.item.tokenEpoch, since: now.micros), user))
            }
            actions += settle(entry.slot, .done(failure))
        }
        return actions
    }

    /// The sessions that a revocation closes. A store that cannot tell is asked again, until every Login that held a
    /// session then has renewed its lease and registered it again, or lost it.
    mutating func closeRevoked(
        _ user: UserKey, _ epoch: UInt64, _ since: UInt64, _ found: LookupResult?, _ now: Instant
    ) -> [Action] {
        guard let found, found.state != .presenceUnknown else {
            guard now.micros < since + UInt64(config.kickForMS) * 1000 else {
                return [.warn("revocation given up: the presence store does not answer", ["user": user.userID])]
            }
            revocations.append((user, epoch, since))
            return []
        }
        var actions: [Action] = []
        for registration in found.registrations where registration.tokenEpoch < epoch {
            var kick = Kick()
            kick.code = ErrorCode.tokenRevoked.number
            kick.reason = ErrorCode.tokenRevoked.name
            kick.message = "the token was revoked; log in with a new one"
            actions += self.kick(registration, kick, now)
        }
        return actions
    }
}
