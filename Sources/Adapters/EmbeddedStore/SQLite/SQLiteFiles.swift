internal import CSQLite
import Foundation
import Ports
import Synchronization

/// SQLite's way to its files through a `FileLayer` (a VFS, https://sqlite.org/vfs.html), so that a simulated disk sees
/// every byte of a database and every sync. It has no shared memory: a connection that holds its file exclusively
/// before it first uses the write-ahead log keeps the log's index in its own memory (https://sqlite.org/wal.html,
/// section 6).
///
/// The promises that it makes to SQLite are those of SQLite's own layer for Linux: the same sector size, the same
/// device characteristics, and the folder synced with the first sync of a new journal.
///
/// Isolation: one connection's, on its lane; released after the connection is closed.
final class SQLiteFiles {
    /// What SQLite knows it by; unique in the process.
    let name: String
    private let layer: LayerBox
    private let vfs: UnsafeMutablePointer<sqlite3_vfs>
    private let nameBytes: UnsafeMutablePointer<CChar>

    private static let made = Atomic<UInt64>(0)
    private static let longestPath: Int32 = 1024

    init(_ files: any FileLayer) {
        name = "martlet-\(Self.made.add(1, ordering: .relaxed).newValue)"
        layer = LayerBox(files)
        nameBytes = strdup(name)
        vfs = .allocate(capacity: 1)
        vfs.initialize(to: sqlite3_vfs())
        vfs.pointee.iVersion = 1
        vfs.pointee.szOsFile = Int32(MemoryLayout<martlet_sqlite_file>.size)
        vfs.pointee.mxPathname = Self.longestPath
        vfs.pointee.zName = UnsafePointer(nameBytes)
        // Unretained: `layer` lives as long as this object, which unregisters the VFS before it goes.
        vfs.pointee.pAppData = Unmanaged.passUnretained(layer).toOpaque()
        vfs.pointee.xOpen = { SQLiteFiles.open($0, $1, $2, $3, $4) }
        vfs.pointee.xDelete = { SQLiteFiles.delete($0, $1, $2) }
        vfs.pointee.xAccess = { SQLiteFiles.access($0, $1, $2, $3) }
        vfs.pointee.xFullPathname = { SQLiteFiles.fullPath($1, $2, $3) }
        // Time, waiting and randomness are not files: SQLite's own.
        vfs.pointee.xRandomness = { SQLiteFiles.own?.pointee.xRandomness?(SQLiteFiles.own, $1, $2) ?? 0 }
        vfs.pointee.xSleep = { SQLiteFiles.own?.pointee.xSleep?(SQLiteFiles.own, $1) ?? 0 }
        vfs.pointee.xCurrentTime = { SQLiteFiles.own?.pointee.xCurrentTime?(SQLiteFiles.own, $1) ?? SQLITE_ERROR }
        vfs.pointee.xGetLastError = { _, _, _ in 0 }
        sqlite3_vfs_register(vfs, 0)
    }

    deinit {
        sqlite3_vfs_unregister(vfs)
        vfs.deinitialize(count: 1)
        vfs.deallocate()
        free(nameBytes)
    }

    private static var own: UnsafeMutablePointer<sqlite3_vfs>? { sqlite3_vfs_find("unix") }

    private static func layer(_ vfs: UnsafeMutablePointer<sqlite3_vfs>?) -> (any FileLayer)? {
        guard let data = vfs?.pointee.pAppData else { return nil }
        return Unmanaged<LayerBox>.fromOpaque(data).takeUnretainedValue().files
    }

    // MARK: names

    private static func open(
        _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ name: UnsafePointer<CChar>?,
        _ raw: UnsafeMutablePointer<sqlite3_file>?, _ flags: Int32, _ outFlags: UnsafeMutablePointer<Int32>?
    ) -> Int32 {
        // Without methods SQLite does not close what could not be opened.
        raw?.pointee.pMethods = nil
        // A file without a name is temporary; those are in memory (PRAGMA temp_store).
        guard let files = layer(vfs), let raw, let name else { return SQLITE_CANTOPEN }
        let path = String(cString: name)
        do throws(FileError) {
            let file = SQLiteFile(files, path, try openOrMake(files, path, flags))
            file.isNewJournal = file.isNewJournal && flags & Code.journals != 0
            file.isDeletedOnClose = flags & SQLITE_OPEN_DELETEONCLOSE != 0
            raw.withMemoryRebound(to: martlet_sqlite_file.self, capacity: 1) {
                $0.pointee.object = Unmanaged.passRetained(file).toOpaque()
            }
            raw.pointee.pMethods = SQLiteFile.methods
            outFlags?.pointee = flags
            return SQLITE_OK
        } catch { return Code.of(error, SQLITE_CANTOPEN) }
    }

