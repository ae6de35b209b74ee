/// Why a store cannot be used: one sentence that says what to do.
public struct StoreOpenError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: Equatable, Sendable {
        /// Written by a later version of Martlet.
        case newerVersion
        case readOnly
        case full
        case locked
        /// Something is damaged that was durable: never repaired silently.
        case corrupt
        /// Made with other settings, for example another number of partitions.
        case mismatch
        /// Nobody answers there now; later perhaps.
        case unreachable
        case other
    }
    public let kind: Kind
    public let message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    public init(_ error: FileError) {
        switch error.reason {
        case .full: self.init(.full, "\(error); free some space and start again")
        case .readOnly: self.init(.readOnly, "\(error); make the data folder writable or choose another with --data")
        case .locked: self.init(.locked, "\(error); stop the other martlet or choose another folder with --data")
        case .notFound, .other: self.init(.other, "\(error)")
        }
    }

    /// Waiting may help, and nothing else does.
    public var isAway: Bool { kind == .unreachable }

    public var description: String { message }
}
