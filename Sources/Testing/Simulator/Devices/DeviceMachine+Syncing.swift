import Foundation
import Identity
import Machinery
import NIOCore
import RPC
import Wire

// Sync (section 11), what else a client asks now and then, and the audit at the end.
extension DeviceMachine {
    mutating func wantSync() {
        guard phase == .ready, config.rules.syncs else { return }
        guard !syncing else { return syncAgain = true }
        (syncing, syncAgain) = (true, false)
        askSync()
    }

    /// The next page, or again the one that failed.
    mutating func askSync() {
        syncAtMS = nil
        var request = SyncRequest()
        request.token = syncToken
        // Small pages, so that there are several.
        request.limit = UInt32.random(in: 0...2, using: &random)
        ask(WellKnownService.user, 1, request.buffer, .sync)
    }

    mutating func syncAnswered(_ answer: Result<Data, Failure>) {
        guard case .success(let body) = answer, let response = try? SyncResponse(serializedBytes: body) else {
            // The sync goes on: a reason that comes meanwhile may concern its first pages, so it asks for one more.
            syncAtMS = nowMS + UInt64.random(in: 250...750, using: &random)
            return
        }
        syncToken = response.token
        for entry in response.entries {
            synced.append(entry)
            if entry.hasLast { take(entry.last, .sync) }
            raiseHead(entry.conversation, entry.headSeq)
        }
        if response.more { return askSync() }
        syncing = false
        syncs += 1
        watchPeers()
        if syncAgain { wantSync() }
    }

    /// Presence again behind every sync; a typing hint now and then. Both are best effort and prove nothing here, but
    /// they are on the way of what does.
    private mutating func watchPeers() {
        guard random.chance(0.5), requests.count < DeviceConfig.requestsInFlight else { return }
        var request = PresenceRequest()
        request.userIds = names.compactMap { ConversationName($0)?.peer(of: config.user) }
        ask(WellKnownService.online, 2, request.buffer, .other)
        guard let name = names.randomElement(using: &random), random.chance(0.3) else { return }
        var typing = TypingRequest()
        typing.conversation = name
        ask(WellKnownService.im, 2, typing.buffer, .other)
    }

    // MARK: The audit

    mutating func goOnWithAudit() {
        guard let audit, !audit.isDone, audit.notBefore <= nowMS else { return }
        let isAsking = requests.values.contains { request in
            switch request.purpose {
            case .audit, .auditPage: true
            default: false
            }
        }
        guard !isAsking else { return }
        guard audit.isSynced else { return askAudit() }
        guard let name = audit.left.first else {
            self.audit?.isDone = true
            return
        }
        askPage(name)
    }

    private mutating func askAudit() {
        var request = SyncRequest()
        request.token = audit?.token ?? Data()
        request.limit = 1
        ask(WellKnownService.user, 1, request.buffer, .audit)
    }

    private mutating func askPage(_ name: String) {
        var request = HistoryRequest()
        var query = HistoryQuery()
        query.conversation = name
        query.fromSeq = (audit?.history[name]?.last?.seq ?? 0) + 1
        query.limit = 50
        request.queries = [query]
        ask(WellKnownService.history, 1, request.buffer, .auditPage(name))
    }

    mutating func auditAnswered(_ answer: Result<Data, Failure>) {
        guard case .success(let body) = answer, let response = try? SyncResponse(serializedBytes: body) else {
            return waitWithAudit()
        }
        audit?.token = response.token
        audit?.entries += response.entries
        audit?.isSynced = !response.more
        goOnWithAudit()
    }

    mutating func auditPageAnswered(_ name: String, _ answer: Result<Data, Failure>) {
        guard case .success(let body) = answer, let page = try? HistoryResponse(serializedBytes: body).pages.first,
            !page.hasFailure
        else { return waitWithAudit() }
        audit?.history[name, default: []] += page.messages
        if (audit?.history[name]?.last?.seq ?? 0) >= page.headSeq { audit?.left.removeAll { $0 == name } }
        goOnWithAudit()
    }

    private mutating func waitWithAudit() { audit?.notBefore = nowMS + 500 }
}
