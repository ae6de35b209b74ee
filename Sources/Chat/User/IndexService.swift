import Identity
import RPC
import Wire

/// The user index for services: IndexTouch is answered when durable, IndexLoad includes what is not written yet.
extension UserMachine {
    mutating func touch(_ id: CallID, _ entries: [IndexEntry], _ now: Instant) -> [Action] {
        guard !entries.isEmpty else { return [.reply(id, .done(Done()))] }
        guard !isFull(entries.count), !isWriterFull else { return [full(id)] }
        let job = calls.open(id, count: entries.count)
        var actions: [Action] = []
        for (index, entry) in entries.enumerated() {
            let slot = Slot(job: job, index: index)
            if let failure = fault(entry) {
                actions += settle(slot, .done(failure))
                continue
            }
            let key = EntryKey(app: entry.appID, user: entry.userID, conversation: entry.conversation)
            learn(entry.appID, entry.conversation, reached: max(entry.readSeq, entry.deliveredSeq))
            var change = EntryChange(key)
            change.change.change.readSeq = entry.readSeq
            change.change.change.deliveredSeq = entry.deliveredSeq
            change.change.joinedSeq = entry.joinedSeq
            change.change.peer = entry.peer
            change.change.create = true
            change.waiters = [.touch(slot)]
            writer.add(key, change, now: now.micros)
        }
        return actions
    }

    private func fault(_ entry: IndexEntry) -> Failure? {
        guard NameRule.isApp(entry.appID), NameRule.isUser(entry.userID) else {
            return Failure(.malformedRequest, "app_id or user_id is malformed")
        }
        guard let name = ConversationName(entry.conversation) else {
            return Failure(.badConversation, "the conversation's id is malformed")
        }
        guard name.members.isEmpty || name.members.contains(entry.userID) else {
            return Failure(.badConversation, "the conversation's name excludes the user")
        }
        guard max(entry.readSeq, entry.joinedSeq, entry.deliveredSeq) <= config.maxSeq else {
            return Failure(.malformedRequest, "a seq is at most \(config.maxSeq)")
        }
        return nil
    }

    mutating func loadIndex(_ id: CallID, _ queries: [IndexQuery]) -> [Action] {
        guard !queries.isEmpty else { return [.reply(id, .indexLoaded(IndexLoaded()))] }
        guard !isFull(queries.count) else { return [full(id)] }
        let job = calls.open(id, count: queries.count)
        for (index, query) in queries.enumerated() {
            indexLoads.append((.call(Slot(job: job, index: index)), query))
        }
        return []
    }

    mutating func indexLoaded(_ items: [(wish: IndexWish, query: IndexQuery)], _ result: CallResult) -> [Action] {
        var pages: [IndexPage]?
        var stated: Failure?
        if case .answered(.indexLoaded(let loaded)) = result {
            if loaded.hasFailure { stated = loaded.failure }
            if !loaded.hasFailure, loaded.pages.count == items.count { pages = loaded.pages }
        }
        let failure = Self.failure(of: result, stated)
        var actions: [Action] = []
        for (index, item) in items.enumerated() {
            var page = pages?[index]
            for row in page?.rows.indices ?? 0..<0 {
                page?.rows[row].merge(writer, item.query.appID, item.query.userID)
            }
            switch item.wish {
            case .call(let slot): actions += settle(slot, page.map { .page($0) } ?? .failed(failure))
            case .sync(let job): actions += rowsCame(job, page, failure)
            case .state(let job, let index): actions += entryCame(job, index, page, failure)
            case .peer(let job, let entry): actions += peerCame(job, entry, page, failure)
            }
        }
        return actions
    }

    /// A write to the index has ended: whoever waited for it learns so.
    mutating func saved(
        _ items: [(key: EntryKey, change: EntryChange)], _ result: CallResult, _ now: Instant
    ) -> [Action] {
        var rows: [IndexRow]?
        var stated: Failure?
        if case .answered(.indexSaved(let answer)) = result {
            if answer.hasFailure { stated = answer.failure }
            if !answer.hasFailure, answer.rows.count == items.count { rows = answer.rows }
        }
        let failure = Self.failure(of: result, stated)
        var actions: [Action] = []
        for (index, item) in items.enumerated() {
            let row = rows?[index]
            writer.landed(item.key, exists: (row?.version ?? 0) > 0, now: now.micros)
            for waiter in item.change.waiters {
                switch waiter {
                case .touch(let slot):
                    actions += settle(slot, row == nil ? .failed(failure) : .done(Failure()))
                case .state(let job, let change):
                    actions += stateSaved(job, change, item.key, row, failure, now)
                }
            }
            if let row, row.version > 0, item.change.hasHint { hint(item.key, item.change, row) }
        }
        return actions
    }
}

extension IndexRow {
    mutating func merge(_ writer: StateWriter, _ app: String, _ user: String) { writer.overlay(&self, app, user) }
}
