import Foundation
import NIOCore
import Wire

/// From the first login to the verdict.
extension CheckRun {
    func advance(_ now: UInt64) {
        let elapsed = now - stageSince
        switch stage {
        case .connecting: connecting(now, elapsed)
        case .running:
            killer.tick(elapsed: elapsed)
            if elapsed >= UInt64(settings.seconds) * 1_000_000 {
                killer.end()
                enter(.draining, now)
            }
        case .draining:
            if elapsed >= config.drainLimit || machines.allSatisfy(\.isQuiet) { enter(.settling, now) }
        case .settling:
            if elapsed >= config.settleLimit || isSettled { enter(.auditing, now) }
        case .auditing: auditing(now, elapsed)
        case .done: break
        }
    }

    private func enter(_ next: Stage, _ now: UInt64) {
        stage = next
        stageSince = now
    }

    /// Every user must exist before anybody writes to them, and users come to exist by logging in.
    private func connecting(_ now: UInt64, _ elapsed: UInt64) {
        let missing = machines.filter { $0.link.logins == 0 }
        if missing.isEmpty { return enter(.running, now) }
        let servers = settings.servers.map { "\($0.host):\($0.port)" }.joined(separator: ", ")
        if let fatal = machines.lazy.compactMap(\.link.fatal).first {
            return give("\(servers) refuses the login: \(fatal)")
        }
        let none = missing.count == machines.count
        if (none && elapsed >= config.firstLoginLimit) || elapsed >= config.connectLimit {
            let who = none ? "nobody" : "only \(machines.count - missing.count) of \(machines.count) devices"
            let why = missing.first?.link.trouble ?? ""
            give("\(who) could log in at \(servers): \(why.isEmpty ? "no answer" : why); is `martlet up` running?")
        }
    }

    private func give(_ words: String) { finish(.failure(CheckError.cannotStart(words))) }

    /// Everybody is there and has at least as much as was accepted.
    private var isSettled: Bool {
        machines.allSatisfy { machine in
            machine.link.isOnline
                && machine.threads.allSatisfy { thread in
                    thread.received.dense >= max(thread.head, UInt64(history.acceptedIn[thread.index]))
                }
        }
    }

    private func auditing(_ now: UInt64, _ elapsed: UInt64) {
        if let due = recountAt {
            guard now >= due else { return }
            recountAt = nil
            return judge(now, final: elapsed >= config.auditLimit)
        }
        var active = 0
        var started = 0
        for auditor in auditors {
            guard let auditor else { continue }
            started += 1
            if !auditor.isDone { active += 1 }
        }
        while started < auditors.count, active < config.auditors {
            startAuditor(started, now)
            started += 1
            active += 1
        }
        let late = elapsed >= config.auditLimit
        if late || (active == 0 && started == auditors.count) { judge(now, final: late) }
    }

    private func startAuditor(_ user: Int, _ now: UInt64) {
        auditors[user] = AuditMachine(
            user: user, roster: roster, token: tokens[user], atLeast: heads, config: config,
            seed: settings.seed &* 37 &+ UInt64(user), now: now)
    }

    /// The highest seq of each conversation that any device was shown.
    private var heads: [UInt64] { history.seen.map { $0.keys.max() ?? 0 } }

    private func judge(_ now: UInt64, final: Bool) {
        var audit = Audit(conversations: roster.conversations.count)
        for case let auditor? in auditors {
            for (conversation, rows) in auditor.histories {
                guard let member = member(auditor.user, conversation) else { continue }
                audit.histories[conversation][member] = rows
            }
            for (conversation, entry) in auditor.entries ?? [:] {
                guard let member = member(auditor.user, conversation) else { continue }
                audit.entries[conversation][member] = entry
            }
        }
        let verdict = Judge.verdict(
            roster: roster, history: history, audit: audit, receipts: machines.map(\.receipts))
        if !verdict.wrongUnread.isEmpty, !final, recounts < config.unreadRetries { return recount(verdict, now) }
        finish(
            .success(
                Outcome(
                    verdict: verdict, history: history,
                    reconnects: machines.reduce(0) { $0 + max(0, $1.link.logins - 1) },
                    stalls: machines.reduce(0) { $0 + $1.stalls }, kills: killer.kills,
                    failedKills: killer.failures, roster: roster)))
    }

    /// A read cursor that the send path moves reaches the index a moment after the message: ask again before judging.
    private func recount(_ verdict: Verdict, _ now: UInt64) {
        recounts += 1
        recountAt = now + config.unreadRetryPause
        for user in verdict.wrongUnread {
            var actions: [LinkAction] = []
            auditors[user]?.syncAgain(now: now, actions: &actions)
            perform(machines.count + user, actions)
            flush(machines.count + user)
        }
    }

    private func member(_ user: Int, _ conversation: Int) -> Int? {
        roster.conversations[conversation].members.firstIndex(of: user)
    }
}
