import Foundation
import Identity
import Machinery
import MsgWriterRole
import RPC
import Testing
import Wire

/// Places, dedup and what follows a commit.
@Suite struct MsgWriterTests {
    @Test func startsAtTheLowerPosition() throws {
        var writer = WriterScript()
        _ = try writer.start(committed: 4, stored: 9)
        #expect(writer.wanted == [4])
        var other = WriterScript()
        _ = try other.start(committed: 9, stored: 4)
        #expect(other.wanted == [4])
    }

    @Test func leavesItsGroupWhenItIsToldTo() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let told = writer.script.call(.logLeave(LogLeave()))
        let made = try told.actions.call(to: .messageLog)
        guard case .logLeave(let body) = made.payload else { throw TestFailure() }
        #expect([body.log, body.group, body.member] == ["msg", "msgwriter", "w1"])
        // The parked fetch is answered by the leaving, and must not be the way back in.
        let parked = try #require(writer.fetch)
        let after = writer.script.reply(parked.token, .answered(.logFetched(writer.header(end: 100))))
        #expect(!after.hasCall(to: .messageLog))
        let done = writer.script.reply(made.token, .answered(.done(Done())))
        #expect(done.answer(to: told.id) == .done(Done()))
        #expect(!writer.script.timer(2).hasCall(to: .messageLog))

