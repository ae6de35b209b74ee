import Identity
import Ports
import Wire

/// Who is connected where, in memory: after a restart every Login registers its sessions again, and until then nobody
/// is called offline.
///
/// Isolation: the lane of its machine.
public final class MemoryPresenceStore: PresenceStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.

    private struct User: Hashable {
        let app: String
        let id: String
    }

    private struct Lease {
        var until: UInt64
        let life: UInt64
        var sessions: Set<SessionKey> = []
        /// The same sessions.
        var slices = SessionSlices()
    }

    private struct SessionKey: Hashable {
        let user: User
        let session: String
    }

    private let tokens: any TokenEpochs
    private var users: [User: [Registration]] = [:]
    private var leases: [String: Lease] = [:]
    private var nextEpoch: UInt64 = 1
    private var unknownUntil: UInt64 = 0
    private var nextExpiry = UInt64.max

    public init(tokens: any TokenEpochs) { self.tokens = tokens }

    public func begin(micros: UInt64, wallMS: UInt64) {
        // 65,536 registrations a millisecond would be needed to run ahead of the clock.
        nextEpoch = max(nextEpoch, wallMS << 16)
        unknownUntil = micros + PresenceLimits.leaseMS * 1000
        users = [:]
        leases = [:]
        nextExpiry = .max
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
        if let old = entries.firstIndex(where: { $0.sessionID == item.sessionID && $0.loginID == item.loginID }) {
            result.epoch = entries[old].epoch
            result.life = life(of: item.loginID, micros)
            entries[old].tokenEpoch = item.tokenEpoch
            users[user] = entries
            return result
        }
        let rivals = item.keepOthers ? [] : entries.filter { $0.platform == item.platform }
        if let later = rivals.first(where: item.isBefore) { return Self.refused(item.superseded(by: later)) }
        let most = item.keepOthers ? PresenceLimits.multiSessionsPerUser : PresenceLimits.sessionsPerUser
        guard entries.count - rivals.count < most else {
            return Self.refused(Failure(.limitExceeded, "a user has at most \(most) sessions"))
        }
        for rival in rivals { forget(user, rival) }
        if !rivals.isEmpty { entries.removeAll { $0.platform == item.platform } }
        result.displaced = rivals
        result.life = life(of: item.loginID, micros)
        var stored = item
        stored.epoch = newEpoch()
        result.epoch = stored.epoch
        entries.append(stored)
        users[user] = entries
        leases[item.loginID]?.sessions.insert(SessionKey(user: user, session: item.sessionID))
        leases[item.loginID]?.slices.add(item.sessionID)
        return result
    }

    private func newEpoch() -> UInt64 {
        defer { nextEpoch += 1 }
        return nextEpoch
    }

    /// The life of the Login's lease, which begins now if there is none.
    private func life(of login: String, _ micros: UInt64) -> UInt64 {
        if let lease = leases[login] { return lease.life }
        let lease = Lease(until: micros + PresenceLimits.leaseMS * 1000, life: newEpoch())
        leases[login] = lease
        nextExpiry = min(nextExpiry, lease.until)
        return lease.life
    }

    public func unregister(_ items: [Registration], micros: UInt64) {
        expire(micros: micros)
        for item in items {
            let user = User(app: item.appID, id: item.userID)
            guard
                let entry = users[user]?.first(where: { $0.sessionID == item.sessionID && $0.epoch == item.epoch })
            else { continue }
            forget(user, entry)
            users[user]?.removeAll { $0.sessionID == item.sessionID && $0.epoch == item.epoch }
            if users[user]?.isEmpty == true { users[user] = nil }
        }
    }

    /// Its Login's lease does not count it any more.
    private func forget(_ user: User, _ item: Registration) {
        let key = SessionKey(user: user, session: item.sessionID)
        if leases[item.loginID]?.sessions.remove(key) != nil { leases[item.loginID]?.slices.remove(item.sessionID) }
    }

    // MARK: leases

    public func lease(_ request: LeaseRequest, micros: UInt64) -> LeaseResponse {
        expire(micros: micros)
        let wanted = request.leaseMs == 0 ? PresenceLimits.leaseMS : min(request.leaseMs, PresenceLimits.longestLeaseMS)
        var answer = LeaseResponse()
        answer.life = life(of: request.loginID, micros)
        leases[request.loginID]?.until = micros + wanted * 1000
        nextExpiry = min(nextExpiry, micros + wanted * 1000)
        guard let lease = leases[request.loginID] else { return answer }
        answer.slices = lease.slices.sums
        answer.shown = shown(lease, request.show.prefix(PresenceLimits.shownSlices).map(Int.init))
        return answer
    }

    /// The lease's registrations in some slices, by session.
    private func shown(_ lease: Lease, _ slices: [Int]) -> [Registration] {
        guard !slices.isEmpty else { return [] }
        return lease.sessions.filter { slices.contains(SessionSlices.slice(of: $0.session)) }
            .compactMap { key in users[key.user]?.first { $0.sessionID == key.session } }
            .sorted { $0.sessionID < $1.sessionID }
    }

    public func expire(micros: UInt64) {
        guard micros > nextExpiry else { return }
        for (login, lease) in leases where lease.until < micros {
            for session in lease.sessions {
                users[session.user]?.removeAll { $0.sessionID == session.session && $0.loginID == login }
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
            result.registrations = users[User(app: key.appID, id: key.userID), default: []]
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
