import Foundation
import RPC
import Wire

/// What devices show and are told, checked against what is stored.
struct DevicePromises {
    private let devices: [DeviceMachine]
    private let rows: [SimulatedRecentStore.Name: [StoredRow]]
    private var found: [Violation] = []

    init(devices: [DeviceMachine], rows: [SimulatedRecentStore.Name: [StoredRow]]) {
        self.devices = devices
        self.rows = rows
    }

    /// Everything that devices show wrongly, in a fixed order.
    mutating func check() -> [Violation] {
        found = []
        for device in devices {
            let name = device.config.device
            if let ending = device.ending { found.append(Violation(.shutOut, "\(name): \(ending)")) }
            for conversation in device.names {
                checkShown(device, conversation)
            }
            for entry in device.synced { checkCount(entry, device) }
            if !device.isSettled { found.append(Violation(.stuck, "\(name) \(device.whyUnsettled)")) }
        }
        return found
    }

    /// Everything that the server answers wrongly at the end, in a fixed order.
    mutating func checkAudits() -> [Violation] {
        found = []
        for device in devices {
            guard let audit = device.audit, audit.isDone else {
                found.append(Violation(.stuck, "the audit of \(device.config.device) does not end"))
                continue
            }
            for entry in audit.entries {
                checkCount(entry, device)
                checkEnd(entry, device)
            }
            for name in device.names {
                let stored = rows[.init(device.config.app, name)] ?? []
                let seen = audit.entries.filter { $0.conversation == name }.count
                if seen != (stored.isEmpty ? 0 : 1) {
                    found.append(Violation(.shownWrong, "sync of \(device.config.device) has \(name) \(seen) times"))
                }
                checkHistory(audit.history[name] ?? [], stored, "history of \(name) for \(device.config.device)")
            }
        }
        return found
    }

    // MARK: What is shown

    private mutating func checkShown(_ device: DeviceMachine, _ name: String) {
        let stored = rows[.init(device.config.app, name)] ?? []
        let shown = device.conversations[name]?.shown ?? []
        let place = "\(name) on \(device.config.device)"
        var last: UInt64 = 0
        var seqs: Set<UInt64> = []
        var messages: Set<Data> = []
        for message in shown {
            let again = !seqs.insert(message.seq).inserted
            if again || !messages.insert(message.clientMsgID).inserted {
                found.append(Violation(.shownTwice, "\(message.seq) of \(place)"))
            } else if message.seq < last {
                found.append(Violation(.shownOutOfOrder, "\(message.seq) behind \(last) of \(place)"))
            }
            last = max(last, message.seq)
            guard message.seq >= 1, message.seq <= stored.count else {
                found.append(Violation(.shownWrong, "\(message.seq) of \(place) is not stored"))
                continue
            }
            compare(message, stored[Int(message.seq) - 1], place)
        }
        let missing = stored.map(\.seq).filter { !seqs.contains($0) }
        if !missing.isEmpty { found.append(Violation(.notShown, "\(missing) of \(place)")) }
    }

    private mutating func compare(_ message: ShownMessage, _ row: StoredRow, _ place: String) {
        let chat = (try? ChatMessage(serializedBytes: row.message)) ?? ChatMessage()
        let same =
            message.sender == chat.sender && message.device == chat.device
            && message.clientMsgID == chat.clientMsgID && message.timeMS == row.timeMs
        if !same { found.append(Violation(.shownWrong, "\(message.seq) of \(place) is another message")) }
        if message.n != row.n {
            found.append(Violation(.unread, "\(message.seq) of \(place) counts \(message.n), not \(row.n)"))
        }
    }

    private mutating func checkHistory(_ messages: [PushedMessage], _ stored: [StoredRow], _ what: String) {
        guard messages.map(\.seq) == stored.map(\.seq) else {
            found.append(Violation(.shownWrong, "\(what) has \(messages.count) of \(stored.count) rows"))
            return
        }
        let recalled = RowRules.recalled(stored)
        for (message, row) in zip(messages, stored) {
            let chat = (try? ChatMessage(serializedBytes: message.message)) ?? ChatMessage()
            let isGone = chat.kind == .contentRecall && chat.targetSeq == message.seq && chat.content.isEmpty
            if isGone != recalled.contains(row.seq) || (!isGone && message.message != row.message) {
                found.append(Violation(.shownWrong, "\(row.seq) in \(what)"))
            }
        }
    }

    // MARK: Counts

    /// Unread is exact as of the entry's own head and read seq, whenever it was told.
    private mutating func checkCount(_ entry: ConversationEntry, _ device: DeviceMachine) {
        let stored = (rows[.init(device.config.app, entry.conversation)] ?? []).filter { $0.seq <= entry.headSeq }
        let unread = RowRules.unread(stored, of: device.config.user, above: entry.readSeq)
        if entry.unread != unread {
            let text = "\(entry.conversation) for \(device.config.device) up to \(entry.headSeq), read \(entry.readSeq)"
            found.append(Violation(.unread, "\(text): \(entry.unread), not \(unread)"))
        }
        if entry.headN != stored.last?.n ?? 0 {
            found.append(Violation(.unread, "\(entry.conversation) counts \(entry.headN) up to \(entry.headSeq)"))
        }
    }

    /// At the end everybody has read what they said and what they wrote.
    private mutating func checkEnd(_ entry: ConversationEntry, _ device: DeviceMachine) {
        let what = "\(entry.conversation) for \(device.config.device)"
        let stored = rows[.init(device.config.app, entry.conversation)] ?? []
        if entry.headSeq != UInt64(stored.count) || entry.last.seq != entry.headSeq {
            found.append(Violation(.shownWrong, "head of \(what) is \(entry.headSeq), last \(entry.last.seq)"))
        }
        let read = read(entry.conversation, stored, by: device.config.user)
        if entry.readSeq != read {
            found.append(Violation(.unread, "\(what) is read to \(entry.readSeq), not \(read)"))
        }
        let peerRead = self.read(entry.conversation, stored, by: entry.peer)
        if entry.peerReadSeq != peerRead {
            found.append(Violation(.unread, "\(what): the peer has read \(entry.peerReadSeq), not \(peerRead)"))
        }
        if entry.deliveredSeq != entry.headSeq || entry.peerDeliveredSeq != entry.headSeq {
            let text = "\(entry.deliveredSeq) and \(entry.peerDeliveredSeq), not \(entry.headSeq)"
            found.append(Violation(.unread, "\(what) is delivered to \(text)"))
        }
    }

    private func read(_ conversation: String, _ stored: [StoredRow], by user: String) -> UInt64 {
        let said = devices.filter { $0.config.user == user }.map { $0.conversations[conversation]?.read ?? 0 }
        return max(said.max() ?? 0, stored.last { $0.sender == user }?.seq ?? 0)
    }
}
