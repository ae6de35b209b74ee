import Foundation
import Identity
import IMRole
import Machinery
import RPC
import Testing
import Wire

@Suite struct IMTests {
    private func script(_ change: (inout IMConfig) -> Void = { _ in }) -> Script<IMMachine> {
        var config = IMConfig(instance: "1")
        change(&config)
        return Script(IMMachine(config: config))
    }

    private func calls(_ calls: [ServiceCall]) -> Payload {
        var body = ServiceCalls()
        body.calls = calls
        return .serviceCalls(body)
    }

    private func exists(_ users: Bool...) -> CallResult {
        var body = UserChecked()
        body.users = users.map { exists in
            var fact = UserFact()
            fact.exists = exists
            return fact
        }
        return .answered(.userChecked(body))
    }

    private func outcomes(_ outcomes: [Outcome], _ failure: ErrorCode = .busy) -> CallResult {
        var body = StoreOutcomes()
        body.results = outcomes.map { outcome in
            var result = SendResult()
            result.outcome = outcome
            if outcome == .refused { result.failure = Sample.failure(failure) }
            return result
        }
        return .answered(.storeOutcomes(body))
    }

    /// Sends, says that the recipient exists, and returns the call to MsgProxy.
    private func sent(_ script: inout Script<IMMachine>, _ batch: [ServiceCall]) throws -> (CallID, Made) {
        let (id, early) = script.call(calls(batch))
        #expect(early.answer(to: id) == nil)
        let check = try script.flush().call(to: .user)
        return (id, try script.reply(check.token, exists(true)).call(to: .msgProxy))
    }

    private func replies(_ payload: Payload?) throws -> [ServiceReply] {
        guard case .serviceReplies(let body) = payload else {
            Issue.record("no replies: \(String(describing: payload))")
            return []
        }
        return body.replies
    }

    private func results(_ reply: ServiceReply) throws -> [SendResult] {
        try SendResponse(serializedBytes: reply.body).results
    }

    /// One send of these items to somebody who exists, as far as it goes without MsgProxy.
    private func refusal(_ items: [SendItem]) throws -> [ErrorCode?] {
        var script = script()
        let (id, _) = script.call(calls([try Sample.call(items)]))
        let check = try script.flush().call(to: .user)
        let actions = script.reply(check.token, exists(true))
        guard let reply = try replies(actions.answer(to: id)).first else { return [] }
        return try results(reply).map { result in ErrorCode.all.first { result.failure.isCode($0) } }
    }

    @Test func announcesItselfEverySecond() {
        var script = script()
        var body = ServiceAnnounce()
        body.svids = [1]
        body.instanceID = "im/1"
        let expected: [RoleAction<Never>] = [
            .tell(.all(.route), .serviceAnnounce(body)), .timer(1, afterMS: 1000),
        ]
        #expect(script.on(.start) == expected)
        #expect(script.on(.timer(1)) == expected)
    }

    @Test func acceptsWhatIsDurable() throws {
        var script = script()
        let (id, store) = try sent(&script, [try Sample.call([Sample.item(1), Sample.item(2, "two")])])
        guard case .storeMessages(let body) = store.payload else { throw TestFailure() }
        #expect(body.records.map(\.clientMsgID) == [Sample.id(1), Sample.id(2)])
        #expect(body.records.map(\.members) == [["alice", "bob"], ["alice", "bob"]])
        #expect(body.records.allSatisfy { $0.timeMs == script.now.wallMS && $0.sessionID == "s-phone" })
        let message = try ChatMessage(serializedBytes: body.records[1].message)
        #expect(message.sender == "alice" && message.content == Data("two".utf8) && !message.control)
        let actions = script.reply(store.token, outcomes([.accepted, .accepted]))
        let reply = try #require(try replies(actions.answer(to: id)).first)
        #expect(!reply.broken && !reply.hasFailure)
        #expect(try results(reply).map(\.outcome) == [.accepted, .accepted])
        #expect(try results(reply).first?.sentMs == script.now.wallMS)
    }

