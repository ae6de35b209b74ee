import Machinery
import Wire

/// For tests of the checker: one user's unread count in one conversation, one too high from some answer on.
struct Miscount: Sendable {
    private var hook: FaultHook
    private var victim: HeadQuery?

    init(_ hook: FaultHook) { self.hook = hook }

    mutating func apply(to heads: inout [HeadState], _ queries: [HeadQuery]) {
        guard hook.isArmed || victim != nil else { return }
        for (index, query) in queries.prefix(heads.count).enumerated() where heads[index].seq > 0 {
            if victim == nil, hook.fires(.miscountOne) { victim = query }
            guard let victim, victim.appID == query.appID, victim.userID == query.userID,
                victim.conversation == query.conversation
            else { continue }
            heads[index].unread += 1
        }
    }
}
