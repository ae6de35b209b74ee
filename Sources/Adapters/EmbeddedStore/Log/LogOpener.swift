import Foundation
import Ports
import Wire

/// What an open log starts with.
struct LogState: Sendable {
    var meta: LogMeta
    var sealed: [Segment]
    var active: Segment
    var activeFile: any OpenFile
    var activeIndex: SparseIndex
    var tail: TailCache
    var positions: GroupPositions
}

/// Opens a log: meta, sealed segments by their index, the last segment by a scan. Nothing is ever repaired silently but
/// a torn tail, which holds only what was never acknowledged.
struct LogOpener {
    let home: LogFolder
    let config: EmbeddedConfig
    let nowMS: UInt64
    private var meta: LogMeta
    private var partitions: Int { Int(meta.partitions) }
    private var headerBytes: Int { SegmentFormat.headerBytes(partitions: partitions) }
    private var scanner: LogScanner {
        LogScanner(partitions: partitions, incarnation: meta.incarnation, blockBytes: config.indexBlockBytes)
    }

    /// Reads the meta file, or makes one for a new log.
    init(home: LogFolder, config: EmbeddedConfig, incarnation: UInt64, nowMS: UInt64) throws(StoreOpenError) {
        self.home = home
        self.config = config
        self.nowMS = nowMS
        if let bytes = try Self.plainly({ () throws(FileError) in try home.contents(LogMeta.fileName) }) {
            meta = try LogMeta(bytes, path: home.path)
            guard meta.partitions == config.partitions else {
                throw StoreOpenError(
                    .mismatch,
                    "\(home.path) has \(meta.partitions) partitions, not \(config.partitions); "
                        + "the number is fixed for a log's life"
                )
            }
            return
        }
        let created = LogMeta(incarnation: incarnation, partitions: config.partitions)
        meta = created
        let names = try Self.plainly { () throws(FileError) in try home.files.list(home.path) }
        if let name = names.first(where: { $0.hasSuffix(".seg") }) {
            throw StoreOpenError(
                .corrupt, "\(home.path) has \(name) but its meta file is gone; restore the log from a copy")
        }
        try Self.plainly { () throws(FileError) in
            try home.replace(LogMeta.fileName, with: created.bytes())
            try home.syncFolder()
        }
    }

    static func plainly<T>(_ work: () throws(FileError) -> T) throws(StoreOpenError) -> T {
        do throws(FileError) { return try work() } catch { throw StoreOpenError(error) }
    }

    mutating func run() throws(StoreOpenError) -> LogState {
        var numbers = try segmentNumbers()
        var sealed: [Segment] = []
        try dropTornCreation(&numbers)
        for number in numbers.dropLast() {
            let segment = try sealedSegment(number)
            if let last = sealed.last, last.ends != segment.starts { throw gap(number) }
            sealed.append(segment)
        }
        let zero = [UInt64](repeating: 0, count: partitions)
        if numbers.isEmpty {
            try Self.plainly { () throws(FileError) in
                let file = try home.files.open(home.full(SegmentFormat.name(1)), create: true)
                try file.truncate(to: 0)
                try file.append(SegmentFormat.header(meta.incarnation, 1, starts: zero))
                try file.sync()
                try home.syncFolder()
            }
            numbers = [1]
        }
        let state = try lastSegment(numbers[numbers.count - 1], sealed)
        if let lost = state.positions.beyond(state.active.ends) {
            throw StoreOpenError(
                .corrupt,
                "\(home.path) has lost records: partition \(lost.partition) ends at "
                    + "\(state.active.ends[lost.partition]), but group \(lost.group) has consumed it up to "
                    + "\(lost.offset); restore the log from a copy")
        }
        return state
    }

    /// Numbers of the segments, which must be consecutive.
    private func segmentNumbers() throws(StoreOpenError) -> [UInt64] {
        let numbers = try Self.plainly { () throws(FileError) in
            let names = try home.files.list(home.path)
            let numbers = names.compactMap { SegmentFormat.number($0, ".seg") }.sorted()
            for name in names {
                if let orphan = SegmentFormat.number(name, ".idx"), !numbers.contains(orphan) {
                    try home.files.remove(home.full(name))
                }
            }
            return numbers
        }
        for (number, next) in zip(numbers, numbers.dropFirst()) where next != number + 1 { throw gap(next) }
        return numbers
    }

    private func gap(_ number: UInt64) -> StoreOpenError {
        StoreOpenError(
            .corrupt,
            "\(home.path)/\(SegmentFormat.name(number)) does not continue the segment before it; "
                + "restore the log from a copy"
        )
    }

    private func damaged(_ number: UInt64, at byte: Int, _ why: String) -> StoreOpenError {
        StoreOpenError(
            .corrupt,
            "\(home.path)/\(SegmentFormat.name(number)) is damaged at byte \(byte): \(why); restore the log from a copy"
        )
    }

    private func contents(_ number: UInt64) throws(StoreOpenError) -> [UInt8] {
        try Self.plainly { () throws(FileError) in try home.contents(SegmentFormat.name(number)) } ?? []
    }

