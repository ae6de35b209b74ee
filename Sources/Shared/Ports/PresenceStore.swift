import Wire

/// Who is connected where. Every registration has an epoch that only grows, so that a late goodbye cannot remove a
/// newer registration. `micros` is the caller's monotonic clock.
///
/// Isolation: confined to the lane of the machine in front of it.
public protocol PresenceStore: AnyObject, Sendable {
    /// A new life begins, without registrations. `wallMS` seeds the epochs, so that they grow over restarts.
    func begin(micros: UInt64, wallMS: UInt64)

    /// Adds registrations. The same session again keeps its epoch. Earlier sessions of the same (app, user, platform)
    /// (`Registration.isBefore`) are displaced, removed and named in the result, unless `keep_others` is set.
    /// Failures: `displaced` and `superseded` (a later one is there), `tokenRevoked`, `limitExceeded`,
    /// `storeUnavailable`.
    func register(_ items: [Registration], micros: UInt64) -> [RegisterResult]

    /// Removes registrations whose session and epoch are still the ones named; others are left alone.
    func unregister(_ items: [Registration], micros: UInt64)

    /// Keeps a Login's registrations alive and says which they are. Another `life` than before: the lease began anew
    /// and held nothing then, so the Login should register everything again.
    func lease(_ request: LeaseRequest, micros: UInt64) -> LeaseResponse

    func lookup(_ users: [UserKey], micros: UInt64) throws(Failure) -> [LookupResult]

    /// Raises token epochs, durably. Does not touch live sessions: the caller looks them up and kicks them.
    func revoke(_ items: [RevokeItem]) throws(Failure)

    /// Drops registrations whose Login has been silent for longer than its lease.
    func expire(micros: UInt64)
}

/// Bounds of presence, each with its reason.
public enum PresenceLimits {
    /// A Login that registers without having sent a lease yet is believed for this long.
    public static let leaseMS: UInt64 = 6000
    /// No lease is longer, so that a mistaken one ends.
    public static let longestLeaseMS: UInt64 = 60_000
    /// Sessions of one user, one a platform: platforms are the client's own words. In an app with `multi_session`
    /// more of them are meant to be there.
    public static let sessionsPerUser = 8
    public static let multiSessionsPerUser = 64
    /// Slices shown in one answer.
    public static let shownSlices = 8
}

/// Where token epochs survive a restart.
///
/// Isolation: confined to the lane of the store in front of it.
public protocol TokenEpochs: AnyObject, Sendable {
    /// The epoch of each user, 0 where none was ever raised.
    func epochs(_ users: [UserKey]) throws(Failure) -> [UInt64]
    /// Max-merges; durable on return.
    func raise(_ items: [RevokeItem]) throws(Failure)
    /// What is at hand without waiting for anybody, for those who only look; 0 where nothing is known.
    func known(_ users: [UserKey]) -> [UInt64]
}

extension TokenEpochs {
    public func known(_ users: [UserKey]) -> [UInt64] {
        (try? epochs(users)) ?? Array(repeating: 0, count: users.count)
    }
}

extension Registration {
    /// Whether this session's login was earlier than the other's of the same (app, user, platform).
    public func isBefore(_ other: Registration) -> Bool {
        (welcomedUs, sessionID) < (other.welcomedUs, other.sessionID)
    }

    /// Why this one is not registered while the later one is. A device has only one connection that counts, and it may
    /// be this one when the two Logins' clocks differ: it may come back. Another device may not, or two would take
    /// turns for ever.
    public func superseded(by later: Registration) -> Failure {
        later.deviceID == deviceID
            ? Failure(.superseded, "a later login of this device is registered")
            : Failure(.displaced, "a later login on platform \(platform), device \(later.deviceID), is registered")
    }
}
