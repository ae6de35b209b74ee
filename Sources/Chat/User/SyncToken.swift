import Foundation

/// Where a client is: what it has seen when no page is missing, and in the middle of paging what it will have seen.
/// Opaque to clients. Layout: version byte 1, then base, next base, and the lengths and bytes of marks, next marks and
/// cursor; numbers are varints (protobuf's). Version 2 has the session behind that.
struct SyncToken: Equatable, Sendable {
    /// Version of the user's index that the client has; 0: nothing.
    var base: UInt64 = 0
    /// Marks of the recent store's shards at that time.
    var marks = Data()
    /// What `base` and `marks` become after the last page: taken on the first.
    var nextBase: UInt64 = 0
    var nextMarks = Data()
    /// Last conversation looked at; "" when no page is missing.
    var cursor = ""
    /// In the middle of paging: a hash of the session that began it.
    var session: UInt64 = 0

    private static let versions: ClosedRange<UInt8> = 1...2
    /// Bounds what a stranger's token can make us hold and send on.
    static let maxBytes = 4096

    init() {}

    /// Nil when the bytes are no token of this version.
    init?(_ bytes: Data) {
        guard bytes.count <= Self.maxBytes else { return nil }
        var rest = bytes[...]
        guard let version = rest.popFirst(), Self.versions.contains(version),
            let base = Self.number(&rest), let nextBase = Self.number(&rest),
            let marks = Self.part(&rest), let nextMarks = Self.part(&rest), let cursor = Self.part(&rest),
            let session = version == 1 ? 0 : Self.number(&rest),
            rest.isEmpty, let name = String(bytes: cursor, encoding: .utf8)
        else { return nil }
        self.base = base
        self.nextBase = nextBase
        self.marks = marks
        self.nextMarks = nextMarks
        self.cursor = name
        self.session = session
    }

    var bytes: Data {
        var bytes = Data([session == 0 ? 1 : 2])
        Self.append(base, to: &bytes)
        Self.append(nextBase, to: &bytes)
        for part in [marks, nextMarks, Data(cursor.utf8)] {
            Self.append(UInt64(part.count), to: &bytes)
            bytes += part
        }
        if session != 0 { Self.append(session, to: &bytes) }
        return bytes
    }

    private static func append(_ number: UInt64, to bytes: inout Data) {
        var rest = number
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    private static func number(_ bytes: inout Data.SubSequence) -> UInt64? {
        var number: UInt64 = 0
        for shift in stride(from: UInt64(0), through: 63, by: 7) {
            guard let byte = bytes.popFirst() else { return nil }
            if shift == 63, byte > 1 { return nil }
            number |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return number }
        }
        return nil
    }

    private static func part(_ bytes: inout Data.SubSequence) -> Data? {
        guard let count = number(&bytes), count <= UInt64(bytes.count) else { return nil }
        defer { bytes = bytes.dropFirst(Int(count)) }
        return Data(bytes.prefix(Int(count)))
    }
}