    /// The file, and whether it was made now.
    private static func openOrMake(
        _ files: any FileLayer, _ path: String, _ flags: Int32
    ) throws(FileError) -> (file: any OpenFile, isNew: Bool) {
        do throws(FileError) {
            return (try files.open(path, create: false), false)
        } catch {
            guard error.reason == .notFound, flags & SQLITE_OPEN_CREATE != 0 else { throw error }
        }
        return (try files.open(path, create: true), true)
    }

    private static func delete(
        _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ name: UnsafePointer<CChar>?, _ syncsFolder: Int32
    ) -> Int32 {
        guard let files = layer(vfs), let name else { return SQLITE_MISUSE }
        let path = String(cString: name)
        do throws(FileError) {
            try files.remove(path)
            if syncsFolder != 0 { try files.syncFolder(SQLiteFile.folder(of: path)) }
            return SQLITE_OK
        } catch { return error.reason == .notFound ? Code.deleteNothing : Code.of(error, Code.deleteError) }
    }

    private static func access(
        _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ name: UnsafePointer<CChar>?, _ flags: Int32,
        _ answer: UnsafeMutablePointer<Int32>?
    ) -> Int32 {
        guard let files = layer(vfs), let name else { return SQLITE_MISUSE }
        do throws(FileError) {
            // An empty file counts as absent, as in SQLite's own layer: a journal without a word is none.
            let size = try files.open(String(cString: name), create: false).size()
            answer?.pointee = flags != SQLITE_ACCESS_EXISTS || size > 0 ? 1 : 0
            return SQLITE_OK
        } catch {
            answer?.pointee = 0
            return error.reason == .notFound ? SQLITE_OK : Code.of(error, Code.accessError)
        }
    }

    private static func fullPath(
        _ name: UnsafePointer<CChar>?, _ room: Int32, _ out: UnsafeMutablePointer<CChar>?
    ) -> Int32 {
        guard let name, let out, strlen(name) < Int(room) else { return SQLITE_CANTOPEN }
        strcpy(out, name)
        return SQLITE_OK
    }
}

/// A layer where C can point at it.
private final class LayerBox {
    let files: any FileLayer
    init(_ files: any FileLayer) { self.files = files }
}

/// SQLite's numbers that are macros of macros, which Swift does not import (https://sqlite.org/rescode.html).
private enum Code {
    static let readError = SQLITE_IOERR | 1 << 8
    static let shortRead = SQLITE_IOERR | 2 << 8
    static let writeError = SQLITE_IOERR | 3 << 8
    static let syncError = SQLITE_IOERR | 4 << 8
    static let truncateError = SQLITE_IOERR | 6 << 8
    static let sizeError = SQLITE_IOERR | 7 << 8
    static let deleteError = SQLITE_IOERR | 10 << 8
    static let accessError = SQLITE_IOERR | 13 << 8
    static let lockError = SQLITE_IOERR | 15 << 8
    static let deleteNothing = SQLITE_IOERR | 23 << 8
    /// Files whose names must be durable before SQLite relies on them.
    static let journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL

    static func of(_ error: FileError, _ otherwise: Int32) -> Int32 {
        switch error.reason {
        case .full: SQLITE_FULL
        case .readOnly: SQLITE_READONLY
        case .locked: SQLITE_BUSY
        case .notFound, .other: otherwise
        }
    }
}

/// An open file as SQLite sees it.
private final class SQLiteFile {
    private let files: any FileLayer
    private let path: String
    private let file: any OpenFile
    private var lock: (any AnyObject & Sendable)?
    private var lockLevel = SQLITE_LOCK_NONE
    /// Its name is not durable yet, and has to be once its bytes are.
    var isNewJournal: Bool
    var isDeletedOnClose = false

    init(_ files: any FileLayer, _ path: String, _ opened: (file: any OpenFile, isNew: Bool)) {
        self.files = files
        self.path = path
        file = opened.file
        isNewJournal = opened.isNew
    }

    /// SQLite's own layer for Linux says the same of an ordinary file system.
    private static let sectorBytes: Int32 = 4096
    private static let characteristics = SQLITE_IOCAP_POWERSAFE_OVERWRITE

