import Foundation
import Identity
import Machinery
import MsgWriterRole
import RPC
import Testing
import Wire

/// Claims, conflicts, stores that fail, rebalancing, alarms, back-pressure.
@Suite struct MsgWriterTroubleTests {
    private func row(_ seq: UInt64) -> StoredRow {
        var row = StoredRow()
        row.appID = "app"
        row.conversation = Sample.conversation
        row.seq = seq
        row.n = seq
        row.sender = "alice"
        return row
    }

    @Test func whatIsStoredIsLookedUpAndPassedOn() throws {
        var writer = WriterScript()
        _ = try writer.start(committed: 0, stored: 2)
        let records = [try Sample.record(1), try Sample.record(2), try Sample.record(3)]
        let lookup = try writer.feed(records).call(to: .recentStore)
        guard case .writerLookup(let asked) = lookup.payload else { throw TestFailure() }
        #expect(asked.keys.count == 2 && asked.conversations.isEmpty)
        let actions = try writer.reply(lookup.token, try writer.found(lookup, hits: [0: row(1), 1: row(2)]))
        #expect(actions.hotRows.map(\.seq) == [1, 2])
        #expect(actions.touches.contains { $0.userID == "bob" })
        #expect(try writer.confirm(actions, by: .user).pushes.map(\.message.seq) == [1, 2])
        // The third record is new: its round looks it up in its turn.
        let next = try actions.call(to: .recentStore)
        let (_, commit) = try writer.commit(try writer.reply(next.token, try writer.found(next, head: 2)))
        #expect(commit.oldOffset == 2 && commit.rows.map(\.seq) == [3])
    }

    @Test func aReplayDoesNotLowerTheReadSeq() throws {
        var writer = WriterScript()
        _ = try writer.start(committed: 0, stored: 2)
        let lookup = try writer.feed([try Sample.record(2), try Sample.record(1)]).call(to: .recentStore)
        let actions = try writer.reply(lookup.token, try writer.found(lookup, hits: [0: row(9), 1: row(8)]))
        #expect(actions.touches.map(\.readSeq) == [9])
    }

    @Test func anUnavailableStoreIsTriedAgainWithTheSameRows() throws {
        var writer = WriterScript()
        _ = try writer.start()
        var (made, commit) = try writer.toCommit([try Sample.record(1)], head: 4)
        let first = commit
        for result in [WriterScript.committed([.commitUnavailable]), .unknown(Sample.failure(.deadlineExceeded))] {
            let actions = try writer.reply(made.token, result)
            #expect(actions.pushes.isEmpty && !actions.hasCall(to: .recentStore))
            let lookup = try writer.timer(try #require(actions.timers.first)).call(to: .recentStore)
            (made, commit) = try writer.commit(try writer.reply(lookup.token, try writer.found(lookup, head: 4)))
            #expect(commit == first)
        }
    }

    @Test func aFailedLookUpIsTriedAgain() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let lookup = try writer.feed([try Sample.record(1)]).call(to: .recentStore)
        var body = WriterFound()
        body.failure = Sample.failure(.storeUnavailable)
        let actions = try writer.reply(lookup.token, .answered(.writerFound(body)))
        #expect(!actions.hasCall(to: .recentStore))
        #expect(try writer.timer(try #require(actions.timers.first)).hasCall(to: .recentStore))
    }

