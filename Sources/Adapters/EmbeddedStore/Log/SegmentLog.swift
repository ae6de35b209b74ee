import Foundation
import Ports
import Wire

/// A log in segment files: one journal for all partitions, so that one fdatasync covers a batch of every partition.
///
/// Isolation: the lane of its machine.
public final class SegmentLog: MessageLogStore, @unchecked Sendable {
    // @unchecked: confined to the lane of the machine in front of it; the simulator has one thread.
    let home: LogFolder
    let config: EmbeddedConfig
    let meta: LogMeta
    private let lock: any AnyObject & Sendable
    private let wallMS: @Sendable () -> UInt64
    var sealed: [Segment]
    var active: Segment
    private var activeFile: any OpenFile
    var activeIndex: SparseIndex
    var tail: TailCache
    private var positions: GroupPositions
    /// Set when the disk failed in a way after which nothing it says can be trusted; only opening again helps.
    private var broken: Failure?
    /// Rotates whose records come first when not all fit.
    var readTurn = 0
    let reader: SegmentReader

    public var partitions: UInt32 { meta.partitions }
    public var incarnation: UInt64 { meta.incarnation }

    /// Opens the log in a folder, or makes one with `incarnation`. Scans only the last segment; cuts a torn tail off
    /// (records that were never made durable, hence never acknowledged).
    ///
    /// - Parameter wallMS: Unix milliseconds, for the age of segments.
    /// - Throws: `corrupt` when something is damaged that was durable, `mismatch` when the number of partitions is
    ///   another one, `newerVersion`, `full`, `readOnly`, `locked`.
    public static func open(
        folder: String, files: any FileLayer, config: EmbeddedConfig, incarnation: UInt64,
        wallMS: @escaping @Sendable () -> UInt64
    ) throws(StoreOpenError) -> SegmentLog {
        let home = LogFolder(files: files, path: folder)
        let lock = try LogOpener.plainly { () throws(FileError) in
            try files.makeFolder(folder)
            let lock = try files.lock(home.full("lock"))
            for name in try files.list(folder) where name.hasSuffix(".tmp") { try files.remove(home.full(name)) }
            return lock
        }
        var opener = try LogOpener(home: home, config: config, incarnation: incarnation, nowMS: wallMS())
        return SegmentLog(home: home, config: config, state: try opener.run(), lock: lock, wallMS: wallMS)
    }

    private init(
        home: LogFolder, config: EmbeddedConfig, state: LogState, lock: any AnyObject & Sendable,
        wallMS: @escaping @Sendable () -> UInt64
    ) {
        self.home = home
        self.config = config
        self.meta = state.meta
        self.lock = lock
        self.wallMS = wallMS
        self.sealed = state.sealed
        self.active = state.active
        self.activeFile = state.activeFile
        self.activeIndex = state.activeIndex
        self.tail = state.tail
        self.positions = state.positions
        self.reader = SegmentReader(home: home, meta: state.meta, limit: config.openSegments)
    }

    public func range(of partition: UInt32) -> (start: UInt64, end: UInt64) {
        let first = sealed.first ?? active
        return (first.starts[Int(partition)], active.ends[Int(partition)])
    }

    // MARK: appending

    public func append(_ entries: [LogEntry]) -> [LogAppendResult] {
        guard !entries.isEmpty else { return [] }
        if let broken { return Self.all(entries.count, broken) }
        if active.bytes >= config.segmentBytes {
            do throws(FileError) { try roll() } catch {
                return Self.all(entries.count, Failure(.storeUnavailable, "\(error)"))
            }
        }
        let (batch, offsets) = encode(entries)
        do throws(FileError) { try activeFile.append(batch) } catch { return rewind(entries.count, error) }
        do throws(FileError) { try activeFile.sync() } catch {
            return giveUp(entries.count, error)
        }
        return accept(entries, offsets, batch.count)
    }

    /// The batch as one run of bytes, and the offset of each entry.
    private func encode(_ entries: [LogEntry]) -> ([UInt8], [UInt64]) {
        let total = entries.reduce(0) { $0 + LogRecordFrame.bytes($1) }
        let seed = SegmentFormat.seed(meta.incarnation, active.number)
        var next = active.ends
        var offsets: [UInt64] = []
        offsets.reserveCapacity(entries.count)
        let bytes = [UInt8](unsafeUninitializedCapacity: total) { buffer, filled in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            for entry in entries {
                let offset = next[Int(entry.partition)]
                next[Int(entry.partition)] += 1
                offsets.append(offset)
                let size = LogRecordFrame.bytes(entry)
                let place = UnsafeMutableRawBufferPointer(rebasing: raw[filled..<filled + size])
                LogRecordFrame.write(entry, offset: offset, batch: UInt64(active.bytes), seed: seed, to: place)
                filled += size
            }
        }
        return (bytes, offsets)
    }