    /// Version 1: no shared memory, no mapped pages.
    nonisolated(unsafe) static let methods: UnsafePointer<sqlite3_io_methods> = {
        // Never written again, and C keeps pointing at it for the life of the process.
        let table = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        table.initialize(to: sqlite3_io_methods())
        table.pointee.iVersion = 1
        table.pointee.xClose = { SQLiteFile.close($0) }
        table.pointee.xRead = { SQLiteFile.of($0)?.read($1, Int($2), Int($3)) ?? SQLITE_MISUSE }
        table.pointee.xWrite = { SQLiteFile.of($0)?.write($1, Int($2), Int($3)) ?? SQLITE_MISUSE }
        table.pointee.xTruncate = { SQLiteFile.of($0)?.truncate(Int($1)) ?? SQLITE_MISUSE }
        table.pointee.xSync = { raw, _ in SQLiteFile.of(raw)?.sync() ?? SQLITE_MISUSE }
        table.pointee.xFileSize = { SQLiteFile.of($0)?.size($1) ?? SQLITE_MISUSE }
        table.pointee.xLock = { SQLiteFile.of($0)?.take($1) ?? SQLITE_MISUSE }
        table.pointee.xUnlock = { SQLiteFile.of($0)?.release($1) ?? SQLITE_MISUSE }
        table.pointee.xCheckReservedLock = { SQLiteFile.of($0)?.isReserved($1) ?? SQLITE_MISUSE }
        table.pointee.xFileControl = { _, _, _ in SQLITE_NOTFOUND }
        table.pointee.xSectorSize = { _ in sectorBytes }
        table.pointee.xDeviceCharacteristics = { _ in characteristics }
        return UnsafePointer(table)
    }()

    private static func object(_ raw: UnsafeMutablePointer<sqlite3_file>?) -> Unmanaged<SQLiteFile>? {
        raw?.withMemoryRebound(to: martlet_sqlite_file.self, capacity: 1) { $0.pointee.object }
            .map { Unmanaged.fromOpaque($0) }
    }

    private static func of(_ raw: UnsafeMutablePointer<sqlite3_file>?) -> SQLiteFile? {
        object(raw)?.takeUnretainedValue()
    }

    static func folder(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }

    private static func attempt(_ otherwise: Int32, _ work: () throws(FileError) -> Void) -> Int32 {
        do throws(FileError) {
            try work()
            return SQLITE_OK
        } catch { return Code.of(error, otherwise) }
    }

    private static func close(_ raw: UnsafeMutablePointer<sqlite3_file>?) -> Int32 {
        guard let owned = object(raw) else { return SQLITE_OK }
        let file = owned.takeRetainedValue()
        guard file.isDeletedOnClose else { return SQLITE_OK }
        return attempt(Code.deleteError) { () throws(FileError) in try file.files.remove(file.path) }
    }

    private func read(_ out: UnsafeMutableRawPointer?, _ count: Int, _ position: Int) -> Int32 {
        guard let out else { return SQLITE_MISUSE }
        do throws(FileError) {
            let bytes = try file.read(at: position, count: count)
            bytes.withUnsafeBytes { if let base = $0.baseAddress { out.copyMemory(from: base, byteCount: $0.count) } }
            if bytes.count == count { return SQLITE_OK }
            // SQLite wants zeros behind the end of the file.
            (out + bytes.count).initializeMemory(as: UInt8.self, repeating: 0, count: count - bytes.count)
            return Code.shortRead
        } catch { return Code.of(error, Code.readError) }
    }

    private func write(_ bytes: UnsafeRawPointer?, _ count: Int, _ position: Int) -> Int32 {
        Self.attempt(Code.writeError) { () throws(FileError) in
            try file.write(UnsafeRawBufferPointer(start: bytes, count: count), at: position)
        }
    }

    private func truncate(_ size: Int) -> Int32 {
        Self.attempt(Code.truncateError) { () throws(FileError) in try file.truncate(to: size) }
    }

    private func sync() -> Int32 {
        Self.attempt(Code.syncError) { () throws(FileError) in
            try file.sync()
            guard isNewJournal else { return }
            try files.syncFolder(Self.folder(of: path))
            isNewJournal = false
        }
    }

    private func size(_ answer: UnsafeMutablePointer<sqlite3_int64>?) -> Int32 {
        Self.attempt(Code.sizeError) { () throws(FileError) in answer?.pointee = Int64(try file.size()) }
    }

    // One connection a file: whoever reads holds it as firmly as whoever writes.

    private func take(_ level: Int32) -> Int32 {
        Self.attempt(Code.lockError) { () throws(FileError) in
            if lock == nil { lock = try files.lock(path + "-lock") }
            lockLevel = max(lockLevel, level)
        }
    }

    private func release(_ level: Int32) -> Int32 {
        lockLevel = level
        if level == SQLITE_LOCK_NONE { lock = nil }
        return SQLITE_OK
    }

    private func isReserved(_ answer: UnsafeMutablePointer<Int32>?) -> Int32 {
        answer?.pointee = lockLevel > SQLITE_LOCK_SHARED ? 1 : 0
        return SQLITE_OK
    }
}
