import Foundation
import Ports
import Wire

/// Presence as one list of registrations. A crash forgets them and keeps the token epochs.
///
/// Isolation: none; a simulation has one thread.
public final class SimulatedPresenceStore: PresenceStore, @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    private struct Entry {
        var registration: Registration
        /// Epoch of the session's first registration.
        let born: UInt64
    }

    private struct Lease {
        var until: UInt64
        /// Everything that the Login counts has been registered since the lease began.
        var isKnown = false
    }

    private struct Who: Hashable {
        let app: String
        let user: String
    }

    private static let leaseMicros: UInt64 = 6_000_000
    private let trouble: StoreTrouble
    private var entries: [Entry] = []
    private var leases: [String: Lease] = [:]
    private var tokenEpochs: [Who: UInt64] = [:]
    private var nextEpoch: UInt64 = 1
    private var unknownUntil: UInt64 = 0

    public init(trouble: StoreTrouble = StoreTrouble()) { self.trouble = trouble }

    /// The process has ended and is started again.
    public func crash() {
        entries = []
        leases = [:]
    }

    /// Sessions that are registered now.
    public var registrations: [Registration] { entries.map(\.registration) }

    // MARK: PresenceStore

    public func begin(micros: UInt64, wallMS: UInt64) {
        nextEpoch = max(nextEpoch, wallMS << 16)
        unknownUntil = micros + Self.leaseMicros
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
        let mine = entries.filter { $0.registration.appID == item.appID && $0.registration.userID == item.userID }
        if let known = mine.first(where: {
            $0.registration.sessionID == item.sessionID && $0.registration.loginID == item.loginID
        }) {
            result.epoch = known.registration.epoch
            return
        }
        let rivals = item.keepOthers ? [] : mine.filter { $0.registration.platform == item.platform }
        if item.epoch > 0, rivals.contains(where: { $0.born > item.epoch }) {
            result.failure = Failure(.displaced, "a later login is registered")
            return
        }
        result.displaced = rivals.map(\.registration)
        for rival in rivals { drop { $0.registration.sessionID == rival.registration.sessionID } }
        var stored = item
        stored.epoch = nextEpoch
        nextEpoch += 1
        result.epoch = stored.epoch
        entries.append(Entry(registration: stored, born: item.epoch > 0 ? item.epoch : stored.epoch))
        if leases[item.loginID] == nil { leases[item.loginID] = Lease(until: micros + Self.leaseMicros) }
    }

    private func drop(_ unwanted: (Entry) -> Bool) { entries.removeAll(where: unwanted) }

    public func unregister(_ items: [Registration], micros: UInt64) {
        expire(micros: micros)
        for item in items {
            drop { $0.registration.sessionID == item.sessionID && $0.registration.epoch == item.epoch }
        }
    }

    public func lease(_ request: LeaseRequest, micros: UInt64) -> LeaseResponse {
        expire(micros: micros)
        var lease = leases[request.loginID] ?? Lease(until: 0)
        lease.until = micros + (request.leaseMs == 0 ? Self.leaseMicros : request.leaseMs * 1000)
        let here = entries.filter { $0.registration.loginID == request.loginID }.count
        if !lease.isKnown { lease.isKnown = UInt64(here) >= request.sessions }
        leases[request.loginID] = lease
        var answer = LeaseResponse()
        answer.known = lease.isKnown
        return answer
    }

    public func lookup(_ users: [UserKey], micros: UInt64) throws(Failure) -> [LookupResult] {
        expire(micros: micros)
        try trouble.strike()
        return users.map { user in
            var result = LookupResult()
            result.tokenEpoch = tokenEpochs[Who(app: user.appID, user: user.userID)] ?? 0
            result.registrations = entries.map(\.registration).filter {
                $0.appID == user.appID && $0.userID == user.userID
            }
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
        let ended = leases.filter { $0.value.until < micros }
        guard !ended.isEmpty else { return }
        drop { ended[$0.registration.loginID] != nil }
        leases = leases.filter { ended[$0.key] == nil }
    }
}
