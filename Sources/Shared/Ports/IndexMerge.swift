import Wire

extension IndexRow {
    /// Takes a change over: seqs only grow, unset fields stay. The version is the store's to move.
    public mutating func merge(_ item: IndexChange) {
        let change = item.change
        conversation = change.conversation
        joinedSeq = max(joinedSeq, item.joinedSeq)
        readSeq = max(readSeq, change.readSeq)
        clearedSeq = max(clearedSeq, change.clearedSeq)
        deliveredSeq = max(deliveredSeq, change.deliveredSeq)
        if change.hasPinned { pinned = change.pinned }
        if change.hasMuted { muted = change.muted }
        if change.hasDraft { draft = Self.shortened(change.draft) }
        if peer.isEmpty { peer = item.peer }
    }

    /// User refuses longer drafts with a name for it; here the limit only protects the store.
    private static func shortened(_ draft: String) -> String {
        draft.utf8.count <= UserLimits.draftBytes
            ? draft : String(decoding: draft.utf8.prefix(UserLimits.draftBytes), as: UTF8.self)
    }
}

extension UserPut {
    /// The profile that is to be stored over this one; nil when the stored one stays.
    public func profile(over stored: Profile) -> Profile? {
        if hasPatch {
            var changed = stored
            changed.apply(patch)
            return changed
        }
        guard profile.exists || !profile.nickname.isEmpty || !profile.avatarURL.isEmpty || !profile.custom.isEmpty
        else { return nil }
        return profile
    }
}
