internal import CSQLite
import Foundation
import Ports
import Wire

/// What SQLite said, in its own number and words.
struct SQLiteError: Error, Equatable {
    let code: Int32
    let message: String

    /// For the caller of a port: the same call may succeed later.
    var failure: Failure { Failure(.storeUnavailable, "the database says: \(message)") }

    /// For whoever starts the suite.
    func opening(_ path: String) -> StoreOpenError {
        switch code & 0xff {
        case SQLITE_FULL:
            StoreOpenError(.full, "the disk with \(path) is full; free some space and start again")
        case SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM, SQLITE_AUTH:
            StoreOpenError(
                .readOnly,
                "cannot write \(path) (\(message)); make the data folder writable or choose another with --data")
        case SQLITE_BUSY, SQLITE_LOCKED:
            StoreOpenError(.locked, "another process is using \(path); stop it or choose another folder with --data")
        case SQLITE_CORRUPT, SQLITE_NOTADB:
            StoreOpenError(.corrupt, "\(path) is damaged (\(message)); restore it from a copy")
        default: StoreOpenError(.other, "cannot open \(path): \(message)")
        }
    }
}

/// One connection to one database file; the only one, so nothing here waits for locks.
///
/// Isolation: confined to the lane of its store, but for a checkpoint that runs aside.
final class SQLiteDatabase {
    private let handle: OpaquePointer
    private let files: SQLiteFiles?
    private let durability: Durability
    private var checkpointer: SQLiteCheckpointer?
    private var statements: [ObjectIdentifier: Statement] = [:]

    enum Durability: String {
        /// Nothing is lost by kill -9; a power cut may take the last transactions, which the log brings back.
        case normal = "NORMAL"
        /// Every transaction is on the disk when it ends.
        case full = "FULL"
    }

    /// 64 MiB: pages that many commits touch are copied back once. Measured: a fifth less CPU than with 16 MiB.
    static let checkpointPages = 16_000

    /// Opens or makes the file. `":memory:"` makes a database that lives as long as this object.
    ///
    /// - Parameters:
    ///   - files: where the file is; nil for this machine's file system, through SQLite's own layer.
    ///   - checkpointPages: pages in the write-ahead log after which they are copied into the file.
    ///   - checkpointsAside: copied on another thread. Only for this machine's file system: another layer is the
    ///     simulator's, which has one thread.
    init(
        _ path: String, durability: Durability, cacheBytes: Int, files layer: (any FileLayer)? = nil,
        checkpointPages: Int = SQLiteDatabase.checkpointPages, checkpointsAside: Bool = false
    ) throws(SQLiteError) {
        var opened: OpaquePointer?
        let aside = checkpointsAside && layer == nil
        let flags =
            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | (aside ? SQLITE_OPEN_FULLMUTEX : SQLITE_OPEN_NOMUTEX)
        files = layer.map(SQLiteFiles.init)
        self.durability = durability
        let code = sqlite3_open_v2(path, &opened, flags, files?.name)
        guard let opened else { throw SQLiteError(code: code, message: "out of memory") }
        handle = opened
        guard code == SQLITE_OK else { throw error(code) }
        sqlite3_extended_result_codes(handle, 1)
        // Held from the first access on: another process is told at once, and the WAL index stays in memory.
        try run("PRAGMA locking_mode=EXCLUSIVE")
        try run("PRAGMA journal_mode=WAL")
        try run("PRAGMA synchronous=\(durability.rawValue)")
        try run("PRAGMA cache_size=-\(max(1, cacheBytes / 1024))")
        try run("PRAGMA temp_store=MEMORY")
        try run("PRAGMA wal_autocheckpoint=\(checkpointPages)")
        // Takes the place of SQLite's own hook.
        if aside { checkpointer = SQLiteCheckpointer(opened, pages: checkpointPages) }
    }

    /// Whoever uses the database now waits until the disk is done.
    var isCheckpointing: Bool { checkpointer?.isRunning ?? false }

    deinit {
        checkpointer?.stop()
        for statement in statements.values { statement.finish() }
        sqlite3_close_v2(handle)
    }

    /// Runs statements that answer nothing, or whose answer nobody wants.
    func run(_ sql: String) throws(SQLiteError) {
        let code = sqlite3_exec(handle, sql, nil, nil, nil)
        if code != SQLITE_OK { throw error(code) }
    }

    /// What the statement changes, and everything before it, is on the disk when this returns.
    func durably(_ sql: String) throws(SQLiteError) {
        try run("PRAGMA synchronous=\(Durability.full.rawValue)")
        try run(sql)
        try run("PRAGMA synchronous=\(durability.rawValue)")
    }

    func error(_ code: Int32) -> SQLiteError {
        SQLiteError(code: code, message: String(cString: sqlite3_errmsg(handle)))
    }

