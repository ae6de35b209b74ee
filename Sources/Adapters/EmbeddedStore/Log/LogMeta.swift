import Ports

/// What a log is: written once when it is made.
struct LogMeta: Equatable, Sendable {
    static let fileName = "meta"
    static let magic: UInt32 = 0x474f_4c4d
    static let version: UInt16 = 1
    let incarnation: UInt64
    let partitions: UInt32

    func bytes() -> [UInt8] {
        var writer = SealedWriter(magic: Self.magic)
        writer.put(Self.version)
        writer.put(incarnation)
        writer.put(partitions)
        return writer.sealed()
    }

    init(incarnation: UInt64, partitions: UInt32) {
        self.incarnation = incarnation
        self.partitions = partitions
    }

    init(_ bytes: [UInt8], path: String) throws(StoreOpenError) {
        guard var reader = SealedReader(bytes, magic: Self.magic), let version: UInt16 = reader.number() else {
            throw StoreOpenError(.corrupt, "\(path)/meta is damaged; restore the log from a copy")
        }
        guard version <= Self.version else {
            throw StoreOpenError(
                .newerVersion, "\(path) was written by a newer Martlet (log format \(version)); use that version")
        }
        guard let incarnation: UInt64 = reader.number(), let partitions: UInt32 = reader.number() else {
            throw StoreOpenError(.corrupt, "\(path)/meta is damaged; restore the log from a copy")
        }
        self.init(incarnation: incarnation, partitions: partitions)
    }
}
