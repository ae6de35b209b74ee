import Ports
import Wire

/// Who is connected where, in memory: after a restart every Login registers its sessions again, and until then nobody
/// is called offline.
///
/// Isolation: the lane of its machine.
public final class MemoryPresenceStore: PresenceStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.

    /// Limits, each with its reason.
    public enum Limits {
        /// A Login that registers without having sent a lease yet is believed for this long.
        public static let leaseMS: UInt64 = 6000
        /// No lease is longer, so that a mistaken one ends.
        public static let longestLeaseMS: UInt64 = 60_000
        /// Sessions of one user, one a platform: platforms are the client's own words. In an app with `multi_session`
        /// more of them are meant to be there.
        public static let sessionsPerUser = 8
        public static let multiSessionsPerUser = 64
    }

    private struct User: Hashable {
        let app: String
        let id: String
    }

    private struct Entry {
        var registration: Registration
        /// The epoch of the session's first registration: the later login wins, also when both come back after a
        /// restart of the store in the wrong order.
        let born: UInt64
    }

    private struct Lease {
        var until: UInt64
        /// All of the Login's sessions are here, as far as it said.
        var isKnown = false
        /// The fewest sessions that the Login has counted; nil before it first asked.
        var goal: UInt64?
        /// Registrations since the lease began. Unlike the sessions it never shrinks, so logins and log-outs on their
        /// way cannot keep a Login unknown for ever.
        var registered: UInt64 = 0
        var sessions: Set<SessionKey> = []
    }

    private struct SessionKey: Hashable {
        let user: User
        let session: String
    }

    private let tokens: any TokenEpochs
    private var users: [User: [Entry]] = [:]
    private var leases: [String: Lease] = [:]
    private var nextEpoch: UInt64 = 1
    private var unknownUntil: UInt64 = 0
    private var nextExpiry = UInt64.max

    public init(tokens: any TokenEpochs) { self.tokens = tokens }

    public func begin(micros: UInt64, wallMS: UInt64) {
        // 65,536 registrations a millisecond would be needed to run ahead of the clock.
        nextEpoch = max(nextEpoch, wallMS << 16)
        unknownUntil = micros + Limits.leaseMS * 1000
    }

    // MARK: registering

    public func register(_ items: [Registration], micros: UInt64) -> [RegisterResult] {
        expire(micros: micros)
        let known: [UInt64]
        do throws(Failure) { known = try tokens.epochs(items.map(Self.key)) } catch {
            return items.map { _ in Self.refused(error) }
        }
        return zip(items, known).map { item, epoch in
            if item.tokenEpoch < epoch {
                return Self.refused(
                    Failure(.tokenRevoked, "tokens of epoch \(item.tokenEpoch) were revoked; the epoch is \(epoch)"))
            }
            return register(item, micros)
        }
    }

    private func register(_ item: Registration, _ micros: UInt64) -> RegisterResult {
        guard !item.userID.isEmpty, !item.sessionID.isEmpty, !item.loginID.isEmpty else {
            return Self.refused(Failure(.malformedRequest, "a registration names user, session and Login"))
        }
        let user = User(app: item.appID, id: item.userID)
        var entries = users[user, default: []]
        var result = RegisterResult()
        if let old = entries.firstIndex(where: {
            $0.registration.sessionID == item.sessionID && $0.registration.loginID == item.loginID
        }) {
            result.epoch = entries[old].registration.epoch
            entries[old].registration.tokenEpoch = item.tokenEpoch
            users[user] = entries
            return result
        }
        let rivals = item.keepOthers ? [] : entries.filter { $0.registration.platform == item.platform }
        if item.epoch > 0, rivals.contains(where: { $0.born > item.epoch }) {
            return Self.refused(Failure(.displaced, "a later login on \(item.platform) is registered"))
        }
        let most = item.keepOthers ? Limits.multiSessionsPerUser : Limits.sessionsPerUser
        guard entries.count - rivals.count < most else {
            return Self.refused(Failure(.limitExceeded, "a user has at most \(most) sessions"))
        }
        for rival in rivals { forget(user, rival.registration) }
        if !rivals.isEmpty { entries.removeAll { $0.registration.platform == item.platform } }
        result.displaced = rivals.map(\.registration)
        result.epoch = nextEpoch
        nextEpoch += 1
        var stored = item
        stored.epoch = result.epoch
        entries.append(Entry(registration: stored, born: item.epoch > 0 ? item.epoch : result.epoch))
        users[user] = entries
        let until = micros + Limits.leaseMS * 1000
        leases[item.loginID, default: Lease(until: until)].sessions.insert(
            SessionKey(user: user, session: item.sessionID))
        leases[item.loginID]?.registered += 1
        nextExpiry = min(nextExpiry, leases[item.loginID]?.until ?? until)
        return result
    }

    public func unregister(_ items: [Registration], micros: UInt64) {
        expire(micros: micros)
        for item in items {
            let user = User(app: item.appID, id: item.userID)
            guard
                let entry = users[user]?.first(where: {
                    $0.registration.sessionID == item.sessionID && $0.registration.epoch == item.epoch
                })
            else { continue }
            forget(user, entry.registration)
            remove(user, item.sessionID, item.epoch)
        }
    }

    private func forget(_ user: User, _ registration: Registration) {
        leases[registration.loginID]?.sessions.remove(SessionKey(user: user, session: registration.sessionID))
    }

    private func remove(_ user: User, _ session: String, _ epoch: UInt64?) {
        users[user]?.removeAll {
            $0.registration.sessionID == session && (epoch == nil || $0.registration.epoch == epoch)
        }
        if users[user]?.isEmpty == true { users[user] = nil }
    }

    // MARK: leases

    public func lease(_ request: LeaseRequest, micros: UInt64) -> LeaseResponse {
        expire(micros: micros)
        let wanted = request.leaseMs == 0 ? Limits.leaseMS : min(request.leaseMs, Limits.longestLeaseMS)
        var lease = leases[request.loginID] ?? Lease(until: 0)
        lease.until = micros + wanted * 1000
        if !lease.isKnown {
            // Asked again until everything that the Login counts is here: an answer can get lost.
            let goal = min(lease.goal ?? .max, request.sessions)
            lease.isKnown = request.sessions > 0 ? lease.registered >= goal : lease.goal != nil
            lease.goal = goal
        }
        leases[request.loginID] = lease
        nextExpiry = min(nextExpiry, lease.until)
        var answer = LeaseResponse()
        answer.known = lease.isKnown
        return answer
    }

    public func expire(micros: UInt64) {
        guard micros > nextExpiry else { return }
        for (login, lease) in leases where lease.until < micros {
            for session in lease.sessions {
                users[session.user]?.removeAll {
                    $0.registration.sessionID == session.session && $0.registration.loginID == login
                }
                if users[session.user]?.isEmpty == true { users[session.user] = nil }
            }
            leases[login] = nil
        }
        nextExpiry = leases.values.map(\.until).min() ?? .max
    }

    // MARK: looking up, revoking

    public func lookup(_ keys: [UserKey], micros: UInt64) throws(Failure) -> [LookupResult] {
        expire(micros: micros)
        let epochs = try tokens.epochs(keys)
        return zip(keys, epochs).map { key, epoch in
            var result = LookupResult()
            result.tokenEpoch = epoch
            result.registrations = users[User(app: key.appID, id: key.userID), default: []].map(\.registration)
            if !result.registrations.isEmpty {
                result.state = .presenceOnline
            } else {
                result.state = micros < unknownUntil ? .presenceUnknown : .presenceOffline
            }
            return result
        }
    }

    public func revoke(_ items: [RevokeItem]) throws(Failure) { try tokens.raise(items) }

    private static func refused(_ failure: Failure) -> RegisterResult {
        var result = RegisterResult()
        result.failure = failure
        return result
    }

    private static func key(_ item: Registration) -> UserKey {
        var key = UserKey()
        key.appID = item.appID
        key.userID = item.userID
        return key
    }
}
