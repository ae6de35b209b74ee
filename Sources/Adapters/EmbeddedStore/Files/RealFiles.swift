import Foundation
import Ports

/// The file system of this machine.
public struct RealFiles: FileLayer {
    public init() {}

    public func open(_ path: String, create: Bool) throws(FileError) -> any OpenFile {
        let flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0)
        let descriptor = Foundation.open(path, flags, 0o644)
        guard descriptor >= 0 else { throw Self.failure("open", path) }
        return try RealFile(path: path, descriptor: descriptor)
    }

    public func list(_ folder: String) throws(FileError) -> [String] {
        guard let stream = opendir(folder) else { throw Self.failure("list", folder) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    public func makeFolder(_ path: String) throws(FileError) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/\(part)"
            if mkdir(made, 0o755) != 0 && errno != EEXIST { throw Self.failure("create", made) }
        }
    }

    public func rename(_ from: String, to: String) throws(FileError) {
        if Foundation.rename(from, to) != 0 { throw Self.failure("rename", from) }
    }

    public func remove(_ path: String) throws(FileError) {
        if unlink(path) != 0 { throw Self.failure("remove", path) }
    }

    public func syncFolder(_ path: String) throws(FileError) {
        let descriptor = Foundation.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure("sync", path) }
        defer { close(descriptor) }
        if fsync(descriptor) != 0 { throw Self.failure("sync", path) }
    }

    public func lock(_ path: String) throws(FileError) -> any AnyObject & Sendable {
        let descriptor = Foundation.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Self.failure("open", path) }
        let file = try RealFile(path: path, descriptor: descriptor)
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            if errno == EWOULDBLOCK { throw FileError("lock", path, .locked) }
            throw Self.failure("lock", path)
        }
        return file
    }

    /// The error that errno names.
    static func failure(_ operation: String, _ path: String) -> FileError {
        switch errno {
        case ENOENT: FileError(operation, path, .notFound)
        // EFBIG: the process may not make files any larger (ulimit -f).
        case ENOSPC, EDQUOT, EFBIG: FileError(operation, path, .full)
        case EROFS, EACCES, EPERM: FileError(operation, path, .readOnly)
        default: FileError(operation, path, .other(errno))
        }
    }
}

/// A descriptor, closed when released. Not O_APPEND: with that, Linux ignores the position of a pwrite.
private final class RealFile: OpenFile, @unchecked Sendable {
    // @unchecked: used on the lane of whoever opened it, as the protocol says.
    private let path: String
    private let descriptor: Int32
    /// Where the next append goes: only one object at a time writes to a file.
    private var end: Int

    init(path: String, descriptor: Int32) throws(FileError) {
        self.path = path
        self.descriptor = descriptor
        end = 0
        end = try size()
    }

    deinit { close(descriptor) }

    func size() throws(FileError) -> Int {
        var facts = stat()
        guard fstat(descriptor, &facts) == 0 else { throw RealFiles.failure("look at", path) }
        return Int(facts.st_size)
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(FileError) { try write(bytes, at: end) }

    func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws(FileError) {
        var rest = bytes[...]
        var place = position
        defer { end = max(end, place) }
        while !rest.isEmpty {
            let part = UnsafeRawBufferPointer(rebasing: rest)
            let count = pwrite(descriptor, part.baseAddress, part.count, off_t(place))
            if count < 0 {
                if errno == EINTR { continue }
                throw RealFiles.failure("write", path)
            }
            rest = rest.dropFirst(count)
            place += count
        }
    }

    func read(at position: Int, count: Int) throws(FileError) -> [UInt8] {
        guard count > 0 else { return [] }
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count, let base = buffer.baseAddress {
                let got = pread(descriptor, base + filled, count - filled, off_t(position + filled))
                if got < 0 && errno == EINTR { continue }
                failed = got < 0
                if got <= 0 { break }
                filled += got
            }
        }
        if failed { throw RealFiles.failure("read", path) }
        return bytes
    }

    func truncate(to size: Int) throws(FileError) {
        if ftruncate(descriptor, off_t(size)) != 0 { throw RealFiles.failure("shorten", path) }
        end = size
    }

    func sync() throws(FileError) {
        if fdatasync(descriptor) != 0 { throw RealFiles.failure("sync", path) }
    }
}
