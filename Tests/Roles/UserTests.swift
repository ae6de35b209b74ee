import Foundation
import RPC
import Testing
import Wire

@testable import UserRole

@Suite struct UserTests {
    typealias User = Script<UserMachine>
    static let pair = "p:alice|bob"

    static func user(_ change: (inout UserConfig) -> Void = { _ in }) -> User {
        var config = UserConfig()
        change(&config)
        var user = User(UserMachine(instance: "u1", config: config))
        // Seqs up to here exist, as far as set_state asks.
        user.machine.learn("demo", pair, reached: 9)
        return user
    }

    static func state(_ changes: StateChange..., session: String = "s1") -> Payload {
        serviceCalls(serviceCall(4, 2, session: session, body: SetStateRequest.with { $0.changes = changes }))
    }

    static func read(_ seq: UInt64, in conversation: String = pair) -> StateChange {
        .with {
            $0.conversation = conversation
            $0.readSeq = seq
        }
    }

    static func touch(_ entries: IndexEntry...) -> Payload { .indexTouch(.with { $0.entries = entries }) }

    static func entry(_ user: String, read: UInt64 = 0, joined: UInt64 = 0) -> IndexEntry {
        .with {
            $0.appID = "demo"
            $0.userID = user
            $0.conversation = pair
            $0.readSeq = read
            $0.joinedSeq = joined
        }
    }

    static func row(_ version: UInt64, read: UInt64 = 0, _ conversation: String = pair) -> IndexRow {
        .with {
            $0.conversation = conversation
            $0.version = version
            $0.readSeq = read
        }
    }

    static func saved(_ rows: IndexRow...) -> Payload { .indexSaved(.with { $0.rows = rows }) }

    static func changes(_ actions: [RoleAction<Never>]) -> [IndexChange] {
        actions.asked(.any(.userStore)).flatMap { asked -> [IndexChange] in
            if case .indexSave(let save) = asked.payload { save.changes } else { [] }
        }
    }

    static func hints(_ actions: [RoleAction<Never>]) throws -> [(user: String, not: String, hint: StateHint)] {
        try actions.told(.any(.pushProxy)).flatMap { payload -> [PushEvent] in
            if case .pushEvents(let events) = payload { events.events } else { [] }
        }.map { ($0.users[0].userID, $0.notSession, try StateHint(serializedBytes: $0.event.body)) }
    }

    // MARK: set_state

