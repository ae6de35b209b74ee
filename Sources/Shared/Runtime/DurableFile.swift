import Foundation

/// Small files that must be whole after a power cut: old or new, never empty and never half.
public enum DurableFile {
    /// Puts `bytes` at `path` in one step: a file beside it, fdatasync, rename, fsync of the folder.
    ///
    /// - Parameter mode: who may read it, from the first byte on.
    /// - Returns: nil, or why it could not be done; then whatever was there still is.
    public static func write(_ bytes: some Sequence<UInt8>, to path: String, mode: mode_t = 0o644) -> String? {
        let fresh = path + ".new"
        // A crash may have left one, with another mode.
        unlink(fresh)
        let file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard file >= 0 else { return reason() }
        let failed = fill(file, Array(bytes))
        close(file)
        if let failed {
            unlink(fresh)
            return failed
        }
        guard rename(fresh, path) == 0 else {
            defer { unlink(fresh) }
            return reason()
        }
        return syncFolder(of: path)
    }

    /// Makes names in the folder of `path` durable.
    ///
    /// - Returns: nil, or why it could not be done.
    public static func syncFolder(of path: String) -> String? {
        let folder = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { return reason() }
        defer { close(folder) }
        return fsync(folder) == 0 ? nil : reason()
    }

    private static func fill(_ file: Int32, _ bytes: [UInt8]) -> String? {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Foundation.write(file, $0.baseAddress.map { $0 + done }, bytes.count - done)
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return reason() }
            done += count
        }
        return fdatasync(file) == 0 ? nil : reason()
    }

    private static func reason() -> String { String(cString: strerror(errno)) }
}
