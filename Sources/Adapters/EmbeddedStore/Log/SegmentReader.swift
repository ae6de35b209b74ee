import Foundation
import Machinery
import Ports
import Wire

/// Reads records back from segment files, for consumers that are behind the tail cache. Keeps a few files open.
///
/// Isolation: the lane of its log.
final class SegmentReader: @unchecked Sendable {
    // @unchecked: owned by a SegmentLog and confined with it.
    private struct Loaded: Sendable {
        let file: any OpenFile
        /// Nil for a segment that is still growing.
        let sparse: SparseIndex?
    }

    private let home: LogFolder
    private let meta: LogMeta
    private var loaded: BoundedCache<UInt64, Loaded>
    private static let chunkBytes = 1 << 20

    init(home: LogFolder, meta: LogMeta, limit: Int) {
        self.home = home
        self.meta = meta
        loaded = BoundedCache(limit: limit)
    }

    func forget(_ number: UInt64) { loaded[number] = nil }

    /// Where to start for a record of a sealed segment: at the last noted place, or at the first record.
    func place(_ segment: Segment, _ partition: UInt32, _ offset: UInt64) throws(Failure) -> Int {
        try load(segment, sealed: true).sparse?.place(partition, offset) ?? firstRecord
    }

    var firstRecord: Int { SegmentFormat.headerBytes(partitions: Int(meta.partitions)) }

    private func load(_ segment: Segment, sealed: Bool) throws(Failure) -> Loaded {
        if let found = loaded[segment.number], !sealed || found.sparse != nil { return found }
        do throws(FileError) {
            let file = try home.files.open(home.full(SegmentFormat.name(segment.number)), create: false)
            var sparse: SparseIndex?
            if sealed, let bytes = try home.contents(SegmentFormat.indexName(segment.number)) {
                sparse =
                    SegmentFormat.readIndex(
                        bytes, meta.incarnation, segment.number, partitions: Int(meta.partitions))?.1
            }
            let result = Loaded(file: file, sparse: sparse)
            loaded[segment.number] = result
            return result
        } catch { throw Failure(.storeUnavailable, "\(error)") }
    }

    /// Hands out records from `position` to the segment's end until `visit` says stop.
    ///
    /// - Throws: `internalError` when a record that was durable is damaged.
    func scan(
        _ segment: Segment, sealed: Bool, from position: Int, visit: (LogRecordFrame, UnsafeRawBufferPointer) -> Bool
    ) throws(Failure) {
        let file = try load(segment, sealed: sealed).file
        let seed = SegmentFormat.seed(meta.incarnation, segment.number)
        var position = position
        var wanted = Self.chunkBytes
        while position < segment.bytes {
            let chunk: [UInt8]
            do throws(FileError) {
                chunk = try file.read(at: position, count: min(wanted, segment.bytes - position))
            } catch { throw Failure(.storeUnavailable, "\(error)") }
            var goOn = true
            let used = chunk.withUnsafeBytes { raw in
                var at = 0
                while goOn, let frame = LogRecordFrame(raw, at: at, partitions: meta.partitions, seed: seed) {
                    at = frame.body.upperBound
                    goOn = visit(frame, raw)
                }
                return at
            }
            if !goOn { return }
            if used == 0 {
                // Not even one record: either the chunk is too small for it, or it is damaged.
                let most = LogRecordFrame.headerBytes + LogLimits.recordBytes
                guard wanted < most, chunk.count == wanted else {
                    throw Failure(
                        .internalError,
                        "\(home.full(SegmentFormat.name(segment.number))) is damaged at byte \(position); "
                            + "restore the log from a copy"
                    )
                }
                wanted = most
            } else {
                wanted = Self.chunkBytes
            }
            position += used
        }
    }
}
