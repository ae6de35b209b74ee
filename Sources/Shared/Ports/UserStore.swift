import Wire

/// Apps, users and the user index. Writes of one call are one transaction: all of it is durable on return, or nothing.
///
/// Isolation: confined to the lane of the machine in front of it.
public protocol UserStore: AnyObject, Sendable {
    /// Apps in the order asked, `exists` false where there is none. No ids: every app, by id.
    func apps(_ ids: [String]) throws(Failure) -> [App]

    /// Apps, users and index changes, in this order, in one transaction.
    ///
    /// - Throws: `storeUnavailable`; then nothing was changed. `outcomeUnknown`: a store that others share did not say.
    func apply(_ batch: UserBatch) throws(Failure) -> UserBatchResult

    /// Users in the order asked; `profile.exists` false where there is none.
    func users(_ users: [UserKey]) throws(Failure) -> [UserRow]

    /// Index entries with a version above `since_version`, ordered by conversation, after the cursor; or one entry.
    func index(_ queries: [IndexQuery]) throws(Failure) -> [IndexPage]
}

/// What one transaction carries.
public struct UserBatch: Sendable, Equatable {
    /// Replaced whole; the version is the store's.
    public var apps: [App] = []
    /// The same, but only those whose `version` is the stored one, or 0 where there is none: two who change an app at
    /// the same time cannot undo each other.
    public var comparedApps: [App] = []
    /// Created or updated. A patch replaces the fields that it has. Without one, a profile that has `exists` set or any
    /// field filled replaces the stored one; otherwise only the token epoch is merged.
    public var users: [UserPut] = []
    /// Merged: seqs only grow, unset fields are left alone. An absent entry is made when `create` is set.
    public var changes: [IndexChange] = []

    public init() {}
    public var isEmpty: Bool { apps.isEmpty && comparedApps.isEmpty && users.isEmpty && changes.isEmpty }
}

/// What a transaction answers.
public struct UserBatchResult: Sendable, Equatable {
    /// Entries after the change, in the order of the changes; version 0 where there is none.
    public var rows: [IndexRow]
    /// Per compared app, whether it was written.
    public var writtenApps: [Bool]

    public init(rows: [IndexRow], writtenApps: [Bool] = []) {
        self.rows = rows
        self.writtenApps = writtenApps
    }
}

/// Bounds of the relational port.
public enum UserLimits {
    /// Most entries of an index page; a limit of 0 means `indexPageDefault`.
    public static let indexPageRows = 500
    public static let indexPageDefault = 200
    /// Longest draft, in bytes.
    public static let draftBytes = 4096
    /// Apps in one listing.
    public static let listedApps = 10_000
}

extension Profile {
    /// Takes over the fields that the patch has. The profile exists then.
    public mutating func apply(_ patch: ProfilePatch) {
        if patch.hasNickname { nickname = patch.nickname }
        if patch.hasAvatarURL { avatarURL = patch.avatarURL }
        if patch.hasCustom { custom = patch.custom }
        exists = true
    }
}
