import Foundation
import Identity
import Ports
import Wire

/// Where the purge of dedup entries stands: bucket by bucket, then a rest.
struct PurgeTurn {
    /// Buckets that are still to be done in this turn, and the record time of each's newest row.
    var rest: [(bucket: UInt32, newest: UInt64)] = []
    /// When the next turn may begin.
    var nextMS: UInt64 = 0
    static let everyMS: UInt64 = 3600 * 1000
    /// How far ahead of a record's time its id may be, and a little: entries are in the order of their ids' times.
    static let aheadMS: UInt64 = 10 * 60 * 1000

    /// The first key whose id is younger than that.
    static func key(ofMS time: UInt64) -> Data {
        withUnsafeBytes(of: (time << 16).bigEndian) { Data($0) }
    }
}

extension MySQLRecentStore {
    /// Deletes a part of what left the window, at the old end of one bucket's entries.
    public func purgeDedup(limit: Int, nowMS: UInt64) throws(Failure) -> Bool {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                try self.purgeStep(limit, nowMS, connection)
            }
        } catch { throw error.failure }
    }

    private func purgeStep(_ limit: Int, _ nowMS: UInt64, _ connection: MySQLConnection) throws(MySQLError) -> Bool {
        if purge.rest.isEmpty {
            guard nowMS >= purge.nextMS else { return false }
            purge.nextMS = nowMS + PurgeTurn.everyMS
            var found: [(bucket: UInt32, newest: UInt64)] = []
            try connection.query("SELECT bucket, time FROM buckets WHERE state = 0 ORDER BY bucket DESC") { row in
                found.append((UInt32(clamping: row.uint(0)), row.uint(1)))
            }
            purge.rest = found
        }
        guard let next = purge.rest.last else { return false }
        // An entry's age is by the newest record of its own bucket: a bucket that lags keeps its window. And one record
        // with a time from the future must not end the window of all others.
        let newest = min(next.newest, nowMS)
        var deleted = 0
        if newest > MessageID.dedupWindowMS {
            let floor = newest - MessageID.dedupWindowMS
            var values = MySQLValues(UInt64(next.bucket))
            values.add(PurgeTurn.key(ofMS: floor + PurgeTurn.aheadMS))
            values.add(floor)
            values.add(UInt64(limit))
            deleted = try connection.execute(
                "DELETE FROM dedup WHERE bucket = ? AND dkey < ? AND time < ? ORDER BY dkey LIMIT ?", values)
        }
        if deleted < limit { purge.rest.removeLast() }
        return !purge.rest.isEmpty
    }
}
