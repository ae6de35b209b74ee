import Foundation
import Wire

/// Watches the offset of group "msgwriter": what it passes must be in every tier, in log "push" and in the user index.
final class DeliveryWatch {
    private(set) var violations: [Violation] = []
    private unowned let stores: SuiteStores
    private var checked: [UInt32: UInt64] = [:]

    init(_ stores: SuiteStores) {
        self.stores = stores
        stores.log.onCommit = { [unowned self] group, moved in if group == "msgwriter" { see(moved) } }
    }

    private func see(_ moved: [LogPosition]) {
        for position in moved {
            let first = checked[position.partition] ?? 0
            guard position.offset > first else { continue }
            let entries = stores.log.entries(position.partition)
            for offset in first..<min(position.offset, UInt64(entries.count)) {
                check(entries[Int(offset)], position.partition)
            }
            checked[position.partition] = position.offset
        }
    }

    private func check(_ entry: Data, _ partition: UInt32) {
        guard let record = try? LogRecord(serializedBytes: entry),
            case .storable(let key) = record.verdict(partition: partition, partitions: stores.log.partitions)
        else { return }
        guard let row = stores.recent.row(record.appID, record.conversation, key: key) else {
            violations.append(Violation(.lost, "a record of \(record.conversation) was passed without a row"))
            return
        }
        let name = "\(row.conversation) \(row.seq)"
        if !stores.hot.wasGiven(row.appID, row.conversation, row.seq) {
            violations.append(Violation(.deliveredEarly, "\(name) is not in the hot store"))
        }
        if !stores.pushLog.everHeld(partition, { Self.isPush(of: row, $0) }) {
            violations.append(Violation(.deliveredEarly, "\(name) is not in log push"))
        }
        for member in record.members {
            let index = stores.users.entry(row.appID, member, row.conversation)
            if index == nil || (member == row.sender && (index?.readSeq ?? 0) < row.seq) {
                violations.append(Violation(.deliveredEarly, "\(name) is not in the index of \(member)"))
            }
        }
    }

    private static func isPush(of row: StoredRow, _ entry: Data) -> Bool {
        guard let push = try? PushRecord(serializedBytes: entry) else { return false }
        return push.appID == row.appID && push.message.conversation == row.conversation && push.message.seq == row.seq
    }
}
