import Testing

@testable import MartletCheck

/// A small run that went well, in memory: two users with two devices each write alternately into their conversation,
/// everybody has everything. Each test breaks one thing in it.
struct World {
    let roster = Roster(users: 2, devicesPerUser: 2, partners: 1, seed: 7, tag: "ctest")
    var history: History
    var rows: [Row] = []
    var audit: Audit
    var receipts: [DeviceReceipts]

    /// Messages 0, 2, 4 are user 0's, 1, 3, 5 user 1's, each from the first device; message i stands at seq i + 1.
    /// User 0 has read up to 3 and last wrote at 5; user 1 last wrote at 6.
    init() {
        history = History(roster: roster)
        audit = Audit(conversations: 1)
        receipts = (0..<4).map { DeviceReceipts(device: $0, connected: true, conversations: [0: SeqSet()]) }
        let writers = roster.conversations[0].members.map { [roster] in roster.devicesOf[$0][0] }
        for number in 0..<6 {
            let device = writers[number % 2]
            let made = history.offered(device: device, conversation: 0)
            history.written(made, now: UInt64(number) * 1000)
            history.accepted(made, now: UInt64(number) * 1000 + 500)
            rows.append(
                Row(
                    seq: UInt64(number) + 1, n: UInt64(number) + 1, timeMS: UInt64(100 + number), number: made,
                    device: device))
        }
        for device in roster.devices.indices { for row in rows { receive(row, device) } }
        history.askedRead(user: roster.conversations[0].members[0], conversation: 0, seq: 3)
        history.confirmedRead(user: roster.conversations[0].members[0], conversation: 0, seq: 3)
        audit.histories[0] = [rows, rows]
        audit.entries[0] = [Audit.Entry(head: 6, unread: 1), Audit.Entry(head: 6, unread: 0)]
    }

    mutating func receive(_ row: Row, _ device: Int, by channel: History.Channel = .push) {
        let isNew = receipts[device].conversations[0]?.insert(row.seq) ?? false
        history.received(
            device: device, conversation: 0, row: row, isNew: isNew, by: channel, onlineSince: 0, now: 50_000)
    }

    /// Both members' stored history.
    mutating func store(_ rows: [Row]) { audit.histories[0] = [rows, rows] }

    var verdict: Verdict {
        Judge.verdict(roster: roster, history: history, audit: audit, receipts: receipts)
    }
}
