import Foundation
import Identity
import RPC
import Wire

/// A promise that was broken.
public struct Violation: Equatable, Sendable, CustomStringConvertible {
    public enum Kind: String, Sendable, CaseIterable {
        case lost, duplicated, outOfOrder, unread, storedThoughRefused, invented, notDense, deliveredEarly, stuck
        case replayDiffers, mistake
    }

    public let kind: Kind
    public let text: String
    public var description: String { "\(kind.rawValue): \(text)" }

    public init(_ kind: Kind, _ text: String) {
        self.kind = kind
        self.text = text
    }
}

/// What the storage path promises, checked against what the clients were told and what the stores hold.
public struct Promises {
    private let lanes: [ScriptedClients.Lane]
    private let rows: [String: [StoredRow]]
    private let mistakes: [String]
    /// Places of every message by who wrote it and its id.
    private var places: [String: [UInt64]] = [:]
    private var found: [Violation] = []

    public init(clients: [ScriptedClients.Lane], recent: FakeRecent) {
        self.init(clients: clients, rows: recent.rows, mistakes: recent.mistakes)
    }

    /// - Parameters:
    ///   - rows: what the recent store holds, by `FakeRecent.name`, ascending.
    ///   - mistakes: what a store found wrong with what it was brought.
    public init(clients: [ScriptedClients.Lane], rows: [String: [StoredRow]], mistakes: [String] = []) {
        self.lanes = clients
        self.rows = rows
        self.mistakes = mistakes
    }

    /// Everything that is wrong, in a fixed order.
    public mutating func check() -> [Violation] {
        found = mistakes.map { Violation(.mistake, $0) }
        places = [:]
        for (name, rows) in rows.sorted(by: { $0.key < $1.key }) { check(name, rows) }
        var known: Set<String> = []
        for lane in lanes { check(lane, &known) }
        for key in places.keys.sorted() where !known.contains(key) {
            found.append(Violation(.invented, "\(key) was never sent"))
        }
        return found
    }

    private mutating func check(_ name: String, _ rows: [StoredRow]) {
        var n: UInt64 = 0
        var time: UInt64 = 0
        for (index, row) in rows.enumerated() {
            if row.seq != UInt64(index + 1) {
                found.append(Violation(.notDense, "\(name) has \(row.seq) at \(index + 1)"))
            }
            guard let message = try? ChatMessage(serializedBytes: row.message) else {
                found.append(Violation(.lost, "\(name) \(row.seq) cannot be read"))
                continue
            }
            if !message.control { n += 1 }
            if row.n != n { found.append(Violation(.unread, "\(name) \(row.seq) counts \(row.n), not \(n)")) }
            n = row.n
            if row.timeMs < time {
                found.append(Violation(.outOfOrder, "\(name) \(row.seq) is older than the one before"))
            }
            time = row.timeMs
            if row.lost {
                found.append(Violation(.lost, "\(name) \(row.seq) is a placeholder"))
            } else {
                places[Self.key(name, message.sender, message.device, message.clientMsgID), default: []].append(row.seq)
            }
        }
    }

    private mutating func check(_ lane: ScriptedClients.Lane, _ known: inout Set<String>) {
        let name = FakeRecent.name(lane.device.app, lane.device.conversation)
        if !lane.isSettled { found.append(Violation(.stuck, "\(lane.device.device) still waits for answers")) }
        var last: UInt64 = 0
        for (index, sent) in lane.sent.enumerated() {
            let key = Self.key(name, lane.device.user, lane.device.device, sent.item.clientMsgID)
            known.insert(key)
            let seqs = places[key] ?? []
            let what = "message \(index) of \(lane.device.device) in \(name)"
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

    private static func key(_ conversation: String, _ sender: String, _ device: String, _ id: Data) -> String {
        "\(conversation) \(sender) \(device) \(id.map { String($0, radix: 16) }.joined(separator: "."))"
    }
}