    /// Compiles a statement for the connection's whole life.
    func prepare(_ sql: String) throws(SQLiteError) -> Statement {
        var compiled: OpaquePointer?
        let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &compiled, nil)
        guard code == SQLITE_OK, let compiled else { throw error(code) }
        let statement = Statement(compiled, self)
        statements[ObjectIdentifier(statement)] = statement
        return statement
    }

    /// Rows that the last statement changed.
    var changes: Int { Int(sqlite3_changes(handle)) }

    var lastRow: Int64 { sqlite3_last_insert_rowid(handle) }

    /// One number that a query answers; 0 for no row.
    func number(_ sql: String) throws(SQLiteError) -> Int64 {
        let statement = try prepare(sql)
        defer {
            statements[ObjectIdentifier(statement)] = nil
            statement.finish()
        }
        return try statement.step() ? statement.int(0) : 0
    }

    /// All of it or nothing. A failing COMMIT is rolled back too.
    func transaction<T, E: Error>(
        _ work: () throws(E) -> T, failed: (SQLiteError) -> E
    ) throws(E) -> T {
        do throws(SQLiteError) { try run("BEGIN IMMEDIATE") } catch { throw failed(error) }
        do throws(E) {
            let result = try work()
            do throws(SQLiteError) { try run("COMMIT") } catch { throw failed(error) }
            return result
        } catch {
            // SQLite has rolled back by itself after some errors; then this one fails and there is nothing to do.
            sqlite3_exec(handle, "ROLLBACK", nil, nil, nil)
            throw error
        }
    }

    /// Brings a file to the current layout.
    ///
    /// - Parameter steps: SQL of each version, the first for version 1.
    /// - Throws: `newerVersion` when the file is of a version that this build does not know.
    func migrate(_ steps: [String], path: String) throws(StoreOpenError) {
        do throws(SQLiteError) {
            let version = Int(try number("PRAGMA user_version"))
            guard version <= steps.count else { throw SQLiteError(code: Self.newer, message: "\(version)") }
            try transaction(
                { () throws(SQLiteError) in
                    for step in version..<steps.count { try run(steps[step]) }
                    // Written even when nothing changed: a read-only or full disk shows now, not at the first message.
                    try run("PRAGMA user_version=\(steps.count)")
                }, failed: { $0 })
        } catch {
            guard error.code == Self.newer else { throw error.opening(path) }
            throw StoreOpenError(
                .newerVersion,
                "\(path) was written by a newer Martlet (version \(error.message), this one knows \(steps.count)); "
                    + "use that version"
            )
        }
    }

    private static let newer: Int32 = -1
}

/// A compiled statement. Bind, step until false, reset.
final class Statement {
    private let handle: OpaquePointer
    private unowned let database: SQLiteDatabase

    fileprivate init(_ handle: OpaquePointer, _ database: SQLiteDatabase) {
        self.handle = handle
        self.database = database
    }

    fileprivate func finish() { sqlite3_finalize(handle) }

    // Parameters count from 1, columns from 0, as in SQLite.

    func bind(_ index: Int32, _ value: Int64) { sqlite3_bind_int64(handle, index, value) }

    /// A number that is never above Int64.max in practice; a hostile one is cut down to it.
    func bind(_ index: Int32, _ value: UInt64) { sqlite3_bind_int64(handle, index, Int64(clamping: value)) }

    func bind(_ index: Int32, _ value: Bool) { sqlite3_bind_int64(handle, index, value ? 1 : 0) }

    func bind(_ index: Int32, _ text: String) {
        let bound: Void? = text.utf8.withContiguousStorageIfAvailable { bytes in
            bytes.withMemoryRebound(to: CChar.self) { chars in
                _ = martlet_bind_text_copy(handle, index, chars.baseAddress ?? Self.empty, Int32(chars.count))
            }
        }
        if bound == nil { _ = martlet_bind_text_copy(handle, index, text, Int32(text.utf8.count)) }
    }

    private nonisolated(unsafe) static let empty: UnsafePointer<CChar> = {
        // One zero byte for the life of the process: SQLite takes a null pointer for NULL.
        let byte = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        byte.initialize(to: 0)
        return UnsafePointer(byte)
    }()

    /// Binds without copying: the bytes must stay alive until `reset`, so bind inside `withUnsafeBytes`.
    func bind(_ index: Int32, _ bytes: UnsafeRawBufferPointer) {
        _ = martlet_bind_blob_static(
            handle, index, bytes.baseAddress ?? UnsafeRawPointer(Self.empty), Int32(bytes.count))
    }

    /// True when there is a row.
    func step() throws(SQLiteError) -> Bool {
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE:
            sqlite3_reset(handle)
            return false
        case let code:
            let error = database.error(code)
            sqlite3_reset(handle)
            throw error
        }
    }

    /// For a statement that answers at most one row.
    func reset() { sqlite3_reset(handle) }

    /// Runs it, not expecting rows.
    func run() throws(SQLiteError) {
        _ = try step()
        sqlite3_reset(handle)
    }

    func int(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }
    func uint(_ column: Int32) -> UInt64 { UInt64(clamping: sqlite3_column_int64(handle, column)) }
    func bool(_ column: Int32) -> Bool { sqlite3_column_int64(handle, column) != 0 }

    func text(_ column: Int32) -> String {
        guard let bytes = sqlite3_column_text(handle, column) else { return "" }
        let count = Int(sqlite3_column_bytes(handle, column))
        return String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    func blob(_ column: Int32) -> Data {
        guard let bytes = sqlite3_column_blob(handle, column) else { return Data() }
        return Data(bytes: bytes, count: Int(sqlite3_column_bytes(handle, column)))
    }
}
