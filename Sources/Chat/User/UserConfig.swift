/// Times and limits of a User.
public struct UserConfig: Sendable, Equatable {
    /// How often svid 4 is announced at the Routes.
    public var announceMS: UInt32 = 1000
    /// One write per (user, conversation) in this time; what comes in between is merged.
    public var coalesceMS: UInt32 = 1000
    /// How often waiting writes are looked at: a write is late by at most this.
    public var writeTickMS: UInt32 = 100
    /// Longest wait for the relational store and MsgReader. Callers wait 5 s and shall learn the reason.
    public var storeTimeoutMS: UInt32 = 3500
    /// Items of calls not answered yet; more are refused with `overloaded`.
    public var maxItems = 65_536
    /// Index entries written in the last second or waiting for it; more are refused with `overloaded`.
    public var maxWrites = 262_144
    /// Syncs under way: each holds a page.
    public var maxSyncs = 4096
    /// Entries in one page of sync, and what 0 means.
    public var maxEntries: UInt32 = 500
    public var usualEntries: UInt32 = 200
    /// Index rows looked at per step of a sync, and steps per call: then the caller gets what there is, and `more`.
    public var scannedRows: UInt32 = 500
    public var maxSteps = 8
    /// Heads of several syncs in one call to MsgReader, and index rows in one call to the store: a reconnect storm
    /// comes in many calls instead of one that exceeds a limit.
    public var mergedHeads = 500
    public var mergedRows = 2000
    /// Bytes of one page of sync and of one answer with profiles, so that it fits a frame: about three quarters of it.
    public var maxResponseBytes = 96 * 1024
    /// Changes in one set_state, profiles in one call.
    public var maxChanges = 100
    public var maxProfiles = 100
    public var maxDraftBytes = 4096
    public var maxNicknameBytes = 256
    public var maxAvatarBytes = 1024
    public var maxCustomBytes = 4096
    /// Seqs that every client's language can hold exactly.
    public var maxSeq: UInt64 = (1 << 53) - 1
    /// Keys of one app, and their secrets' sizes: HS256 wants at least 32 bytes (RFC 7518, section 3.2).
    public var maxAppKeys = 16
    public var secretBytes = 32...256
    /// Index entries known to exist.
    public var knownEntries = 262_144
    /// Conversations of which a seq is known that exists.
    public var knownHeads = 65_536

    public init() {}
}