    @Test func everythingOfAFlushGoesTogether() throws {
        var script = script()
        let (one, _) = script.call(calls([try Sample.call([Sample.item(1)])]))
        let (two, _) = script.call(calls([try Sample.call([Sample.item(2)], device: "desk")]))
        let check = try script.flush().call(to: .user)
        let store = try script.reply(check.token, exists(true)).call(to: .msgProxy)
        guard case .storeMessages(let body) = store.payload else { throw TestFailure() }
        #expect(body.records.map(\.device) == ["phone", "desk"])
        let actions = script.reply(store.token, outcomes([.accepted, .accepted]))
        #expect(actions.answer(to: one) != nil && actions.answer(to: two) != nil)
        // Bob is known for a minute.
        _ = script.call(calls([try Sample.call([Sample.item(3)])]))
        #expect(script.flush().hasCall(to: .msgProxy))
        script.pass(ms: 60_001)
        _ = script.call(calls([try Sample.call([Sample.item(4)])]))
        #expect(script.flush().hasCall(to: .user))
    }

    @Test func refusesWhatIsNoSend() throws {
        var script = script()
        var bad: [(ServiceCall, ErrorCode)] = [
            (try Sample.call([Sample.item(1)], key: "p:a|b"), .malformedRequest),
            (try Sample.call([Sample.item(1)], key: ""), .malformedRequest),
            (try Sample.call([Sample.item(1)], conversation: "p:bob|carol"), .badConversation),
            (try Sample.call([Sample.item(1)], conversation: "u:alice"), .badConversation),
            (try Sample.call([Sample.item(1)], conversation: "g:team"), .badConversation),
            (try Sample.call([]), .malformedRequest),
            (try Sample.call((0..<65).map { Sample.item($0) }), .limitExceeded),
        ]
        var other = try Sample.call([Sample.item(1)])
        other.method = 9
        bad.append((other, .noSuchMethod))
        other.method = 1
        other.body = Data([0xff])
        bad.append((other, .malformedRequest))
        let (id, actions) = script.call(calls(bad.map(\.0)))
        let replies = try replies(actions.answer(to: id))
        #expect(replies.map(\.failure.code) == bad.map(\.1.number))
        #expect(!replies.contains { $0.broken })
        #expect(script.flush() == [])
    }

