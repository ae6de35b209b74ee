/// What the embedded stores need of a file system. The real one is in EmbeddedStore; the simulated disk in TestKit
/// forgets what was not synced. Paths are the caller's, `/` between folders.
public protocol FileLayer: Sendable {
    /// Opens a file for reading and appending. With `create`, an absent file is made; without, absence is an error.
    func open(_ path: String, create: Bool) throws(FileError) -> any OpenFile
    /// Names in a folder, sorted, without `.` and `..`.
    func list(_ folder: String) throws(FileError) -> [String]
    func makeFolder(_ path: String) throws(FileError)
    /// Replaces `to` in one step. Survives a power cut only after `syncFolder`.
    func rename(_ from: String, to: String) throws(FileError)
    func remove(_ path: String) throws(FileError)
    /// Makes creations, renames and removals in the folder durable.
    func syncFolder(_ path: String) throws(FileError)
    /// Takes the folder for this process, until the answer is released; an error when another process has it.
    func lock(_ path: String) throws(FileError) -> any AnyObject & Sendable
}

/// An open file; closed when released.
///
/// Isolation: the lane of whoever opened it.
public protocol OpenFile: AnyObject, Sendable {
    /// Bytes in the file now.
    func size() throws(FileError) -> Int
    /// Appends all of the bytes, or throws; after a throw some may have been written.
    func append(_ bytes: UnsafeRawBufferPointer) throws(FileError)
    /// Puts all of the bytes at `position`, or throws; after a throw some may have been written. What lies between the
    /// end of the file and `position` becomes zeros.
    func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws(FileError)
    /// Up to `count` bytes from `position`; fewer only at the end of the file.
    func read(at position: Int, count: Int) throws(FileError) -> [UInt8]
    func truncate(to size: Int) throws(FileError)
    /// fdatasync. After a throw nobody knows what is on the disk, and a second try proves nothing.
    func sync() throws(FileError)
}

extension OpenFile {
    public func append(_ bytes: [UInt8]) throws(FileError) {
        let result: Result<Void, FileError> = bytes.withUnsafeBytes { raw in
            do throws(FileError) {
                try append(raw)
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }
}

/// Why a file operation failed.
public struct FileError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Reason: Equatable, Sendable {
        case notFound
        case full
        case readOnly
        case locked
        case other(Int32)
    }
    public let operation: String
    public let path: String
    public let reason: Reason

    public init(_ operation: String, _ path: String, _ reason: Reason) {
        self.operation = operation
        self.path = path
        self.reason = reason
    }

    public var description: String {
        let what: String
        switch reason {
        case .notFound: what = "it is not there"
        case .full: what = "the disk is full"
        case .readOnly: what = "writing is not permitted"
        case .locked: what = "another process is using it"
        case .other(let number): what = "system error \(number)"
        }
        return "cannot \(operation) \(path): \(what)"
    }
}
