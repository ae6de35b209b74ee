import Foundation
import Ports
import Wire

/// What a look through a segment found.
struct SegmentScan {
    var ends: [UInt64]
    var sparse: SparseIndex
    /// Bytes up to which everything is whole.
    var validBytes: Int
    /// Set when what follows `validBytes` was durable once and is damaged now: the byte at which proof was found.
    var damagedBefore: Int?
}

/// Reads segments from front to back when a log is opened.
struct LogScanner {
    let partitions: Int
    let incarnation: UInt64
    let blockBytes: Int

    /// Goes through the records. `visit` gets each one.
    func scan(
        _ bytes: [UInt8], number: UInt64, starts: [UInt64], visit: (LogRecordFrame, UnsafeRawBufferPointer) -> Void
    ) -> SegmentScan {
        let seed = SegmentFormat.seed(incarnation, number)
        var found = SegmentScan(ends: starts, sparse: SparseIndex(partitions: partitions), validBytes: 0)
        bytes.withUnsafeBytes { raw in
            var position = SegmentFormat.headerBytes(partitions: partitions)
            while let frame = LogRecordFrame(raw, at: position, partitions: UInt32(partitions), seed: seed),
                frame.offset == found.ends[Int(frame.partition)]
            {
                found.sparse.note(position, found.ends, every: blockBytes)
                visit(frame, raw)
                found.ends[Int(frame.partition)] += 1
                position = frame.body.upperBound
            }
            found.validBytes = min(position, raw.count)
            if position < raw.count { found.damagedBefore = proof(raw, after: position, seed: seed) }
        }
        return found
    }

    /// A whole record of a batch that began after `position`: it was written only after everything before its batch
    /// had been made durable. Records of the batch that broke off prove nothing.
    private func proof(_ raw: UnsafeRawBufferPointer, after position: Int, seed: UInt32) -> Int? {
        var place = position
        while place + LogRecordFrame.headerBytes <= raw.count {
            if let frame = LogRecordFrame(raw, at: place, partitions: UInt32(partitions), seed: seed),
                place == position || (frame.batch > UInt64(position) && frame.batch <= UInt64(place))
            {
                return place
            }
            place += 1
        }
        return nil
    }
}