        let again = writer.script.call(.logLeave(LogLeave()))
        let lost = writer.script.reply(
            try again.actions.call(to: .messageLog).token, .unknown(Failure(.deadlineExceeded, "")))
        #expect(lost.refusal(of: again.id)?.isCode(.deadlineExceeded) == true)
    }

    @Test func claimsSayWhatTheLogIs() throws {
        var writer = WriterScript()
        guard case .bucketClaims(let body) = try writer.join(end: 55).payload else { throw TestFailure() }
        #expect(body.claims.count == 1)
        #expect(body.claims[0].incarnation == 7 && body.claims[0].logEnd == 55 && body.claims[0].owner == "w1")
    }

    @Test func seqsAreDenseAndTimesMonotone() throws {
        var writer = WriterScript()
        _ = try writer.start(epoch: 3)
        let records = [
            try Sample.record(1, timeMS: 500), try Sample.record(2, timeMS: 400),
            try Sample.record(3, timeMS: 900, control: true), try Sample.record(4, timeMS: 901),
        ]
        let (_, commit) = try writer.toCommit(records, head: 10)
        #expect(commit.epoch == 3 && commit.oldOffset == 0 && commit.newOffset == 4)
        #expect(commit.rows.map(\.seq) == [11, 12, 13, 14])
        #expect(commit.rows.map(\.n) == [11, 12, 12, 13])
        #expect(commit.rows.map(\.timeMs) == [500, 500, 900, 901])
        #expect(commit.rows.map(\.message) == records.map(\.message))
    }

    @Test func timesNeverGoBackBehindTheHead() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let lookup = try writer.feed([try Sample.record(1, timeMS: 500)]).call(to: .recentStore)
        let actions = try writer.reply(lookup.token, try writer.found(lookup, head: 1, timeMS: 777))
        #expect(try writer.commit(actions).commit.rows.map(\.timeMs) == [777])
    }

    @Test func headsAreAskedOnce() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1)])
        _ = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        let lookup = try writer.feed([try Sample.record(2)], from: 1).call(to: .recentStore)
        guard case .writerLookup(let body) = lookup.payload else { throw TestFailure() }
        #expect(body.conversations.isEmpty && body.keys.count == 1)
        let actions = try writer.reply(lookup.token, try writer.found(lookup))
        #expect(try writer.commit(actions).commit.rows.map(\.seq) == [2])
    }

    // MARK: Dedup

    @Test func aResendInTheSameBatchIsOneRow() throws {
        var writer = WriterScript()
        _ = try writer.start()
        var again = try Sample.record(1, timeMS: 2000)
        again.sessionID = "s-later"
        let (made, commit) = try writer.toCommit([try Sample.record(1), try Sample.record(2), again], head: 3)
        #expect(commit.rows.map(\.seq) == [4, 5] && commit.newOffset == 3)
        let pushes = try writer.reply(made.token, WriterScript.committed([.commitDone])).pushes
        try #require(pushes.map(\.message.seq) == [4, 5, 4])
        // Only the sender hears of it again, at the session that sent it again.
        #expect(pushes[2].members == ["alice"] && pushes[2].senderSession == "s-later")
    }

    @Test func aResendOfAStoredMessageIsPassedOnOnly() throws {
        var writer = WriterScript()
        _ = try writer.start()
        var row = StoredRow()
        row.appID = "app"
        row.conversation = Sample.conversation
        row.seq = 5
        row.sender = "alice"
        let records = [try Sample.record(1), try Sample.record(2)]
        let (made, commit) = try writer.toCommit(records, head: 5, hits: [0: row])
        #expect(commit.rows.map(\.seq) == [6])
        let actions = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        #expect(actions.pushes.map(\.message.seq) == [5, 6])
        #expect(actions.hotRows.map(\.seq) == [6])
        #expect(actions.hotFences.map(\.rows) == [1])
        #expect(actions.hotFences.map(\.epoch) == [commit.epoch] && commit.epoch > 0)
        #expect(actions.hotFences.map(\.bucket) == [commit.bucket])
    }

    @Test func theSameIDWithOtherContentIsAnotherMessage() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (_, commit) = try writer.toCommit([try Sample.record(1, "one"), try Sample.record(1, "two")])
        #expect(commit.rows.map(\.seq) == [1, 2])
        #expect(Set(commit.rows.map(\.dedupKey)).count == 2)
        #expect(commit.rows.allSatisfy { $0.dedupKey.count == 32 && $0.dedupKey.prefix(16) == Sample.id(1) })
    }

    // MARK: What cannot be stored

    @Test func theUnstorableTakesItsPlace() throws {
        var writer = WriterScript()
        _ = try writer.start()
        var broken = try Sample.record(2)
        broken.message = Data([0xff])
        let records = [try Sample.record(1), broken, try Sample.record(3)]
        let (made, commit) = try writer.toCommit(records)
        #expect(commit.rows.map(\.seq) == [1, 2, 3] && commit.rows.map(\.n) == [1, 1, 2])
        #expect(commit.rows.map(\.lost) == [false, true, false] && commit.rows[1].control)
        #expect(commit.dead == [try broken.serializedBytes()])
        let actions = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        #expect(actions.warnings.count == 1)
        #expect(try writer.confirm(actions, by: .user).pushes.map(\.message.seq) == [1, 2, 3])
    }

    @Test func whatBelongsNowhereIsADeadLetter() throws {
        var writer = WriterScript()
        _ = try writer.start()
        var lookup = try writer.feed(bytes: [Data([0xff, 0xff]), try Sample.record(1).serializedBytes()])
        let made = try lookup.call(to: .recentStore)
        lookup = try writer.reply(made.token, try writer.found(made))
        let commit = try writer.commit(lookup).commit
        #expect(commit.rows.count == 1 && commit.dead == [Data([0xff, 0xff])] && commit.newOffset == 2)
    }

    @Test func onlyDeadLettersMoveThePositionToo() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, commit) = try writer.commit(try writer.feed(bytes: [Data([0xff, 0xff])]))
        #expect(commit.rows.isEmpty && commit.newOffset == 1)
        #expect(try writer.reply(made.token, WriterScript.committed([.commitDone])).offsets == [1])
    }

    // MARK: After the commit

    @Test func deliveredMovesWhenEverythingIsConfirmed() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1)])
        let after = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        #expect(after.hotRows.map(\.seq) == [1])
        #expect(after.touches.map(\.userID).sorted() == ["alice", "bob"])
        #expect(after.touches.first { $0.userID == "alice" }?.readSeq == 1)
        #expect(after.touches.first { $0.userID == "bob" }?.readSeq == 0)
        #expect(after.touches.first { $0.userID == "bob" }?.peer == "alice")
        var next: [RoleAction<Never>] = []
        for call in after.calls where call.address.role != .messageLog {
            next += try writer.reply(call.token, WriterScript.done)
        }
        #expect(next.offsets == [])
        #expect(next.pushes.map(\.members) == [["alice", "bob"]] && next.pushes.first?.senderSession == "s-phone")
        let last = try next.call(to: .pushProxy)
        #expect(try writer.reply(last.token, WriterScript.done).offsets == [1])
    }

    /// Somebody whose push finds a full window, or nobody, syncs: then the conversation must be in the index.
    @Test func pushesWaitForTheEntriesThatTheirConversationBeginsWith() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (first, _) = try writer.toCommit([try Sample.record(1)])
        let one = try writer.reply(first.token, WriterScript.committed([.commitDone]))
        let (second, _) = try writer.toCommit([try Sample.record(2)], from: 1)
        let two = try writer.reply(second.token, WriterScript.committed([.commitDone]))
        #expect(!one.touches.isEmpty && one.pushes.isEmpty && two.pushes.isEmpty)
        let touches = one.calls.filter { $0.address.role == .user }
        let last = try #require(touches.last)
        for call in touches.dropLast() { #expect(try writer.reply(call.token, WriterScript.done).pushes.isEmpty) }
        let failed = try writer.reply(last.token, .unknown(Sample.failure(.deadlineExceeded)))
        #expect(failed.pushes.isEmpty)
        let again = try writer.timer(try #require(failed.timers.first)).call(to: .user)
        #expect(try writer.reply(again.token, WriterScript.done).pushes.map(\.message.seq) == [1, 2])
    }

    @Test func onlyTheFirstMessageMakesEntriesForAll() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let records = [try Sample.record(1), try Sample.record(2)]
        let (made, _) = try writer.toCommit(records, head: 7)
        let touches = try writer.reply(made.token, WriterScript.committed([.commitDone])).touches
        #expect(touches.map(\.userID) == ["alice"] && touches.map(\.readSeq) == [9])
    }

    @Test func unconfirmedWorkIsTriedAgainForEver() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (made, _) = try writer.toCommit([try Sample.record(1), try Sample.record(2)], head: 7)
        var actions = try writer.reply(made.token, WriterScript.committed([.commitDone]))
        for call in actions.calls where call.address.role == .user || call.address.role == .hotStore {
            #expect(try writer.reply(call.token, WriterScript.done).offsets == [])
        }
        var push = try actions.call(to: .pushProxy)
        for _ in 0..<20 {
            actions = try writer.reply(push.token, .unknown(Sample.failure(.deadlineExceeded)))
            #expect(!actions.hasCall(to: .pushProxy) && actions.offsets == [])
            let timer = try #require(actions.timers.first)
            push = try writer.timer(timer).call(to: .pushProxy)
        }
        var partly = Done()
        partly.failures = [Failure(), Sample.failure(.storeUnavailable)]
        actions = try writer.reply(push.token, .answered(.done(partly)))
        actions = try writer.timer(try #require(actions.timers.first))
        #expect(actions.pushes.map(\.message.seq) == [9])
        let last = try actions.call(to: .pushProxy)
        #expect(try writer.reply(last.token, WriterScript.done).offsets == [2])
    }

    @Test func laterUnitsWaitForEarlierOnes() throws {
        var writer = WriterScript()
        _ = try writer.start()
        let (first, _) = try writer.toCommit([try Sample.record(1)], head: 3)
        let one = try writer.reply(first.token, WriterScript.committed([.commitDone]))
        let (second, _) = try writer.toCommit([try Sample.record(2)], from: 1)
        let two = try writer.reply(second.token, WriterScript.committed([.commitDone]))
        // One call to a callee at a time: the second unit waits for the first one's answers.
        #expect(two.pushes.isEmpty && two.hotRows.isEmpty && two.touches.isEmpty)
        var next: [RoleAction<Never>] = []
        for call in one.calls where call.address.role != .messageLog && call.address.role != .hotStore {
            next += try writer.reply(call.token, WriterScript.done)
        }
        for call in next.calls where call.address.role != .messageLog {
            #expect(try writer.reply(call.token, WriterScript.done).offsets == [])
        }
        let hot = try writer.reply(try one.call(to: .hotStore).token, WriterScript.done)
        #expect(hot.offsets == [1])
    }
}
