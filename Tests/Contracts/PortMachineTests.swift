import EmbeddedStore
import Foundation
import Ports
import RPC
import TestKit
import Testing
import Wire

/// The other port machines: payloads in, payloads out, writes of a flush together.
@Suite struct PortMachineTests {
    private func users() throws -> MachineScript<UserStoreMachine<SQLiteUserStore>> {
        MachineScript(UserStoreMachine(try SQLiteUserStore(path: ":memory:")))
    }

    @Test func commitsOfAFlushAreOneTransaction() throws {
        let store = try SQLiteRecentStore(path: ":memory:")
        var script = MachineScript(RecentMachine(store))
        var claims = BucketClaims()
        claims.claims = [UInt32(1), 2].map { bucket in
            var claim = BucketClaim()
            claim.bucket = bucket
            return claim
        }
        guard case .answered(.bucketClaimed(let claimed)) = script.ask(.bucketClaims(claims)) else {
            Issue.record("no claim")
            return
        }
        #expect(claimed.results.map(\.epoch) == [1, 1])
        let marks = store.heads([], since: Data()).shardMarks
        let calls = (1...2).map { bucket in
            var commit = StoreCommit()
            commit.buckets = [
                RecentStoreContract.commit(UInt32(bucket), 1, 0, 1, [RecentStoreContract.row("g:\(bucket)", 1)])
            ]
            return script.call(.storeCommit(commit))
        }
        #expect(calls.allSatisfy { $0.actions.isEmpty })
        let actions = script.event(.flush)
        for (index, call) in calls.enumerated() {
            guard
                case .answered(.storeCommitted(let answer)) = MachineScript<RecentMachine<SQLiteRecentStore>>.answer(
                    to: call.id, in: actions)
            else {
                Issue.record("no answer")
                continue
            }
            #expect(answer.results.map(\.bucket) == [UInt32(index + 1)])
            #expect(answer.results.map(\.state) == [.commitDone])
        }
        // Marks stay below what waits for the file.
        try store.flush()
        let after = store.heads([], since: Data()).shardMarks
        #expect(try #require(after.last) == (try #require(marks.last)) + 1)
    }

    @Test func recentAnswersReads() throws {
        var script = MachineScript(RecentMachine(try SQLiteRecentStore(path: ":memory:")))
        var reads = ReadRows()
        var query = RowsQuery()
        query.conversation = "g:none"
        reads.queries = [query]
        guard case .answered(.rowsRead(let pages)) = script.ask(.readRows(reads)) else {
            Issue.record("no pages")
            return
        }
        #expect(pages.pages.count == 1)
        reads.queries = Array(repeating: query, count: RowLimits.queries + 1)
        guard case .refused(let failure) = script.ask(.readRows(reads)) else {
            Issue.record("not refused")
            return
        }
        #expect(failure.isCode(.limitExceeded))
        guard case .refused(let strange) = script.ask(.done(Done())) else {
            Issue.record("not refused")
            return
        }
        #expect(strange.isCode(.noSuchMethod))
    }

    @Test func hotTakesAndGives() throws {
        var script = MachineScript(HotMachine(MemoryHotStore(bytes: 1 << 20, rows: 200)))
        var put = HotPut()
        put.rows = [RecentStoreContract.row("g:one", 1)]
        #expect(script.ask(.hotPut(put)) == .answered(.done(Done())))
        var reads = ReadRows()
        var query = RowsQuery()
        query.appID = "demo"
        query.conversation = "g:one"
        reads.queries = [query]
        guard case .answered(.rowsRead(let pages)) = script.ask(.readRows(reads)) else {
            Issue.record("no pages")
            return
        }
        #expect(pages.pages.map { $0.rows.map(\.seq) } == [[1]])
    }

    @Test func presenceExpiresByItsTimer() throws {
        let store = MemoryPresenceStore(tokens: try SQLiteTokenEpochs(path: ":memory:"))
        var script = MachineScript(PresenceMachine(store))
        #expect(script.event(.start) == [.timer(1, afterMS: 500)])
        script.advance(ms: 10_000)
        var request = RegisterRequest()
        request.registrations = [PresenceStoreContract.registration("a", "1")]
        guard case .answered(.registerResponse(let answer)) = script.ask(.registerRequest(request)) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.results.map(\.hasFailure) == [false])
        var lookup = LookupRequest()
        lookup.users = [
            UserKey.with {
                $0.appID = "demo"
                $0.userID = "a"
            }
        ]
        func state() -> PresenceState? {
            guard case .answered(.lookupResponse(let found)) = script.ask(.lookupRequest(lookup)) else { return nil }
            return found.results.first?.state
        }
        #expect(state() == .presenceOnline)
        script.advance(ms: 6001)
        #expect(script.event(.timer(1)) == [.timer(1, afterMS: 500)])
        #expect(state() == .presenceOffline)
    }

    @Test func savesOfAFlushAreAnsweredTogether() throws {
        var script = try users()
        let calls = ["alice", "bob"].map { user in
            var save = IndexSave()
            save.changes = [UserStoreContract.change(user, "p:alice|bob"), UserStoreContract.change(user, "g:\(user)")]
            return script.call(.indexSave(save))
        }
        var put = UsersPut()
        var user = UserPut()
        user.appID = "demo"
        user.profile.userID = "alice"
        put.users = [user]
        let users = script.call(.usersPut(put))
        #expect(users.actions.isEmpty && calls.allSatisfy { $0.actions.isEmpty })
        let actions = script.event(.flush)
        #expect(actions.count == 3)
        for (call, name) in zip(calls, ["g:alice", "g:bob"]) {
            guard
                case .answered(.indexSaved(let saved)) = MachineScript<UserStoreMachine<SQLiteUserStore>>.answer(
                    to: call.id, in: actions)
            else {
                Issue.record("no answer")
                continue
            }
            #expect(saved.rows.map(\.conversation) == ["p:alice|bob", name])
        }
        var load = UserLoad()
        load.users = [
            UserKey.with {
                $0.appID = "demo"
                $0.userID = "alice"
            }
        ]
        guard case .answered(.userLoaded(let loaded)) = script.ask(.userLoad(load)) else {
            Issue.record("no answer")
            return
        }
        #expect(loaded.users.map(\.profile.exists) == [true])
    }

    @Test func nonsenseIsRefusedAndHarmsNobodyElse() throws {
        var script = try users()
        var bad = AppsPut()
        bad.apps = [App()]
        guard case .refused(let failure) = script.ask(.appsPut(bad)) else {
            Issue.record("not refused")
            return
        }
        #expect(failure.isCode(.malformedRequest))
        var good = AppsPut()
        good.apps = [App.with { $0.appID = "demo" }]
        #expect(script.ask(.appsPut(good)) == .answered(.done(Done())))
    }
}
