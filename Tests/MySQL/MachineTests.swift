import Foundation
import Identity
@testable import MySQLStore
import Ports
import RPC
import TestKit
import Testing
import Wire

/// The machine before the shards, event by event.
@Suite struct MachineTests {
    private typealias Contract = RecentStoreContract
    private let now = Instant(micros: 1_000_000, wallMS: 1_760_000_000_000)

    private func machine(_ shards: [Int] = [0, 1, 0, 1], writers: Int = 1, knows: Bool = true) -> MySQLRecentMachine {
        MySQLRecentMachine(
            config: MySQLRecentConfig(shards: 2, writers: writers, followsMap: true),
            map: knows ? ShardMap(version: 1, shards: shards) : nil)
    }

    private func jobs(_ actions: [RoleAction<ShardJob>]) -> [ShardJob] {
        actions.compactMap { if case .output(let job) = $0 { job } else { nil } }
    }

    private func storeCommit(_ commits: BucketCommit...) -> Payload {
        var request = StoreCommit()
        request.buckets = commits
        return .storeCommit(request)
    }

    private func result(_ bucket: UInt32, _ state: CommitState) -> BucketCommitResult {
        var result = BucketCommitResult()
        result.bucket = bucket
        result.state = state
        return result
    }

    private func states(_ actions: [RoleAction<ShardJob>]) -> [UInt64: [CommitState]] {
        var found: [UInt64: [CommitState]] = [:]
        for case .reply(let id, .storeCommitted(let answer)) in actions {
            found[id.value] = answer.results.map(\.state)
        }
        return found
    }