    private func accept(_ entries: [LogEntry], _ offsets: [UInt64], _ bytes: Int) -> [LogAppendResult] {
        var position = active.bytes
        var results: [LogAppendResult] = []
        results.reserveCapacity(entries.count)
        for (entry, offset) in zip(entries, offsets) {
            activeIndex.note(position, active.ends, every: config.indexBlockBytes)
            position += LogRecordFrame.bytes(entry)
            active.ends[Int(entry.partition)] = offset + 1
            tail.append(entry.partition, entry.record)
            var result = LogAppendResult()
            result.offset = offset
            results.append(result)
        }
        active.bytes += bytes
        return results
    }

    /// After a failed write: takes back what may have been written, durably, so that "refused" stays true over a
    /// power cut.
    private func rewind(_ count: Int, _ error: FileError) -> [LogAppendResult] {
        do throws(FileError) {
            try activeFile.truncate(to: active.bytes)
            try activeFile.sync()
            return Self.all(count, Failure(.storeUnavailable, "\(error)"))
        } catch { return giveUp(count, error) }
    }

    /// A failed fdatasync cannot be tried again: the kernel may have dropped the pages and would answer success
    /// (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
    private func giveUp(_ count: Int, _ error: FileError) -> [LogAppendResult] {
        broken = Failure(.storeUnavailable, "\(error); the log takes nothing until it is opened again")
        var result = LogAppendResult()
        result.unknown = true
        result.failure = Failure(.outcomeUnknown, "\(error)")
        return Array(repeating: result, count: count)
    }

    private static func all(_ count: Int, _ failure: Failure) -> [LogAppendResult] {
        var result = LogAppendResult()
        result.failure = failure
        return Array(repeating: result, count: count)
    }

    /// Seals the active segment and starts the next one. Until the last step nothing has changed: it can be
    /// tried again.
    private func roll() throws(FileError) {
        active.lastMS = wallMS()
        let index = SegmentFormat.index(active, activeIndex, incarnation: meta.incarnation)
        try home.replace(SegmentFormat.indexName(active.number), with: index)
        let number = active.number + 1
        let file = try home.files.open(home.full(SegmentFormat.name(number)), create: true)
        try file.truncate(to: 0)
        let header = SegmentFormat.header(meta.incarnation, number, starts: active.ends)
        try file.append(header)
        try file.sync()
        try home.syncFolder()
        sealed.append(active)
        active = Segment(number: number, starts: active.ends, ends: active.ends, bytes: header.count, lastMS: wallMS())
        activeFile = file
        activeIndex = SparseIndex(partitions: Int(partitions))
    }

    // MARK: positions and retention

    public func committed(_ group: String) -> [UInt32: UInt64] { positions.committed(group) }

    public func commit(_ group: String, _ moved: [LogPosition]) {
        for position in moved where position.partition < partitions {
            positions.commit(group, position.partition, position.offset)
        }
    }

    public func saveCommitted() throws(Failure) {
        guard positions.dirty else { return }
        do throws(FileError) {
            try home.replace(GroupPositions.fileName, with: positions.bytes(meta.incarnation))
        } catch { throw Failure(.storeUnavailable, "\(error)") }
        positions.saved()
    }

    public func dropExpired(nowMS: UInt64) throws(Failure) -> Int {
        var dropped = 0
        while let oldest = sealed.first, oldest.lastMS + config.retentionMS < nowMS, isConsumed(oldest) {
            do throws(FileError) {
                // One after the other, each durable before the next: a gap would look like damage.
                try home.files.remove(home.full(SegmentFormat.name(oldest.number)))
                try home.syncFolder()
                sealed.removeFirst()
                reader.forget(oldest.number)
                dropped += 1
                try home.files.remove(home.full(SegmentFormat.indexName(oldest.number)))
            } catch {
                if error.reason != .notFound { throw Failure(.storeUnavailable, "\(error)") }
            }
        }
        return dropped
    }

    private func isConsumed(_ segment: Segment) -> Bool {
        if positions.isEmpty { return true }
        return segment.ends.indices.allSatisfy { partition in
            // A group that has not committed a partition may still want the first record of it.
            segment.ends[partition] == segment.starts[partition]
                || (positions.lowest(partition).map { segment.ends[partition] <= $0 } ?? false)
        }
    }
}
