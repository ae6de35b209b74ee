import Foundation
import Identity
import Ports
import Wire

/// Presence as one list of registrations. A new life forgets them and keeps the token epochs.
///
/// Isolation: none; a simulation has one thread.
public final class SimulatedPresenceStore: PresenceStore, @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    private struct Lease {
        var until: UInt64
        let life: UInt64
    }

    private struct Who: Hashable {
        let app: String
        let user: String
    }

    private static let leaseMicros: UInt64 = 6_000_000
    private let trouble: StoreTrouble
    /// Who is registered now.
    public private(set) var registrations: [Registration] = []
    private var leases: [String: Lease] = [:]
    /// A mistake on purpose: from this moment on one registration is gone though its Login is told that it is there.
    public var losesOneAtMicros: UInt64 = .max
    private var lost: Registration?
    private var tokenEpochs: [Who: UInt64] = [:]
    private var nextEpoch: UInt64 = 1
    private var unknownUntil: UInt64 = 0

    public init(trouble: StoreTrouble = StoreTrouble()) { self.trouble = trouble }

    // MARK: PresenceStore

    public func begin(micros: UInt64, wallMS: UInt64) {
        nextEpoch = max(nextEpoch, wallMS << 16)
        unknownUntil = micros + Self.leaseMicros
        registrations = []
        leases = [:]
    }

    public func register(_ items: [Registration], micros: UInt64) -> [RegisterResult] {
        expire(micros: micros)
        return items.map { item in
            var result = RegisterResult()
            if trouble.strikes() {
                result.failure = Failure(.storeUnavailable, "the simulated store is away")
            } else {
                register(item, &result, micros)
            }
            return result
        }
    }

    private func register(_ item: Registration, _ result: inout RegisterResult, _ micros: UInt64) {
        guard item.tokenEpoch >= tokenEpochs[Who(app: item.appID, user: item.userID)] ?? 0 else {
            result.failure = Failure(.tokenRevoked, "the token was revoked")
            return
        }
        let mine = registrations.filter { $0.appID == item.appID && $0.userID == item.userID }
        if let known = mine.first(where: { $0.sessionID == item.sessionID && $0.loginID == item.loginID }) {
            result.epoch = known.epoch
            result.life = life(of: item.loginID, micros)
            return
        }
        let rivals = item.keepOthers ? [] : mine.filter { $0.platform == item.platform }
        if let later = rivals.first(where: item.isBefore) {
            result.failure = item.superseded(by: later)
            return
        }
        let most = item.keepOthers ? PresenceLimits.multiSessionsPerUser : PresenceLimits.sessionsPerUser
        guard mine.count - rivals.count < most else {
            result.failure = Failure(.limitExceeded, "a user has at most \(most) sessions")
            return
        }
        result.displaced = rivals
        for rival in rivals { drop { $0.sessionID == rival.sessionID } }
        result.life = life(of: item.loginID, micros)
        var stored = item
        stored.epoch = newEpoch()
        result.epoch = stored.epoch
        registrations.append(stored)
    }

    private func newEpoch() -> UInt64 {
        nextEpoch += 1
        return nextEpoch - 1
    }

    private func life(of login: String, _ micros: UInt64) -> UInt64 {
        if let lease = leases[login] { return lease.life }
        let lease = Lease(until: micros + Self.leaseMicros, life: newEpoch())
        leases[login] = lease
        return lease.life
    }

    private func drop(_ unwanted: (Registration) -> Bool) { registrations.removeAll(where: unwanted) }

    public func unregister(_ items: [Registration], micros: UInt64) {
        expire(micros: micros)
        for item in items {
            drop { $0.sessionID == item.sessionID && $0.epoch == item.epoch }
        }
    }

    public func lease(_ request: LeaseRequest, micros: UInt64) -> LeaseResponse {
        expire(micros: micros)
        var answer = LeaseResponse()
        answer.life = life(of: request.loginID, micros)
        leases[request.loginID]?.until =
            micros + (request.leaseMs == 0 ? Self.leaseMicros : request.leaseMs * 1000)
        let here = registrations.filter { $0.loginID == request.loginID }
        var slices = SessionSlices()
        for registration in here { slices.add(registration.sessionID) }
        if let lost, lost.loginID == request.loginID { slices.add(lost.sessionID) }
        answer.slices = slices.sums
        answer.shown = here.filter { request.show.contains(UInt32(SessionSlices.slice(of: $0.sessionID))) }
            .sorted { $0.sessionID < $1.sessionID }
        return answer
    }

    public func lookup(_ users: [UserKey], micros: UInt64) throws(Failure) -> [LookupResult] {
        expire(micros: micros)
        try trouble.strike()
        return users.map { user in
            var result = LookupResult()
            result.tokenEpoch = tokenEpochs[Who(app: user.appID, user: user.userID)] ?? 0
            result.registrations = registrations.filter { $0.appID == user.appID && $0.userID == user.userID }
            result.state = micros < unknownUntil ? .presenceUnknown : .presenceOffline
            if !result.registrations.isEmpty { result.state = .presenceOnline }
            return result
        }
    }

    public func revoke(_ items: [RevokeItem]) throws(Failure) {
        try trouble.strike()
        for item in items {
            let who = Who(app: item.appID, user: item.userID)
            tokenEpochs[who] = max(tokenEpochs[who] ?? 0, item.tokenEpoch)
        }
    }

    public func expire(micros: UInt64) {
        if micros >= losesOneAtMicros, lost == nil, !registrations.isEmpty { lost = registrations.removeFirst() }
        let ended = leases.filter { $0.value.until < micros }
        guard !ended.isEmpty else { return }
        drop { ended[$0.loginID] != nil }
        leases = leases.filter { ended[$0.key] == nil }
    }
}