    @Test func commitsGatherWhileAShardIsBusyAndShardsDoNotWait() throws {
        var machine = machine()
        #expect(
            machine.on(.call(CallID(1), storeCommit(Contract.commit(0, 1, 0, 1, [])), deadline: .max), now: now) == [])
        let first = try #require(jobs(machine.on(.flush, now: now)).first)
        #expect(first.place == .writer(shard: 0, lane: 0))
        // More for the busy shard waits; the other one begins.
        _ = machine.on(.call(CallID(2), storeCommit(Contract.commit(2, 1, 0, 1, [])), deadline: .max), now: now)
        _ = machine.on(
            .call(
                CallID(3), storeCommit(Contract.commit(0, 1, 1, 2, []), Contract.commit(1, 1, 0, 1, [])), deadline: .max
            ),
            now: now)
        let second = jobs(machine.on(.flush, now: now))
        #expect(second.map(\.place) == [.writer(shard: 1, lane: 0)])
        let done = machine.on(.input(ShardAnswer(id: first.id, result: .committed([result(0, .commitDone)]))), now: now)
        #expect(states(done) == [1: [.commitDone]])
        guard case .commit(let together)? = jobs(done).first?.work else { throw Missing() }
        #expect(together.map(\.bucket) == [2, 0], "one transaction of what came meanwhile")
        let both = machine.on(
            .input(
                ShardAnswer(
                    id: jobs(done)[0].id, result: .committed([result(2, .commitConflict), result(0, .commitDone)]))),
            now: now)
        #expect(states(both) == [2: [.commitConflict]], "call 3 waits for its other bucket")
        let last = machine.on(
            .input(ShardAnswer(id: second[0].id, result: .failed(Failure(.storeUnavailable, "away")))), now: now)
        #expect(states(last) == [3: [.commitDone, .commitUnavailable]])
    }

    private struct Missing: Error {}

    @Test func whatIsTooLateIsNotBegun() {
        var machine = machine()
        _ = machine.on(.call(CallID(1), storeCommit(Contract.commit(0, 1, 0, 1, [])), deadline: now.micros), now: now)
        let actions = machine.on(.flush, now: now)
        #expect(jobs(actions).isEmpty && states(actions) == [1: [.commitUnavailable]])
    }

    @Test func withoutAMapNothingIsAsked() {
        var machine = machine(knows: false)
        let start = machine.on(.start, now: now)
        #expect(jobs(start).map(\.place) == [.map])
        let refused = machine.on(.call(CallID(1), storeCommit(), deadline: .max), now: now)
        guard case .refuse(CallID(1), let failure)? = refused.first else {
            Issue.record("\(refused)")
            return
        }
        #expect(failure.retryable)
        let map = ShardMap(version: 1, shards: [0, 1])
        _ = machine.on(.input(ShardAnswer(id: jobs(start)[0].id, result: .map(map))), now: now)
        _ = machine.on(.call(CallID(2), storeCommit(Contract.commit(1, 1, 0, 1, [])), deadline: .max), now: now)
        #expect(jobs(machine.on(.flush, now: now)).map(\.place) == [.writer(shard: 1, lane: 0)])
    }

    private func name(_ bucket: UInt32) -> String {
        (0...).lazy.map { "g:\($0)" }.first {
            StableHash.bucket(app: "demo", conversation: $0, buckets: 4) == bucket
        } ?? ""
    }

    private func page(_ failure: Failure? = nil, seq: UInt64 = 0) -> RowsPage {
        var page = RowsPage()
        page.head.seq = seq
        if let failure { page.failure = failure }
        return page
    }

    @Test func pagesGoWhereTheBucketsAreAndFollowThem() throws {
        var machine = machine()
        var request = ReadRows()
        request.queries = [0, 1, 2].map { Contract.query(name($0)) }
        let asked = jobs(machine.on(.call(CallID(1), .readRows(request), deadline: .max), now: now))
        #expect(asked.map(\.place) == [.reader(shard: 0), .reader(shard: 1)])
        #expect(
            machine.on(.input(ShardAnswer(id: asked[0].id, result: .pages([page(seq: 10), page(seq: 12)]))), now: now)
                == [])
        // The bucket has moved: the map is read, and again until it says so.
        let gone = ShardAnswer(id: asked[1].id, result: .pages([page(MySQLRecentStore.movedFailure(1))]))
        let maps = jobs(machine.on(.input(gone), now: now))
        #expect(maps.map(\.place) == [.map])
        let same = ShardMap(version: 1, shards: [0, 1, 0, 1])
        let wait = machine.on(.input(ShardAnswer(id: maps[0].id, result: .map(same))), now: now)
        guard case .timer(let timer, _)? = wait.first else { throw Missing() }
        let again = jobs(machine.on(.timer(timer), now: now))
        let news = ShardMap(version: 2, shards: [0, 0, 0, 1])
        let there = jobs(machine.on(.input(ShardAnswer(id: again[0].id, result: .map(news))), now: now))
        #expect(there.map(\.place) == [.reader(shard: 0)])
        let end = machine.on(.input(ShardAnswer(id: there[0].id, result: .pages([page(seq: 11)]))), now: now)
        guard case .reply(CallID(1), .rowsRead(let read))? = end.first else { throw Missing() }
        #expect(read.pages.map(\.head.seq) == [10, 11, 12])
    }

    @Test func headsOfSeveralShardsAreOneAnswer() throws {
        var machine = machine()
        var request = ReadHeads()
        request.queries = [1, 0, 3].map { Contract.head(name($0), "bob") }
        var old = HeadMarks()
        (old[0], old[1], old[3]) = (1, 1, 1)
        request.shardMarks = old.data
        let asked = jobs(machine.on(.call(CallID(1), .readHeads(request), deadline: .max), now: now))
        var first = HeadsRead()
        first.heads = [0].map { _ in HeadState() }
        var marks = HeadMarks()
        marks[0] = 7
        first.shardMarks = marks.data
        #expect(machine.on(.input(ShardAnswer(id: asked[0].id, result: .heads(first))), now: now) == [])
        // The other shard answers only the first of its two: the answer ends before the second.
        var second = HeadsRead()
        second.heads = [HeadState()]
        second.heads[0].seq = 5
        var more = HeadMarks()
        (more[1], more[3]) = (8, 9)
        second.shardMarks = more.data
        let end = machine.on(.input(ShardAnswer(id: asked[1].id, result: .heads(second))), now: now)
        guard case .reply(CallID(1), .headsRead(let read))? = end.first else { throw Missing() }
        #expect(read.heads.map(\.seq) == [5, 0] && !read.hasFailure)
        let all = HeadMarks(read.shardMarks)
        #expect([all[0], all[1], all[3]] == [7, 8, 9])
    }

    @Test func lookUpsOfSeveralShardsKeepTheirOrder() throws {
        var machine = machine()
        var request = WriterLookup()
        for bucket in [1, 0, 1] as [UInt32] {
            var key = DedupKey()
            key.bucket = bucket
            key.key = Data([UInt8(bucket)])
            request.keys.append(key)
        }
        let asked = jobs(machine.on(.call(CallID(1), .writerLookup(request), deadline: .max), now: now))
        #expect(asked.map(\.place) == [.reader(shard: 0), .reader(shard: 1)])
        func found(_ seqs: UInt64...) -> ShardAnswer.Result {
            var found = WriterFound()
            found.hits = seqs.map { seq in
                var row = StoredRow()
                row.seq = seq
                return row
            }
            return .found(found)
        }
        _ = machine.on(.input(ShardAnswer(id: asked[1].id, result: found(21, 22))), now: now)
        let end = machine.on(.input(ShardAnswer(id: asked[0].id, result: found(11))), now: now)
        guard case .reply(CallID(1), .writerFound(let answer))? = end.first else { throw Missing() }
        #expect(answer.hits.map(\.seq) == [21, 11, 22])
    }

    @Test func aBucketHasOneConnectionThatWritesIt() {
        var machine = machine(writers: 2)
        var commits = StoreCommit()
        commits.buckets = (0..<4).map { Contract.commit($0, 1, 0, 1, []) }
        _ = machine.on(.call(CallID(1), .storeCommit(commits), deadline: .max), now: now)
        let places = jobs(machine.on(.flush, now: now)).map(\.place)
        #expect(places == [.writer(shard: 0, lane: 0), .writer(shard: 1, lane: 1)])
    }
}
