import Foundation
import Identity
import RPC
import Wire

/// One device's messages in one conversation, in the order in which it made them.
public struct SentLane {
    public let name: SimulatedRecentStore.Name
    public let user: String
    public let device: String
    public let messages: [OwnMessage]
    public let isSettled: Bool
}

/// What is stored, checked against what the senders were told.
struct RowPromises {
    private let lanes: [SentLane]
    private let rows: [SimulatedRecentStore.Name: [StoredRow]]
    /// Places of every message by who wrote it and its id.
    private var places: [String: [UInt64]] = [:]
    private var found: [Violation] = []

    init(lanes: [SentLane], rows: [SimulatedRecentStore.Name: [StoredRow]]) {
        self.lanes = lanes
        self.rows = rows
    }

    /// Everything that is wrong, in a fixed order.
    mutating func check() -> [Violation] {
        found = []
        places = [:]
        for (name, rows) in rows.sorted(by: { $0.key < $1.key }) { check(name, rows) }
        var known: Set<String> = []
        for lane in lanes { check(lane, &known) }
        for key in places.keys.sorted() where !known.contains(key) {
            found.append(Violation(.invented, "\(key) was never sent"))
        }
        return found
    }

    private mutating func check(_ name: SimulatedRecentStore.Name, _ rows: [StoredRow]) {
        var n: UInt64 = 0
        var time: UInt64 = 0
        for (index, row) in rows.enumerated() {
            let what = "\(name.conversation) \(row.seq)"
            if row.seq != UInt64(index + 1) { found.append(Violation(.notDense, "\(what) at \(index + 1)")) }
            guard let message = try? ChatMessage(serializedBytes: row.message) else {
                found.append(Violation(.lost, "\(what) cannot be read"))
                continue
            }
            if !message.control { n += 1 }
            if row.n != n { found.append(Violation(.unread, "\(what) counts \(row.n), not \(n)")) }
            n = row.n
            if row.timeMs < time { found.append(Violation(.outOfOrder, "\(what) is older than the one before")) }
            time = row.timeMs
            if row.lost {
                found.append(Violation(.lost, "\(what) is a placeholder"))
            } else {
                places[Self.key(name, message.sender, message.device, message.clientMsgID), default: []].append(row.seq)
            }
        }
    }

    private mutating func check(_ lane: SentLane, _ known: inout Set<String>) {
        if !lane.isSettled {
            found.append(Violation(.stuck, "\(lane.device) still waits in \(lane.name.conversation)"))
        }
        var last: UInt64 = 0
        for (index, sent) in lane.messages.enumerated() {
            let key = Self.key(lane.name, lane.user, lane.device, sent.item.clientMsgID)
            known.insert(key)
            let seqs = places[key] ?? []
            let what = "message \(index) of \(lane.device) in \(lane.name.conversation)"
            if sent.state == .accepted, seqs.isEmpty { found.append(Violation(.lost, what)) }
            if seqs.count > 1 { found.append(Violation(.duplicated, "\(what) has the places \(seqs)")) }
            if case .refused(let reason) = sent.state, !sent.everUnknown, !seqs.isEmpty {
                found.append(Violation(.storedThoughRefused, "\(what): \(reason)"))
            }
            guard let first = seqs.first else { continue }
            if first < last { found.append(Violation(.outOfOrder, "\(what) has place \(first), behind \(last)")) }
            last = max(last, first)
        }
    }

    private static func key(
        _ name: SimulatedRecentStore.Name, _ sender: String, _ device: String, _ id: Data
    ) -> String {
        "\(name.app) \(name.conversation) \(sender) \(device) "
            + id.map { String($0, radix: 16) }.joined(separator: ".")
    }
}
