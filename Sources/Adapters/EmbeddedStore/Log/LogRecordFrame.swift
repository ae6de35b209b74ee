import Foundation
import Ports
import Wire

/// One record in a segment: checksum, length, partition, offset, where its batch began, then the bytes. The place of
/// the batch is the proof that everything before it was durable when the record was written: a bad record with
/// a valid one of a later batch behind it is damage, not a torn tail.
struct LogRecordFrame {
    static let headerBytes = 28
    let partition: UInt32
    let offset: UInt64
    /// Byte in the segment at which the batch of this record began.
    let batch: UInt64
    /// The record's own bytes, within the segment's.
    let body: Range<Int>

    /// Bytes that an entry takes.
    static func bytes(_ entry: LogEntry) -> Int { headerBytes + entry.record.count }

    /// Writes one record at the front of `out`, which has room for it.
    static func write(
        _ entry: LogEntry, offset: UInt64, batch: UInt64, seed: UInt32, to out: UnsafeMutableRawBufferPointer
    ) {
        let count = entry.record.count
        out.storeBytes(of: UInt32(count).littleEndian, toByteOffset: 4, as: UInt32.self)
        out.storeBytes(of: entry.partition.littleEndian, toByteOffset: 8, as: UInt32.self)
        out.storeBytes(of: offset.littleEndian, toByteOffset: 12, as: UInt64.self)
        out.storeBytes(of: batch.littleEndian, toByteOffset: 20, as: UInt64.self)
        entry.record.withUnsafeBytes { record in
            UnsafeMutableRawBufferPointer(rebasing: out[headerBytes..<headerBytes + count]).copyMemory(from: record)
        }
        let crc = Crc32c.of(UnsafeRawBufferPointer(rebasing: out[4..<headerBytes + count]), seed: seed)
        out.storeBytes(of: crc.littleEndian, toByteOffset: 0, as: UInt32.self)
    }

    /// The length field at `position`; nil when the header is not all there.
    static func length(in bytes: UnsafeRawBufferPointer, at position: Int) -> Int? {
        guard position + headerBytes <= bytes.count else { return nil }
        return Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 4, as: UInt32.self)))
    }

    /// The record at `position`; nil unless it is whole and its checksum holds.
    init?(_ bytes: UnsafeRawBufferPointer, at position: Int, partitions: UInt32, seed: UInt32) {
        guard let count = Self.length(in: bytes, at: position), count <= LogLimits.recordBytes,
            position + Self.headerBytes + count <= bytes.count
        else { return nil }
        partition = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 8, as: UInt32.self))
        guard partition < partitions else { return nil }
        offset = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 12, as: UInt64.self))
        batch = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 20, as: UInt64.self))
        body = position + Self.headerBytes..<position + Self.headerBytes + count
        let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
        let part = UnsafeRawBufferPointer(rebasing: bytes[position + 4..<body.upperBound])
        guard Crc32c.of(part, seed: seed) == stored else { return nil }
    }
}
