import Foundation
import Identity
import NIOCore
import Wire

extension ClientMachine {
    /// A message arrived, by push or by repair.
    mutating func take(
        _ pushed: PushedMessage, _ channel: History.Channel, _ now: UInt64, _ history: inout History
    ) {
        guard let conversation = roster.index[pushed.conversation] else { return }
        take(conversation, roster.row(pushed), channel, now, &history)
    }

    /// The place of a message that this device sent.
    mutating func take(_ stored: SeqNotice.Stored, _ now: UInt64, _ history: inout History) {
        guard let conversation = roster.index[stored.conversation] else { return }
        let row = Row(
            seq: stored.seq, n: stored.n, timeMS: stored.timeMs, number: Roster.number(inID: stored.clientMsgID),
            device: device)
        take(conversation, row, .notice, now, &history)
    }

    private mutating func take(
        _ conversation: Int, _ row: Row, _ channel: History.Channel, _ now: UInt64, _ history: inout History
    ) {
        guard let index = position[conversation] else { return }
        let isNew = threads[index].received.insert(row.seq)
        threads[index].head = max(threads[index].head, row.seq)
        history.received(
            device: device, conversation: conversation, row: row, isNew: isNew, by: channel,
            onlineSince: link.onlineSince ?? now, now: now)
        if hasGap(index) { askLater(index, now) } else { threads[index].gapAt = nil }
    }

    func hasGap(_ index: Int) -> Bool { threads[index].received.dense < threads[index].head }

    /// Most gaps fill themselves: the next push is under way.
    mutating func askLater(_ index: Int, _ now: UInt64) {
        guard threads[index].gapAt == nil, !threads[index].repairing else { return }
        threads[index].gapAt = now + pause(config.gapPause, config.gapJitter)
    }

    mutating func repair(_ index: Int, _ now: UInt64, _ actions: inout [LinkAction]) {
        threads[index].gapAt = nil
        guard hasGap(index), !threads[index].repairing else { return }
        threads[index].repairing = true
        var query = HistoryQuery()
        query.conversation = threads[index].name
        query.fromSeq = threads[index].received.dense + 1
        query.limit = config.page
        query.atLeast = threads[index].head
        var request = HistoryRequest()
        request.queries = [query]
        self.request(
            UInt16(WellKnownService.history), 1, .history(conversation: index), request.buffer, now, &actions)
    }

    mutating func historyAnswered(
        _ index: Int, _ response: HistoryResponse?, _ now: UInt64, _ history: inout History
    ) {
        threads[index].repairing = false
        let before = threads[index].received.dense
        if let page = response?.pages.first, !page.hasFailure {
            let name = threads[index].name
            for pushed in page.messages where pushed.conversation.isEmpty || pushed.conversation == name {
                take(threads[index].index, roster.row(pushed), .repair, now, &history)
            }
        }
        guard hasGap(index) else { return }
        let progress = threads[index].received.dense > before
        threads[index].gapAt = progress ? now : now + pause(config.retryPause, config.retryJitter)
    }

    /// Asks what changed; a second wish while one is under way runs after it.
    mutating func sync(_ now: UInt64, _ actions: inout [LinkAction]) {
        guard !syncing else {
            syncAt = now
            return
        }
        syncing = true
        syncAt = now + config.syncEvery
        pageToken = syncToken
        askPage(now, &actions)
    }

    private mutating func askPage(_ now: UInt64, _ actions: inout [LinkAction]) {
        var request = SyncRequest()
        request.token = pageToken
        self.request(UInt16(WellKnownService.user), 1, .sync, request.buffer, now, &actions)
    }

    mutating func syncAnswered(
        _ response: SyncResponse?, _ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]
    ) {
        guard let response else {
            syncing = false
            syncAt = now + pause(config.retryPause, config.retryJitter)
            return
        }
        for entry in response.entries {
            guard let conversation = roster.index[entry.conversation], let index = position[conversation] else {
                continue
            }
            threads[index].head = max(threads[index].head, entry.headSeq)
            if hasGap(index) { askLater(index, now) }
        }
        pageToken = response.token
        if response.more { return askPage(now, &actions) }
        syncToken = response.token
        syncing = false
    }

    /// The workload reads a conversation: as far as this device has it without a hole.
    mutating func read(_ conversation: Int) {
        guard let index = position[conversation] else { return }
        threads[index].readWanted = threads[index].received.dense
    }

    mutating func moveRead(_ index: Int, _ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]) {
        let thread = threads[index]
        guard thread.readWanted > thread.readConfirmed, !thread.readInFlight, now >= thread.readAt else { return }
        threads[index].readInFlight = true
        var change = StateChange()
        change.conversation = thread.name
        change.readSeq = thread.readWanted
        var request = SetStateRequest()
        request.changes = [change]
        history.askedRead(user: user, conversation: thread.index, seq: thread.readWanted)
        self.request(
            UInt16(WellKnownService.user), 2, .read(conversation: index, seq: thread.readWanted), request.buffer, now,
            &actions)
    }

    mutating func readAnswered(_ index: Int, _ seq: UInt64, ok: Bool, _ now: UInt64, _ history: inout History) {
        threads[index].readInFlight = false
        if ok {
            threads[index].readConfirmed = max(threads[index].readConfirmed, seq)
            history.confirmedRead(user: user, conversation: threads[index].index, seq: seq)
        } else {
            threads[index].readAt = now + pause(config.retryPause, config.retryJitter)
        }
    }
}
