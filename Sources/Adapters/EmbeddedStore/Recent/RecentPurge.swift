import Foundation
import Identity
import Ports
import Wire

extension SQLiteRecentStore {
    /// A cycle through the dedup table starts when its oldest entry is this much older than the window: each entry is
    /// then looked at about once a day, and there is no index on time to pay for with every message.
    private static let slackMS: UInt64 = 24 * 3600 * 1000

    public func purgeDedup(limit: Int, nowMS: UInt64) throws(Failure) -> Bool {
        if !purge.isRunning {
            // One record with a time from the future must not end the window of all others.
            let newest = min(purge.newest, nowMS)
            guard dedupFloor > 0, dedupFloor + MessageID.dedupWindowMS + Self.slackMS < newest else { return false }
            purge.isRunning = true
            purge.conversation = 0
            purge.key = Data()
            purge.oldest = .max
        }
        do throws(SQLiteError) { return try step(limit, nowMS) } catch { throw error.failure }
    }

    /// Looks at the next entries in key order. An entry's age is by the newest record of its own bucket: a bucket that
    /// lags keeps its window.
    private func step(_ limit: Int, _ nowMS: UInt64) throws(SQLiteError) -> Bool {
        var expired: [(Int64, Data)] = []
        var seen = 0
        let scan = statements.dedupScan
        let (from, key) = (purge.conversation, purge.key)
        let result = key.withUnsafeBytes { bytes in
            Result { () throws(SQLiteError) in
                scan.bind(1, from)
                scan.bind(2, bytes)
                scan.bind(3, Int64(limit))
                defer { scan.reset() }
                while try scan.step() {
                    seen += 1
                    purge.conversation = scan.int(0)
                    purge.key = scan.blob(1)
                    let time = scan.uint(2)
                    if time + MessageID.dedupWindowMS < min(scan.uint(3), nowMS) {
                        expired.append((purge.conversation, purge.key))
                    } else {
                        purge.oldest = min(purge.oldest, time)
                    }
                }
            }
        }
        try result.get()
        let isOver = seen < limit
        // Entries of buckets that stand still stay; they must not start the next cycle at once.
        let windowStart = min(purge.newest, nowMS) - min(min(purge.newest, nowMS), MessageID.dedupWindowMS)
        let floor = max(1, max(windowStart, purge.oldest == .max ? 0 : purge.oldest))
        if !expired.isEmpty || isOver {
            try database.transaction(
                { () throws(SQLiteError) in
                    for (conversation, key) in expired {
                        statements.dedupDrop.bind(1, conversation)
                        try Self.runWith(key, statements.dedupDrop, 2)
                    }
                    if isOver {
                        statements.metaFloor.bind(1, floor)
                        try statements.metaFloor.run()
                    }
                }, failed: { $0 })
        }
        if isOver {
            dedupFloor = floor
            purge.isRunning = false
        }
        return !isOver
    }
}