    @Test func refusesItemsForGood() throws {
        let week: UInt64 = 7 * 24 * 3600 * 1000
        var old = Sample.item(1)
        old.clientMsgID = Sample.id(1, timeMS: 1_735_689_600_000 - week)
        var early = Sample.item(2)
        early.clientMsgID = Sample.id(2, timeMS: 1_735_689_600_000 + 301_000)
        var short = Sample.item(3)
        short.clientMsgID = Data([1, 2])
        let large = Sample.item(4, String(repeating: "x", count: 32 * 1024 + 1))
        let empty = Sample.item(5, "")
        var broken = Sample.item(6)
        broken.content = Data([0xc3, 0x28])
        var notice = Sample.item(7)
        notice.kind = .contentNotice
        var recall = Sample.item(8)
        recall.kind = .contentRecall
        let codes = try refusal([old, early, short, large, empty, broken, notice, recall])
        #expect(
            codes == [
                .resendExpired, .resendExpired, .badMessageID, .messageTooLarge, .badContent, .badContent, .badContent,
                .badContent,
            ])
    }

    @Test func nobodyThere() throws {
        var script = script()
        let (id, _) = script.call(calls([try Sample.call([Sample.item(1)])]))
        let check = try script.flush().call(to: .user)
        let actions = script.reply(check.token, exists(false))
        let reply = try #require(try replies(actions.answer(to: id)).first)
        #expect(try results(reply).map(\.failure.code) == [ErrorCode.noSuchUser.number])
        #expect(!reply.broken)
    }

    @Test func aLookUpThatFailsIsRetryable() throws {
        var script = script()
        let (id, _) = script.call(calls([try Sample.call([Sample.item(1)])]))
        let check = try script.flush().call(to: .user)
        let actions = script.reply(check.token, .unknown(Sample.failure(.deadlineExceeded)))
        let reply = try #require(try replies(actions.answer(to: id)).first)
        #expect(reply.failure.isCode(.serviceUnavailable) && reply.broken)
    }

    /// Section 3, rule 1: what stands behind a failure fails too.
    @Test func cutsBehindARetryableRefusal() throws {
        var script = script { $0.messagesPerSecond = 2 }
        let batch = [
            try Sample.call([Sample.item(1)]), try Sample.call([Sample.item(2), Sample.item(3), Sample.item(4)]),
            try Sample.call([Sample.item(5)]),
        ]
        let (id, store) = try sent(&script, batch)
        guard case .storeMessages(let body) = store.payload else { throw TestFailure() }
        #expect(body.records.map(\.clientMsgID) == [Sample.id(1), Sample.id(2)])
        let actions = script.reply(store.token, outcomes([.accepted, .accepted]))
        let replies = try replies(actions.answer(to: id))
        #expect(replies.map(\.broken) == [false, true, true])
        let results = try results(replies[1])
        #expect(results.map(\.outcome) == [.accepted, .refused, .refused])
        #expect(results[1].failure.isCode(.rateLimited) && results[2].failure.isCode(.resendInOrder))
        #expect(replies[2].failure.isCode(.resendInOrder))
    }

    @Test func aRefusalForGoodBreaksNothing() throws {
        var script = script()
        let (id, store) = try sent(&script, [try Sample.call([Sample.item(1, ""), Sample.item(2)])])
        let actions = script.reply(store.token, outcomes([.accepted]))
        let reply = try #require(try replies(actions.answer(to: id)).first)
        #expect(!reply.broken)
        #expect(try results(reply).map(\.outcome) == [.refused, .accepted])
    }

    @Test func unknownIsUnknownToTheEnd() throws {
        var script = script()
        let batch = [try Sample.call([Sample.item(1)]), try Sample.call([Sample.item(2)])]
        let (id, store) = try sent(&script, batch)
        let actions = script.reply(store.token, .unknown(Sample.failure(.deadlineExceeded)))
        let replies = try replies(actions.answer(to: id))
        #expect(replies.allSatisfy { $0.failure.isCode(.outcomeUnknown) && $0.broken })
    }

    /// What the log took behind an unknown record comes again, so it is not promised either.
    @Test func nothingIsPromisedBehindAnUnknown() throws {
        var script = script()
        let (id, store) = try sent(&script, [try Sample.call([Sample.item(1), Sample.item(2), Sample.item(3)])])
        let actions = script.reply(store.token, outcomes([.accepted, .unknown, .accepted]))
        let reply = try #require(try replies(actions.answer(to: id)).first)
        #expect(try results(reply).map(\.outcome) == [.accepted, .unknown, .unknown])
        #expect(reply.broken)
    }

    @Test func otherDevicesAreNotCut() throws {
        var script = script()
        let batch = [try Sample.call([Sample.item(1)]), try Sample.call([Sample.item(2)], device: "desk")]
        let (id, store) = try sent(&script, batch)
        let actions = script.reply(store.token, outcomes([.refused, .accepted]))
        let replies = try replies(actions.answer(to: id))
        #expect(replies.map(\.broken) == [true, false])
        #expect(replies[0].failure.isCode(.busy))
    }

    @Test func afterTheDeadlineNothingIsStored() throws {
        var script = script()
        let (id, _) = script.call(calls([try Sample.call([Sample.item(1)])]), deadlineMS: 100)
        let check = try script.flush().call(to: .user)
        script.pass(ms: 200)
        let actions = script.reply(check.token, exists(true))
        #expect(!actions.hasCall(to: .msgProxy))
        #expect(try replies(actions.answer(to: id)).first?.failure.isCode(.deadlineExceeded) == true)
    }

    @Test func fullIsOverloaded() throws {
        var script = script { $0.itemsHeld = 1 }
        _ = script.call(calls([try Sample.call([Sample.item(1)])]))
        let (id, actions) = script.call(calls([try Sample.call([Sample.item(2)])]))
        #expect(actions.refusal(of: id)?.isCode(.overloaded) == true)
    }

    // MARK: Recall

    /// What becomes of a recall of seq 5 whose id was made `madeMS` after that message, and which comes at `comesMS`.
    private func recall(
        _ row: StoredRow?, madeMS: UInt64 = 0, comesMS: UInt64? = nil, head: UInt64 = 9, recalled: [UInt64] = []
    ) throws -> Result<LogRecord, Failure> {
        var script = script()
        var item = Sample.item(1)
        item.clientMsgID = Sample.id(1, timeMS: script.now.wallMS + madeMS)
        script.pass(ms: comesMS ?? madeMS)
        item.kind = .contentRecall
        item.content = Data()
        item.targetSeq = 5
        let (id, _) = script.call(calls([try Sample.call([item])]))
        let asked = script.flush()
        let read = try asked.call(to: .msgReader)
        #expect(!script.reply(try asked.call(to: .user).token, exists(true)).hasCall(to: .msgProxy))
        var page = RowsPage()
        if let row { page.rows = [row] }
        page.head.seq = head
        page.recalledSeqs = recalled
        var body = RowsRead()
        body.pages = [page]
        let actions = script.reply(read.token, .answered(.rowsRead(body)))
        if let store = actions.calls.first, case .storeMessages(let stored) = store.payload {
            return .success(try #require(stored.records.first))
        }
        let reply = try #require(try replies(actions.answer(to: id)).first)
        // What may be tried again fails as a whole.
        return .failure(reply.hasFailure ? reply.failure : try #require(try results(reply).first?.failure))
    }

    private func row(sender: String) -> StoredRow {
        var row = StoredRow()
        row.seq = 5
        row.sender = sender
        row.timeMs = 1_735_689_600_000
        return row
    }

    @Test func recallsAreControl() throws {
        let record = try recall(row(sender: "alice"), madeMS: 4000).get()
        #expect(record.control && record.targetSeq == 5)
        #expect(try ChatMessage(serializedBytes: record.message).control)
    }

    @Test func recallsOfOthersAndOfOldMessagesAreForbidden() throws {
        #expect(throws: Failure.self) { try recall(row(sender: "bob")).get() }
        guard case .failure(let other) = try recall(row(sender: "bob")),
            case .failure(let missing) = try recall(nil, madeMS: 1, comesMS: 60_001, head: 4)
        else { throw TestFailure() }
        #expect(other.isCode(.forbidden) && missing.isCode(.notFound))
        guard case .failure(let late) = try recall(row(sender: "alice"), madeMS: 120_001) else { throw TestFailure() }
        #expect(late.isCode(.forbidden))
        var control = row(sender: "alice")
        control.control = true
        guard case .failure(let noMessage) = try recall(control) else { throw TestFailure() }
        #expect(noMessage.isCode(.forbidden), "a recall takes no recall back")
    }

    /// A store that has just come back shows an older head than clients have seen: no refusal for good by that.
    @Test func aRecallAboveTheHeadIsRetriedForAMinute() throws {
        guard case .failure(let young) = try recall(nil, madeMS: 1, comesMS: 60_000, head: 4) else {
            throw TestFailure()
        }
        #expect(young.isCode(.historyUnavailable) && young.retryable)
    }

    /// The first copy was taken and its answer lost: the same again has the same outcome, however late.
    @Test func aRecallSentAgainIsJudgedAsBefore() throws {
        // Stored: readers show the message as recalled, which is what the resend finds.
        var tombstone = row(sender: "alice")
        tombstone.control = true
        for comesMS in [61_000, 120_001, 5 * 24 * 3_600_000] as [UInt64] {
            let again = try recall(tombstone, madeMS: 60_000, comesMS: comesMS, recalled: [5]).get()
            #expect(again.clientMsgID == Sample.id(1, timeMS: 1_735_689_660_000) && again.targetSeq == 5)
        }
        // In the log, not yet in the store.
        #expect(try recall(row(sender: "alice"), madeMS: 120_000, comesMS: 180_000).get().control)
        // Nobody else gets in by that door.
        guard case .failure(let other) = try recall(row(sender: "bob"), recalled: [5]) else { throw TestFailure() }
        #expect(other.isCode(.forbidden))
    }

    /// Ids are the client's choice: one that claims to be old buys a minute; a clock that is ahead costs nothing.
    @Test func anIDIsBelievedForAMinute() throws {
        guard case .failure(let old) = try recall(row(sender: "alice"), madeMS: 1, comesMS: 180_001) else {
            throw TestFailure()
        }
        #expect(old.isCode(.forbidden))
        #expect(try recall(row(sender: "alice"), madeMS: 200_000, comesMS: 119_000).get().control)
    }

    // MARK: Typing

    @Test func typingGoesToTheOtherSide() throws {
        var script = script()
        var request = TypingRequest()
        request.conversation = Sample.conversation
        var call = try Sample.call([])
        call.method = 2
        call.orderKey = ""
        call.body = try request.serializedBytes()
        let (id, actions) = script.call(calls([call]))
        #expect(try replies(actions.answer(to: id)).first == ServiceReply())
        let told = script.flush()
        guard case .tell(.any(.pushProxy), .pushEvents(let body)) = told.first else { throw TestFailure() }
        #expect(body.events.count == 1 && body.events[0].users[0].userID == "bob")
        #expect(body.events[0].event.svid == 1 && body.events[0].event.name == "typing")
        #expect(try TypingEvent(serializedBytes: body.events[0].event.body).userID == "alice")
        for _ in 0..<20 { _ = script.call(calls([call])) }
        guard case .tell(_, .pushEvents(let more)) = script.flush().first else { throw TestFailure() }
        #expect(more.events.count == 3)
    }
}

/// A test came to a place where it cannot go on.
struct TestFailure: Error {}