    @Test func stateIsAnsweredWhenDurableAndHinted() throws {
        var user = Self.user()
        let sent = user.call(Self.state(Self.read(7)))
        #expect(sent.actions.serviceReplies(sent.id) == nil)
        #expect(Self.changes(sent.actions).map(\.change) == [Self.read(7)])
        #expect(Self.changes(sent.actions).map(\.create) == [false])
        let done = user.answer(try sent.actions.first(), Self.saved(Self.row(3, read: 9)))
        let response = try body(done.serviceReplies(sent.id)?.first, SetStateResponse.self)
        #expect(
            response.results == [
                .with {
                    $0.ok = true
                    $0.version = 3
                }
            ])
        let hints = try Self.hints(done)
        #expect(hints.map(\.user) == ["bob", "alice"])
        #expect(hints.map(\.not) == ["", "s1"])
        #expect(hints.map(\.hint.readSeq) == [9, 9], "what the row says, not what was asked")
        #expect(hints.map(\.hint.userID) == ["alice", "alice"])
        #expect(hints.map(\.hint.entryChanged) == [false, false])
    }

    @Test func peerLearnsSeqsButNotPins() throws {
        var user = Self.user()
        let pin = StateChange.with {
            $0.conversation = Self.pair
            $0.pinned = true
        }
        let sent = user.call(Self.state(pin))
        let hints = try Self.hints(user.answer(try sent.actions.first(), Self.saved(Self.row(1))))
        #expect(hints.map(\.user) == ["alice"])
        #expect(hints.first?.hint.entryChanged == true)
    }

    @Test func oneWriteASecondMergedAndAnsweredTogether() throws {
        var user = Self.user()
        let first = user.call(Self.state(Self.read(1)))
        let asked = try first.actions.first()
        // While the first write is under way and in the second that follows, everything is merged.
        let second = user.call(Self.state(Self.read(5), session: "s2"))
        #expect(second.actions.asked.isEmpty)
        _ = user.answer(asked, Self.saved(Self.row(1, read: 1)))
        let draft = StateChange.with {
            $0.conversation = Self.pair
            $0.readSeq = 3
            $0.draft = "hi"
        }
        let third = user.call(Self.state(draft))
        #expect(third.actions.asked.isEmpty)
        user.pass(ms: 500)
        #expect(user.timer(2).asked.isEmpty)
        user.pass(ms: 501)
        let written = user.timer(2)
        let change = try #require(Self.changes(written).first)
        #expect(Self.changes(written).count == 1)
        #expect(change.change.readSeq == 5)
        #expect(change.change.draft == "hi")
        let done = user.answer(try written.first(), Self.saved(Self.row(2, read: 5)))
        #expect(done.serviceReplies(second.id) != nil)
        #expect(done.serviceReplies(third.id) != nil)
        #expect(try Self.hints(done).last?.not == "", "two sessions in one write: both are told")
        // The table forgets the entry once it has cooled down.
        user.pass(ms: 1001)
        _ = user.timer(2)
        #expect(user.machine.writer.count == 0)
        #expect(!user.machine.writer.needsTick)
    }

    @Test func pendingStateIsMergedIntoAnswers() throws {
        var user = Self.user()
        let first = user.call(Self.state(Self.read(1)))
        _ = user.answer(try first.actions.first(), Self.saved(Self.row(1, read: 1)))
        _ = user.call(Self.state(Self.read(8)))
        let query = IndexQuery.with {
            $0.appID = "demo"
            $0.userID = "alice"
            $0.conversation = Self.pair
        }
        let load = user.call(.indexLoad(.with { $0.queries = [query] }))
        let stored = IndexLoaded.with { $0.pages = [.with { $0.rows = [Self.row(1, read: 1)] }] }
        let done = user.answer(try load.actions.first(), .indexLoaded(stored))
        guard case .indexLoaded(let loaded)? = done.reply(load.id) else {
            Issue.record("the load is answered")
            return
        }
        #expect(loaded.pages.first?.rows.first?.readSeq == 8)
    }

    @Test func strangersAreNotMembers() throws {
        var user = Self.user()
        let pin = { (conversation: String) in
            StateChange.with {
                $0.conversation = conversation
                $0.pinned = true
            }
        }
        let foreign = user.call(Self.state(pin("g:team"), pin("p:bob|carol")))
        let missing = IndexRow()
        let no = user.answer(try foreign.actions.first(), Self.saved(missing, missing))
        let results = try body(no.serviceReplies(foreign.id)?.first, SetStateResponse.self).results
        #expect(results.map(\.failure.reason) == ["not_a_member", "not_a_member"])
    }

    // MARK: seqs that do not exist

    static func rows(_ heads: UInt64...) -> Payload {
        .rowsRead(.with { $0.pages = heads.map { head in .with { $0.head.seq = head } } })
    }

    @Test func seqsAboveTheHeadAreRefusedAndTriedAgain() throws {
        var user = Self.user()
        var cleared = Self.read(3)
        cleared.clearedSeq = 11
        let sent = user.call(Self.state(Self.read(10), cleared))
        #expect(Self.changes(sent.actions).isEmpty, "nothing is written before the rows are known")
        let seek = try sent.actions.first()
        guard case .readRows(let read) = seek.payload else { throw Wrong() }
        #expect(seek.address == .any(.msgReader) && read.queries.map(\.fromSeq) == [10, 11])
        #expect(read.queries.map(\.atLeast) == [10, 11] && read.queries.map(\.limit) == [1, 1])
        let found = user.answer(seek, Self.rows(10, 10))
        #expect(Self.changes(found).map(\.change.readSeq) == [10])
        let done = user.answer(try found.first(), Self.saved(Self.row(1, read: 10)))
        let results = try body(done.serviceReplies(sent.id)?.first, SetStateResponse.self).results
        #expect(results.map(\.ok) == [true, false])
        #expect(results[1].failure.isCode(.historyUnavailable) && results[1].failure.retryable)
    }

    @Test func whatIsKnownToExistIsNotAskedFor() throws {
        var user = Self.user()
        let asked = user.call(Self.state(Self.read(12)))
        _ = user.answer(try asked.actions.first(), Self.rows(15))
        #expect(!user.call(Self.state(Self.read(15))).actions.asked.contains { $0.address == .any(.msgReader) })
        // The writer's touch of the sender says where the conversation is.
        _ = user.call(Self.touch(Self.entry("bob", read: 20)))
        #expect(!user.call(Self.state(Self.read(20))).actions.asked.contains { $0.address == .any(.msgReader) })
        #expect(user.call(Self.state(Self.read(21))).actions.asked.contains { $0.address == .any(.msgReader) })
    }

    @Test func withoutMsgReaderASeqIsTriedAgain() throws {
        for result in [refused, timedOut] {
            var user = Self.user()
            let sent = user.call(Self.state(Self.read(10)))
            let done = user.answer(try sent.actions.first(), result)
            let results = try body(done.serviceReplies(sent.id)?.first, SetStateResponse.self).results
            #expect(results.first?.failure.retryable == true)
        }
    }

    /// Who is no member learns nothing of a conversation's length.
    @Test func strangersLearnNoHeads() throws {
        var user = Self.user()
        let sent = user.call(Self.state(Self.read(1, in: "p:bob|carol"), Self.read(2, in: "g:team")))
        let load = try sent.actions.first()
        guard case .indexLoad(let request) = load.payload else { throw Wrong() }
        #expect(request.queries.map(\.conversation) == ["p:bob|carol", "g:team"])
        let member = IndexPage.with { $0.rows = [Self.row(1, "g:team")] }
        let more = user.answer(load, .indexLoaded(.with { $0.pages = [IndexPage(), member] }))
        guard case .readRows(let read) = try more.first().payload else { throw Wrong() }
        #expect(read.queries.map(\.conversation) == ["g:team"])
        let done = user.answer(try more.first(), Self.rows(1))
        let results = try body(done.serviceReplies(sent.id)?.first, SetStateResponse.self).results
        #expect(results.map(\.failure.reason) == ["not_a_member", "history_unavailable"])
    }

    struct Wrong: Error {}

    @Test func ownPairCreatedAtOnceOrRefusedWithoutItsPeer() throws {
        for exists in [true, false] {
            var user = Self.user()
            let own = user.call(Self.state(Self.read(1)))
            let load = try #require(user.answer(try own.actions.first(), Self.saved(IndexRow())).asked.first)
            let actions = user.answer(load, .userLoaded(.with { $0.users = [.with { $0.profile.exists = exists }] }))
            guard exists else {
                let results = try body(actions.serviceReplies(own.id)?.first, SetStateResponse.self).results
                #expect(results.map(\.failure.reason) == ["no_such_user"])
                continue
            }
            let change = try #require(Self.changes(actions).first)
            #expect(change.create)
            #expect(change.joinedSeq == 1)
            #expect(change.peer == "bob")
            let done = user.answer(try actions.first(), Self.saved(Self.row(1)))
            #expect(try body(done.serviceReplies(own.id)?.first, SetStateResponse.self).results.first?.ok == true)
        }
    }

    @Test func badStateIsNamedPerChange() throws {
        var user = Self.user()
        let long = StateChange.with {
            $0.conversation = Self.pair
            $0.draft = String(repeating: "x", count: 4097)
        }
        let sent = user.call(Self.state(Self.read(1, in: "nonsense"), Self.read(1 << 53), long))
        let response = try body(sent.actions.serviceReplies(sent.id)?.first, SetStateResponse.self)
        #expect(response.results.map(\.failure.reason) == ["bad_conversation", "malformed_request", "limit_exceeded"])
        #expect(sent.actions.asked.isEmpty)
        let many = SetStateRequest.with { $0.changes = Array(repeating: Self.read(1), count: 101) }
        let over = user.call(serviceCalls(serviceCall(4, 2, body: many)))
        #expect(over.actions.serviceReplies(over.id)?.first?.failure.isCode(.limitExceeded) == true)
    }

    @Test func failedWriteIsToldAndNotShown() throws {
        for result in [
            refused, timedOut, .answered(.indexSaved(.with { $0.failure = Failure(.storeUnavailable, "x") })),
        ] {
            var user = Self.user()
            let state = user.take(Self.state(Self.read(4)))
            let touch = user.call(Self.touch(Self.entry("alice", read: 2)))
            let done = user.answer(try touch.actions.first(), result)
            let results = try body(done.serviceReplies(state.id)?.first, SetStateResponse.self).results
            #expect(results.first?.failure.retryable == true)
            #expect(done.refusal(touch.id)?.retryable == true)
            #expect(try Self.hints(done).isEmpty)
            var row = Self.row(1)
            user.machine.writer.overlay(&row, "demo", "alice")
            #expect(row.readSeq == 0)
        }
    }

    // MARK: IndexTouch

    @Test func creationGoesAtOnceAndLaterTouchesWait() throws {
        var user = Self.user()
        let create = user.call(Self.touch(Self.entry("alice", read: 1, joined: 1), Self.entry("bob", joined: 1)))
        #expect(Self.changes(create.actions).map(\.create) == [true, true])
        #expect(create.actions.reply(create.id) == nil)
        let done = user.answer(try create.actions.first(), Self.saved(Self.row(1, read: 1), Self.row(1)))
        #expect(done.reply(create.id) == .done(Done()))
        let moved = user.call(Self.touch(Self.entry("alice", read: 2, joined: 1)))
        #expect(moved.actions.asked.isEmpty, "known to exist: it waits")
        user.pass(ms: 1001)
        let written = user.timer(2)
        #expect(Self.changes(written).map(\.change.readSeq) == [2])
        let end = user.answer(try written.first(), Self.saved(Self.row(2, read: 2)))
        #expect(end.reply(moved.id) == .done(Done()))
        #expect(try Self.hints(end).isEmpty, "touches hint nobody: the message itself is pushed")
    }

    @Test func creationIsUrgentEvenInsideTheSecond() throws {
        var user = Self.user()
        let state = user.call(Self.state(Self.read(1)))
        _ = user.answer(try state.actions.first(), timedOut)
        let create = user.call(Self.touch(Self.entry("alice", joined: 1)))
        #expect(Self.changes(create.actions).map(\.create) == [true])
    }

    @Test func badTouchIsNamedPerEntry() throws {
        var user = Self.user()
        var odd = Self.entry("zoe")
        odd.conversation = Self.pair
        let sent = user.call(Self.touch(odd))
        guard case .done(let done)? = sent.actions.reply(sent.id) else {
            Issue.record("answered per entry")
            return
        }
        #expect(done.failures.first?.isCode(.badConversation) == true)
    }

    // MARK: accounts and profiles

    @Test func checksOfAFlushAreOneCall() throws {
        var user = Self.user()
        let one = user.take(.userCheck(.with { $0.users = [key("alice")] }))
        let two = user.take(.userCheck(.with { $0.users = [key("bob"), key("carol")] }))
        let asked = user.flush().asked
        #expect(asked.map(\.payload) == [.userLoad(.with { $0.users = [key("alice"), key("bob"), key("carol")] })])
        let rows = [
            UserRow.with {
                $0.version = 2
                $0.tokenEpoch = 5
            }, UserRow(), UserRow.with { $0.profile.exists = true },
        ]
        let done = user.answer(asked[0], .userLoaded(.with { $0.users = rows }))
        #expect(
            done.reply(one.id)
                == .userChecked(
                    .with {
                        $0.users = [
                            .with {
                                $0.exists = true
                                $0.version = 2
                                $0.tokenEpoch = 5
                            }
                        ]
                    }))
        #expect(done.reply(two.id) == .userChecked(.with { $0.users = [UserFact(), .with { $0.exists = true }] }))
    }

    @Test func putWithoutProfileCreatesAndKeeps() throws {
        var user = Self.user()
        let bare = UserPut.with {
            $0.appID = "demo"
            $0.profile.userID = "alice"
            $0.tokenEpoch = 2
        }
        let sent = user.call(.usersPut(.with { $0.users = [bare] }))
        let row = UserRow.with {
            $0.version = 1
            $0.profile.userID = "alice"
            $0.profile.nickname = "Al"
            $0.profile.exists = true
        }
        let put = user.answer(try sent.actions.first(), .userLoaded(.with { $0.users = [row] }))
        guard case .usersPut(let request)? = put.asked.first?.payload else {
            Issue.record("the put goes out after the look")
            return
        }
        #expect(request.users.first?.profile.nickname == "Al")
        #expect(request.users.first?.tokenEpoch == 2)
        #expect(user.answer(try put.first(), .done(Done())).reply(sent.id) == .done(Done()))
        let bad = UserPut.with {
            $0.appID = "demo"
            $0.profile.userID = "a b"
        }
        let no = user.call(.usersPut(.with { $0.users = [bad] }))
        guard case .done(let done)? = no.actions.reply(no.id) else {
            Issue.record("answered per user")
            return
        }
        #expect(done.failures.first?.isCode(.malformedRequest) == true)
    }

    @Test func patchesGoToTheStoreAsTheyAre() throws {
        var user = Self.user()
        let put = UserPut.with {
            $0.appID = "demo"
            $0.profile.userID = "alice"
            $0.patch.custom = Data()
        }
        let sent = user.call(.usersPut(.with { $0.users = [put] }))
        #expect(sent.actions.asked.map(\.payload) == [.usersPut(.with { $0.users = [put] })])
        var long = put
        long.patch.nickname = String(repeating: "n", count: 257)
        let no = user.call(.usersPut(.with { $0.users = [long] }))
        guard case .done(let done)? = no.actions.reply(no.id) else {
            Issue.record("answered per user")
            return
        }
        #expect(done.failures.first?.isCode(.limitExceeded) == true)
    }

    @Test func profilesAndOwnProfile() throws {
        var user = Self.user()
        let ask = user.call(
            serviceCalls(serviceCall(4, 3, body: ProfilesRequest.with { $0.userIds = ["bob", "zoe"] })))
        let rows = [
            UserRow.with {
                $0.version = 1
                $0.profile.nickname = "Bob"
            }, UserRow(),
        ]
        let done = user.answer(try ask.actions.first(), .userLoaded(.with { $0.users = rows }))
        let profiles = try body(done.serviceReplies(ask.id)?.first, ProfilesResponse.self).profiles
        #expect(profiles.map(\.exists) == [true, false])
        #expect(profiles.map(\.userID) == ["bob", "zoe"])
        let set = user.call(serviceCalls(serviceCall(4, 4, body: SetProfileRequest.with { $0.nickname = "Ali" })))
        guard case .usersPut(let put)? = set.actions.asked.first?.payload else {
            Issue.record("the profile is written")
            return
        }
        #expect(put.users.first?.profile.userID == "alice")
        #expect(put.users.first?.profile.nickname == "Ali")
        let failed = user.answer(try set.actions.first(), timedOut)
        #expect(failed.serviceReplies(set.id)?.first?.failure.isCode(.outcomeUnknown) == true)
        let long = SetProfileRequest.with { $0.nickname = String(repeating: "n", count: 257) }
        let no = user.call(serviceCalls(serviceCall(4, 4, body: long), serviceCall(4, 9), serviceCall(9, 1)))
        let reasons = no.actions.serviceReplies(no.id)?.map(\.failure.reason)
        #expect(reasons == ["limit_exceeded", "no_such_method", "no_such_service"])
    }

    @Test func appsPassThroughChecked() throws {
        var user = Self.user()
        let get = user.call(.appsGet(.with { $0.appIds = ["demo"] }))
        let app = App.with {
            $0.appID = "demo"
            $0.exists = true
        }
        let got = user.answer(try get.actions.first(), .appsGot(.with { $0.apps = [app] }))
        #expect(got.reply(get.id) == .appsGot(.with { $0.apps = [app] }))
        var weak = app
        weak.keys = [
            .with {
                $0.keyID = "k1"
                $0.secret = Data(repeating: 1, count: 8)
            }
        ]
        var strong = app
        strong.keys = [
            .with {
                $0.keyID = "k1"
                $0.secret = Data(repeating: 1, count: 32)
            }
        ]
        let put = user.call(.appsPut(.with { $0.apps = [weak, strong] }))
        let asked = try put.actions.first()
        #expect(asked.payload == .appsPut(.with { $0.apps = [strong] }))
        guard case .done(let done)? = user.answer(asked, .done(Done())).reply(put.id) else {
            Issue.record("answered per app")
            return
        }
        #expect(done.failures.map(\.code) == [ErrorCode.malformedRequest.number, 0])
    }

    @Test func overLimitIsOverloaded() {
        var small = Self.user { $0.maxItems = 1 }
        let state = small.call(Self.state(Self.read(1), Self.read(2)))
        #expect(state.actions.serviceReplies(state.id)?.first?.failure.isCode(.overloaded) == true)
        var busy = Self.user { $0.maxSyncs = 1 }
        _ = busy.call(SyncTests.sync())
        let sync = busy.call(SyncTests.sync())
        #expect(sync.actions.serviceReplies(sync.id)?.first?.failure.isCode(.overloaded) == true)
        var user = Self.user { $0.maxItems = 1 }
        _ = user.call(.userCheck(.with { $0.users = [key("alice")] }))
        let more = user.call(.userCheck(.with { $0.users = [key("bob")] }))
        #expect(more.actions.refusal(more.id)?.isCode(.overloaded) == true)
    }
}
