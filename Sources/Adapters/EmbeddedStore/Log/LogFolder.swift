import Ports

/// The files of one log: names, atomic replacement, whole-file reading. Decides nothing.
struct LogFolder: Sendable {
    let files: any FileLayer
    let path: String

    func full(_ name: String) -> String { "\(path)/\(name)" }

    /// All bytes of a file; nil when it is not there.
    func contents(_ name: String) throws(FileError) -> [UInt8]? {
        do throws(FileError) {
            let file = try files.open(full(name), create: false)
            return try file.read(at: 0, count: try file.size())
        } catch {
            if error.reason == .notFound { return nil }
            throw error
        }
    }

    /// Writes a file beside its place, makes it durable and moves it there. The move itself is durable after
    /// `files.syncFolder`.
    func replace(_ name: String, with bytes: [UInt8]) throws(FileError) {
        let temporary = full(name + ".tmp")
        let file = try files.open(temporary, create: true)
        try file.truncate(to: 0)
        try file.append(bytes)
        try file.sync()
        try files.rename(temporary, to: full(name))
    }

    func syncFolder() throws(FileError) { try files.syncFolder(path) }
}