    /// Section 3, rule 4: no row changed, so forget and claim again, but only once the log says that it is still ours.
    @Test func aConflictForgetsAndClaimsAgain() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1)])
        var actions = try writer.reply(made.token, WriterScript.committed([.commitConflict]))
        #expect(!actions.hasCall(to: .recentStore) && actions.pushes.isEmpty)
        let retry = try #require(actions.timers.first)
        #expect(!(try writer.timer(retry).hasCall(to: .recentStore)))
        // The fetch that was parked before the conflict proves nothing.
        actions = try writer.feed([])
        #expect(!actions.hasCall(to: .recentStore))
        guard case .logFetch(let check)? = writer.fetch?.payload else { throw TestFailure() }
        #expect(check.positions.isEmpty && check.waitMs == 0)
        let claim = try writer.feed([]).call(to: .recentStore)
        actions = try writer.reply(claim.token, writer.claimed(stored: 1, epoch: 5))
        // What was stored after all is replayed from the delivered position.
        #expect(writer.wanted == [0])
    }

    @Test func aLostBucketIsLeft() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1)])
        writer.generation = 2
        let parked = try #require(writer.fetch)
        writer.fetch = nil
        _ = try writer.reply(parked.token, writer.assigned(committed: 0, end: 100, buckets: []))
        let actions = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        #expect(actions.pushes.isEmpty && actions.hotRows.isEmpty && !actions.hasCall(to: .messageLog))
        #expect(writer.fetch == nil)
    }

    @Test func aKeptBucketKeepsItsClaimAndCommitsUnderTheNewGeneration() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1)], head: 1)
        let after = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        writer.generation = 2
        let parked = try #require(writer.fetch)
        let actions = try writer.reply(parked.token, writer.assigned(committed: 0, end: 100))
        #expect(!actions.hasCall(to: .recentStore) && writer.wanted == [1])
        var last: [RoleAction<Never>] = []
        for call in after.calls where call.address.role != .messageLog {
            last = try writer.reply(call.token, WriterScript.done)
        }
        let commits = last.calls.compactMap { call -> LogCommit? in
            guard case .logCommit(let body) = call.payload else { return nil }
            return body
        }
        #expect(commits.map(\.generation) == [2] && last.offsets == [1])
    }

    @Test func afterAMissedGenerationEverythingIsClaimedAgain() throws {
        var writer = WriterScript()
        _ = try writer.start()
        writer.generation = 3
        let parked = try #require(writer.fetch)
        let actions = try writer.reply(parked.token, writer.assigned(committed: 0, end: 100))
        guard case .bucketClaims = try actions.call(to: .recentStore).payload else { throw TestFailure() }
    }

    @Test func aRefusedOffsetIsCommittedAgain() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.commit(try writer.feed(bytes: [Data([0xff, 0xff])]))
        let actions = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        let offsets = try #require(
            actions.calls.first { call in
                if case .logCommit = call.payload { return true }
                return false
            })
        let refused = try writer.reply(offsets.token, .refused(Sample.failure(.retry)))
        #expect(try writer.timer(try #require(refused.timers.first)).offsets == [1])
    }

    // MARK: Alarms

    @Test func aShorterLogStopsTheBucket() throws {
        var writer = WriterScript()
        let claim = try writer.join()
        let failure = Failure(.forbidden, "the log ends before what is stored")
        let actions = try writer.reply(claim.token, writer.claimed(stored: 0, epoch: 0, failure: failure))
        #expect(actions.warnings == ["bucket stopped: the log does not fit what is stored"])
        #expect(writer.wanted == [] && !actions.hasCall(to: .recentStore))
    }

    @Test func aClaimThatFailsForNowIsTriedAgain() throws {
        var writer = WriterScript()
        let claim = try writer.join()
        let failure = Sample.failure(.storeUnavailable)
        let actions = try writer.reply(claim.token, writer.claimed(stored: 0, epoch: 0, failure: failure))
        #expect(actions.warnings == [])
        let retry = actions.timers.filter { $0 >= 1 << 32 }
        #expect(try writer.timer(try #require(retry.first)).hasCall(to: .recentStore))
    }

    @Test func aLogThatShrinksStopsTheBucket() throws {
        var writer = WriterScript()
        _ = try writer.start(committed: 50, stored: 50)
        #expect(try writer.feed([], end: 40).warnings.count == 1)
        #expect(writer.wanted == [])
    }

    @Test func anotherIncarnationStopsTheBucket() throws {
        var writer = WriterScript()
        _ = try writer.start()
        writer.incarnation = 8
        #expect(try writer.feed([try Sample.record(1)]).warnings.count == 1)
        #expect(writer.wanted == [])
    }

    @Test func aHoleInTheLogStopsTheBucket() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let actions = try writer.feed([try Sample.record(1)], from: 3)
        #expect(actions.warnings.count == 1 && !actions.hasCall(to: .recentStore))
    }

    // MARK: Limits

    @Test func fetchingStopsWhenTooMuchIsUnconfirmed() throws {
        var writer = WriterScript { $0.heldRecords = 2 }
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1), try Sample.record(2)], head: 7)
        #expect(writer.fetch == nil)
        let after = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        #expect(writer.fetch == nil)
        for call in after.calls { _ = try writer.reply(call.token, WriterScript.done) }
        #expect(writer.wanted == [2])
    }

    @Test func aSilentMemberStillShowsThatItLives() throws {
        var writer = WriterScript { $0.heldRecords = 1 }
        _ = try writer.start()
        _ = try writer.feed([try Sample.record(1)])
        #expect(writer.fetch == nil)
        _ = try writer.timer(2)
        guard case .logFetch(let body)? = writer.fetch?.payload else { throw TestFailure() }
        #expect(body.positions.isEmpty && body.waitMs == 0)
    }

    @Test func roundsGatherWhileOneCommits() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1)])
        #expect(!(try writer.feed([try Sample.record(2)], from: 1).hasCall(to: .recentStore)))
        #expect(!(try writer.feed([try Sample.record(3)], from: 2).hasCall(to: .recentStore)))
        let lookup = try writer.reply(made.token, WriterScript.committed([.commitDone])).call(to: .recentStore)
        guard case .writerLookup(let body) = lookup.payload else { throw TestFailure() }
        #expect(body.keys.count == 2)
    }

    @Test func oneSlowShardDoesNotHoldUpTheOther() throws {
        var writer = WriterScript { $0.shardOfBucket = [0, 1] }
        writer.partitions = 2
        let claim = try writer.join(buckets: [0, 1])
        var body = BucketClaimed()
        body.results = [BucketClaimResult(), BucketClaimResult()]
        _ = try writer.reply(claim.token, .answered(.bucketClaimed(body)))
        #expect(writer.wanted == [0, 0])
        // Two conversations, one in each bucket: each shard gets a look-up of its own.
        let names = (0..<20).map { "p:alice|bob\($0)" }
        var lookups: [Made] = []
        for bucket in [UInt32(0), 1] {
            let name = try #require(
                names.first { StableHash.bucket(app: "app", conversation: $0, buckets: 2) == bucket })
            var fetched = writer.header(end: 100, buckets: [0, 1])
            var entry = LogEntry()
            entry.partition = bucket
            entry.record = try Sample.record(1, conversation: name).serializedBytes()
            fetched.entries = [entry]
            let waiting = try #require(writer.fetch)
            lookups.append(
                try writer.reply(waiting.token, .answered(.logFetched(fetched))).call(to: .recentStore))
        }
        let second = try writer.reply(lookups[1].token, try writer.found(lookups[1]))
        #expect(try writer.commit(second).commit.bucket == 1)
    }
}
