import Dispatch
import Foundation
import Logging
import MySQLStore
import Ports
import RPC
import Synchronization
import Wire

/// The machine over its shards as a store that can be asked and waited for, so that it runs the suites of the others.
///
/// Isolation: none; a test has one thread.
final class DrivenRecent: RecentStore, @unchecked Sendable {
    // @unchecked: a test has one thread.
    private var machine: MySQLRecentMachine
    let shards: MySQLShards
    private var next: UInt64 = 1

    init(_ shards: MySQLShards) {
        self.shards = shards
        machine = shards.machine()
    }

    var now: Instant { SystemClock.now() }

    func ask(_ payload: Payload) -> CallResult {
        let id = CallID(next)
        next += 1
        var actions = machine.on(.call(id, payload, deadline: now.micros + 10_000_000), now: now)
        actions += machine.on(.flush, now: now)
        let box = Mutex<[ShardAnswer]>([])
        let came = DispatchSemaphore(value: 0)
        var open = 0
        var result: CallResult?
        while true {
            while !actions.isEmpty {
                switch actions.removeFirst() {
                case .reply(id, let answer): result = .answered(answer)
                case .refuse(id, let failure): result = .refused(failure)
                case .output(let job):
                    open += 1
                    shards.perform(job) { answer in
                        box.withLock { $0.append(answer) }
                        came.signal()
                    }
                case .timer(let timer, let afterMS) where afterMS <= 200:
                    usleep(afterMS * 1000)
                    actions += machine.on(.timer(timer), now: now)
                default: break
                }
            }
            // What it wants beside the answer, such as a newer map, is done first: nobody comes back for it.
            guard open > 0 else {
                return result ?? .unknown(Failure(.internalError, "the machine did not answer"))
            }
            came.wait()
            open -= 1
            let answer = box.withLock { $0.removeFirst() }
            actions += machine.on(.input(answer), now: now)
            actions += machine.on(.flush, now: now)
        }
    }

    func claim(_ claims: [BucketClaim]) -> [BucketClaimResult] {
        var request = BucketClaims()
        request.claims = claims
        guard case .answered(.bucketClaimed(let answer)) = ask(.bucketClaims(request)) else { return [] }
        return answer.results
    }

    func lookup(_ request: WriterLookup) -> WriterFound {
        guard case .answered(.writerFound(let found)) = ask(.writerLookup(request)) else { return WriterFound() }
        return found
    }

    func commit(_ buckets: [BucketCommit]) -> [BucketCommitResult] {
        var request = StoreCommit()
        request.buckets = buckets
        guard case .answered(.storeCommitted(let answer)) = ask(.storeCommit(request)) else { return [] }
        return answer.results
    }

    func rows(_ queries: [RowsQuery]) -> [RowsPage] {
        var request = ReadRows()
        request.queries = queries
        guard case .answered(.rowsRead(let answer)) = ask(.readRows(request)) else { return [] }
        return answer.pages
    }

    func heads(_ queries: [HeadQuery], since marks: Data) -> HeadsRead {
        var request = ReadHeads()
        request.queries = queries
        request.shardMarks = marks
        guard case .answered(.headsRead(let answer)) = ask(.readHeads(request)) else { return HeadsRead() }
        return answer
    }

    var unflushedRowCount: Int { 0 }
    func flush(rows: Int) throws(Failure) {}
    func purgeDedup(limit: Int, nowMS: UInt64) throws(Failure) -> Bool { false }
    func deadLetters(limit: Int) throws(Failure) -> [DeadLetter] {
        try MySQLRecentStore(shards.config.addresses[0], shards.config).deadLetters(limit: limit)
    }
}
