internal import CSQLite
import Dispatch
import Synchronization

/// Copies the write-ahead log into the database file on a thread of its own: the copy ends in an fdatasync of the file,
/// tens of milliseconds that the lane of a store must not wait. Works on the store's own connection, which has to be
/// opened with SQLITE_OPEN_FULLMUTEX: whoever uses the connection meanwhile waits, so ask `isRunning` first.
final class SQLiteCheckpointer: @unchecked Sendable {
    // @unchecked: the handle is SQLite's, which locks it.
    private let handle: OpaquePointer
    private let pages: Int32
    private let queue = DispatchQueue(label: "martlet.sqlite.checkpoint")
    private let running = Atomic<Bool>(false)

    /// - Parameter pages: in the log, after which it is copied.
    init(_ handle: OpaquePointer, pages: Int) {
        self.handle = handle
        self.pages = Int32(clamping: pages)
        let context = Unmanaged.passUnretained(self).toOpaque()
        _ = sqlite3_wal_hook(
            handle,
            { context, _, _, pages in
                if let context {
                    Unmanaged<SQLiteCheckpointer>.fromOpaque(context).takeUnretainedValue().committed(pages)
                }
                return SQLITE_OK
            }, context)
    }

    /// The connection is locked, for as long as a disk takes.
    var isRunning: Bool { running.load(ordering: .acquiring) }

    /// Ends what is under way; nothing begins after it.
    func stop() {
        _ = sqlite3_wal_hook(handle, nil, nil)
        queue.sync {}
    }

    private func committed(_ inLog: Int32) {
        guard inLog >= pages, !running.exchange(true, ordering: .acquiringAndReleasing) else { return }
        queue.async { [self] in
            // One that fails (a full disk, a statement under way) is tried again after the next transaction.
            _ = sqlite3_wal_checkpoint_v2(handle, nil, SQLITE_CHECKPOINT_PASSIVE, nil, nil)
            running.store(false, ordering: .releasing)
        }
    }
}
