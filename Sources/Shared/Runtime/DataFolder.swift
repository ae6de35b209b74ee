import Foundation

/// The folder that one process, `martlet up` or martlet-store, owns while it runs.
///
/// Its file `format` holds the number of the layout; its file `lock` is held with flock(2), so that the kernel frees it
/// when the owner dies, however it dies.
public final class DataFolder: Sendable {
    /// The layout that this build reads and writes.
    public static let format = 1
    public let path: String
    private let lock: Int32

    /// Creates or opens the folder.
    ///
    /// - Throws: `StartError` when it cannot be written, is in use, or was written by a newer Martlet.
    public init(path: String) throws {
        self.path = path
        let cure = "Choose another folder with --data, or make this one writable"
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw StartError("cannot create the data folder \(path)", cure: cure)
        }
        lock = open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else {
            throw StartError("cannot write to the data folder \(path): \(Self.reason(errno))", cure: cure)
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let owner = (try? String(contentsOfFile: path + "/lock", encoding: .utf8)) ?? ""
            close(lock)
            throw StartError(
                "the data folder \(path) is in use by another martlet (pid \(owner.isEmpty ? "unknown" : owner))",
                cure: "Stop that one, or choose another folder with --data")
        }
        do {
            try Self.checkFormat(path)
            try Self.checkSpace(path)
        } catch {
            close(lock)
            throw error
        }
        ftruncate(lock, 0)
        let pid = "\(getpid())"
        _ = pwrite(lock, pid, pid.utf8.count, 0)
    }

    deinit { close(lock) }

    private static func checkFormat(_ path: String) throws {
        let file = path + "/format"
        let text = (try? String(contentsOfFile: file, encoding: .utf8)) ?? ""
        // Empty: a power cut took what an older Martlet had written and not synced; such a one knew only this format.
        guard !text.isEmpty else {
            guard let problem = DurableFile.write("\(format)\n".utf8, to: file) else { return }
            throw StartError(
                "cannot write to the data folder \(path): \(problem)",
                cure: "Free some space, or choose another --data")
        }
        guard let found = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw StartError(
                "\(file) does not hold a format number",
                cure: "Restore the folder from a backup, or choose another --data")
        }
        guard found <= format else {
            throw StartError(
                "the data folder \(path) was written by a newer Martlet (format \(found); this one knows \(format))",
                cure: "Upgrade martlet, or choose another folder with --data")
        }
    }

    /// A store that meets a full disk at its first message is worse than one that says so at start.
    private static func checkSpace(_ path: String) throws {
        let probe = path + "/space-probe"
        let file = open(probe, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { unlink(probe) }
        guard file >= 0 else {
            throw StartError("cannot write to the data folder \(path): \(reason(errno))", cure: "Make it writable")
        }
        defer { close(file) }
        let block = [UInt8](repeating: 0x4d, count: leastFreeBytes)
        let written = write(file, block, block.count)
        guard written == block.count, fdatasync(file) == 0 else {
            throw StartError(
                "the disk of the data folder \(path) is full", cure: "Free at least 16 MiB, or choose another --data")
        }
    }

    /// What must fit before anything is opened.
    static let leastFreeBytes = 16 << 20

    static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
}
