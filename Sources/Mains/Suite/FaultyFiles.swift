import EmbeddedStore
import Ports

/// This machine's files without fdatasync, for `--fault no-sync`: proves that the test which looks for the syncs would
/// notice if they were left out.
struct UnsyncedFiles: FileLayer {
    private let files = RealFiles()

    func open(_ path: String, create: Bool) throws(FileError) -> any OpenFile {
        UnsyncedFile(try files.open(path, create: create))
    }
    func list(_ folder: String) throws(FileError) -> [String] { try files.list(folder) }
    func makeFolder(_ path: String) throws(FileError) { try files.makeFolder(path) }
    func rename(_ from: String, to: String) throws(FileError) { try files.rename(from, to: to) }
    func remove(_ path: String) throws(FileError) { try files.remove(path) }
    func syncFolder(_ path: String) throws(FileError) {}
    func lock(_ path: String) throws(FileError) -> any AnyObject & Sendable { try files.lock(path) }
}

private final class UnsyncedFile: OpenFile {
    private let file: any OpenFile

    init(_ file: any OpenFile) { self.file = file }

    func size() throws(FileError) -> Int { try file.size() }
    func append(_ bytes: UnsafeRawBufferPointer) throws(FileError) { try file.append(bytes) }
    func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws(FileError) {
        try file.write(bytes, at: position)
    }
    func read(at position: Int, count: Int) throws(FileError) -> [UInt8] {
        try file.read(at: position, count: count)
    }
    func truncate(to size: Int) throws(FileError) { try file.truncate(to: size) }
    func sync() throws(FileError) {}
}