    /// A last segment whose header never became whole was being made when the power went: no record can be in it.
    private func dropTornCreation(_ numbers: inout [UInt64]) throws(StoreOpenError) {
        guard let last = numbers.last else { return }
        let bytes = try contents(last)
        let header = Array(bytes.prefix(headerBytes))
        if SegmentFormat.starts(header, meta.incarnation, last, partitions: partitions) != nil { return }
        let seed = SegmentFormat.seed(meta.incarnation, last)
        let holdsRecords = bytes.withUnsafeBytes { raw in
            (0..<max(0, raw.count - LogRecordFrame.headerBytes + 1)).contains {
                LogRecordFrame(raw, at: $0, partitions: meta.partitions, seed: seed) != nil
            }
        }
        if holdsRecords { throw damaged(last, at: 0, "its header is bad but records follow") }
        try Self.plainly { () throws(FileError) in
            try home.files.remove(home.full(SegmentFormat.name(last)))
            try home.syncFolder()
        }
        numbers.removeLast()
    }

    private func readIndex(_ number: UInt64) throws(StoreOpenError) -> (Segment, SparseIndex)? {
        let bytes = try Self.plainly { () throws(FileError) in try home.contents(SegmentFormat.indexName(number)) }
        return bytes.flatMap { SegmentFormat.readIndex($0, meta.incarnation, number, partitions: partitions) }
    }

    /// A sealed segment by its index; without one it is scanned, and then everything in it must be whole.
    private func sealedSegment(_ number: UInt64) throws(StoreOpenError) -> Segment {
        if let (segment, _) = try readIndex(number) {
            let size = try Self.plainly { () throws(FileError) in
                try home.files.open(home.full(SegmentFormat.name(number)), create: false).size()
            }
            guard size == segment.bytes else {
                throw damaged(number, at: min(size, segment.bytes), "its size is wrong")
            }
            return segment
        }
        let bytes = try contents(number)
        let header = Array(bytes.prefix(headerBytes))
        guard let starts = SegmentFormat.starts(header, meta.incarnation, number, partitions: partitions) else {
            throw damaged(number, at: 0, "its header is bad")
        }
        let scan = scanner.scan(bytes, number: number, starts: starts) { _, _ in }
        guard scan.validBytes == bytes.count else { throw damaged(number, at: scan.validBytes, "a record is bad") }
        let segment = Segment(number: number, starts: starts, ends: scan.ends, bytes: bytes.count, lastMS: nowMS)
        try Self.plainly { () throws(FileError) in
            let index = SegmentFormat.index(segment, scan.sparse, incarnation: meta.incarnation)
            try home.replace(SegmentFormat.indexName(number), with: index)
        }
        return segment
    }

    /// Scans the last segment, cuts its torn tail and makes the rest durable: after kill -9 some of it may be in the
    /// page cache only, and nobody may consume what a power cut could still take.
    private func lastSegment(_ number: UInt64, _ sealed: [Segment]) throws(StoreOpenError) -> LogState {
        let bytes = try contents(number)
        let header = Array(bytes.prefix(headerBytes))
        guard let starts = SegmentFormat.starts(header, meta.incarnation, number, partitions: partitions) else {
            throw damaged(number, at: 0, "its header is bad")
        }
        if let last = sealed.last, last.ends != starts { throw gap(number) }
        var tail = TailCache(starts: starts, limit: config.tailBytes)
        let scan = scanner.scan(bytes, number: number, starts: starts) { frame, raw in
            tail.append(frame.partition, Data(UnsafeRawBufferPointer(rebasing: raw[frame.body])))
        }
        if let proof = scan.damagedBefore {
            throw damaged(
                number, at: scan.validBytes, "a record is bad, and byte \(proof) proves that it was whole once")
        }
        if let (known, _) = try readIndex(number), scan.validBytes < known.bytes {
            throw damaged(number, at: scan.validBytes, "its index knows of \(known.bytes) bytes")
        }
        let file = try Self.plainly { () throws(FileError) in
            let file = try home.files.open(home.full(SegmentFormat.name(number)), create: false)
            if scan.validBytes < bytes.count { try file.truncate(to: scan.validBytes) }
            try file.sync()
            try home.syncFolder()
            return file
        }
        let segment = Segment(
            number: number, starts: starts, ends: scan.ends, bytes: scan.validBytes, lastMS: nowMS)
        return LogState(
            meta: meta, sealed: sealed, active: segment, activeFile: file, activeIndex: scan.sparse, tail: tail,
            positions: try loadPositions())
    }

    private func loadPositions() throws(StoreOpenError) -> GroupPositions {
        let bytes = try Self.plainly { () throws(FileError) in try home.contents(GroupPositions.fileName) }
        guard let bytes else { return GroupPositions(partitions: partitions) }
        guard let found = GroupPositions(bytes, incarnation: meta.incarnation, partitions: partitions) else {
            throw StoreOpenError(
                .corrupt,
                "\(home.path)/\(GroupPositions.fileName) is damaged; "
                    + "remove it and every group starts at the log's begin"
            )
        }
        return found
    }
}
