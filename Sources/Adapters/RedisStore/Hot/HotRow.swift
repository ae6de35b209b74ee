import Foundation
import Ports
import Wire

/// A row as Redis keeps it. App and conversation are in the key, the dedup key is of no use to readers.
///
///     flags u8 | seq u48 | n u48 | time_ms u48 | [target seq u48] | sender length u16 | sender | message
///
/// Big-endian; scripts read the fields in front. Part of the stored format.
enum HotRow {
    enum Flag {
        static let control: UInt8 = 1
        static let target: UInt8 = 2
        /// It recalls its target, if both have one sender.
        static let recall: UInt8 = 4
        static let lost: UInt8 = 8
    }

    /// Up to and with the time: what a head needs.
    static let headBytes = 19
    /// What six bytes hold: seqs and times of any real conversation.
    static let largest: UInt64 = (1 << 48) - 1

    /// Nil: a row that no conversation can have.
    static func encode(_ row: StoredRow) -> [UInt8]? {
        guard (1...largest).contains(row.seq), row.n <= largest, row.timeMs <= largest, row.targetSeq <= largest,
            row.sender.utf8.count <= Int(UInt16.max)
        else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(headBytes + 8 + row.sender.utf8.count + row.message.count)
        var flags: UInt8 = 0
        if row.control { flags |= Flag.control }
        if row.targetSeq > 0 { flags |= Flag.target }
        if Recall.isOne(row) { flags |= Flag.recall }
        if row.lost { flags |= Flag.lost }
        bytes.append(flags)
        add(row.seq, &bytes)
        add(row.n, &bytes)
        add(row.timeMs, &bytes)
        if row.targetSeq > 0 { add(row.targetSeq, &bytes) }
        let length = row.sender.utf8.count
        bytes.append(UInt8(length >> 8))
        bytes.append(UInt8(length & 0xff))
        bytes.append(contentsOf: row.sender.utf8)
        bytes.append(contentsOf: row.message)
        return bytes
    }

    /// Nil: these bytes are no row.
    static func decode(_ bytes: [UInt8], app: String, conversation: String) -> StoredRow? {
        guard bytes.count >= headBytes + 2 else { return nil }
        var row = StoredRow()
        row.appID = app
        row.conversation = conversation
        row.control = bytes[0] & Flag.control != 0
        row.lost = bytes[0] & Flag.lost != 0
        row.seq = number(bytes, 1)
        row.n = number(bytes, 7)
        row.timeMs = number(bytes, 13)
        var at = headBytes
        if bytes[0] & Flag.target != 0 {
            guard bytes.count >= at + 8 else { return nil }
            row.targetSeq = number(bytes, at)
            at += 6
        }
        let length = Int(bytes[at]) << 8 | Int(bytes[at + 1])
        at += 2
        guard bytes.count >= at + length,
            let sender = String(validating: bytes[at..<(at + length)], as: UTF8.self)
        else { return nil }
        row.sender = sender
        row.message = Data(bytes[(at + length)...])
        return row
    }

    static func number(_ bytes: [UInt8], _ at: Int) -> UInt64 {
        bytes[at..<(at + 6)].reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func add(_ value: UInt64, _ bytes: inout [UInt8]) {
        for shift in stride(from: UInt64(40), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
}
