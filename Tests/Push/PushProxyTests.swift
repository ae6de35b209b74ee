import PushProxyRole
import RPC
import Testing
import Wire

@Suite struct PushProxyTests {
    private func push(_ seqs: [UInt64], trace: String = "") -> Payload {
        var body = PushMessages()
        body.items = seqs.map { seq in
            var item = PushItem()
            item.partition = UInt32(seq % 4)
            item.record = Make.record(seq)
            item.record.traceID = trace
            return item
        }
        return .pushMessages(body)
    }

    private func appended(_ count: Int, failing: [Int: LogAppendResult] = [:]) -> CallResult {
        var body = LogAppended()
        body.results = (0..<count).map { failing[$0] ?? LogAppendResult() }
        return .answered(.logAppended(body))
    }

    @Test func oneAppendPerFlushAnsweredPerCallWhenAppended() throws {
        var driver = Driver(PushProxyMachine())
        let deadline = driver.micros + 5_000_000
        let actions = driver.turn(
            .call(CallID(1), push([1, 2], trace: "t"), deadline: deadline),
            .call(CallID(2), push([3]), deadline: deadline))
        #expect(actions.hops == ["pushproxy", "pushproxy"])
        let append = try #require(actions.calls(Kind.append).first)
        #expect(actions.calls.count == 1 && actions.replies.isEmpty)
        #expect(append.to == .any(.pushLog))
        guard case .logAppend(let body) = append.payload else { return }
        #expect(body.log == "push" && body.entries.map(\.partition) == [1, 2, 3])
        #expect(body.entries.map(\.traceID) == ["t", "t", ""], "the log traces its own hop")
        let third = PushRecordDecoding.seq(body.entries[2].record)
        #expect(third == 3)
        let after = driver.turn(.reply(append.token, appended(3)))
        #expect(after.replies.map(\.id) == [1, 2])
        #expect(after.replies.allSatisfy { $0.payload == .done(Done()) })
        #expect(driver.machine.waiting.records == 0)
    }

    @Test func failuresAreGivenPerItemAndOnlyToTheCallConcerned() throws {
        var driver = Driver(PushProxyMachine())
        let deadline = driver.micros + 5_000_000
        let actions = driver.turn(
            .call(CallID(1), push([1]), deadline: deadline), .call(CallID(2), push([2, 3]), deadline: deadline))
        var bad = LogAppendResult()
        bad.unknown = true
        let append = try #require(actions.calls(Kind.append).first)
        let after = driver.turn(.reply(append.token, appended(3, failing: [2: bad])))
        #expect(after.replies[0].payload == .done(Done()))
        guard case .done(let done) = after.replies[1].payload else { return }
        #expect(done.failures.map(\.code) == [0, ErrorCode.outcomeUnknown.number])
    }

    @Test func refusedAndUnknownAppendsArePassedOn() throws {
        var driver = Driver(PushProxyMachine())
        let first = try #require(driver.call(1, push([1])).calls(Kind.append).first)
        let refused = driver.turn(.reply(first.token, down))
        #expect(refused.refusals.map(\.id) == [1])
        let second = try #require(driver.call(2, push([2])).calls(Kind.append).first)
        guard case .done(let done)? = driver.turn(.reply(second.token, broken)).replies.first?.payload else {
            Issue.record("no answer")
            return
        }
        #expect(done.failures.map(\.code) == [ErrorCode.outcomeUnknown.number])
    }

    @Test func boundedAndOverloadedBeyond() {
        var config = PushProxyConfig()
        config.maxWaitingRecords = 2
        var driver = Driver(PushProxyMachine(config: config))
        #expect(driver.call(1, push([1, 2])).refusals.isEmpty)
        let refusal = driver.call(2, push([3])).refusals.first
        #expect(refusal?.failure.isCode(.overloaded) == true)
    }

    @Test func theFaultSwallowsOneCallOnly() {
        var config = PushProxyConfig()
        config.dropOnce = 1
        var driver = Driver(PushProxyMachine(config: config))
        #expect(driver.call(1, push([1])).isEmpty)
        #expect(driver.call(2, push([1])).calls(Kind.append).count == 1)
    }

    @Test func eventsGoOncePerLoginAndAnswerOneHandPerDevice() throws {
        var driver = Driver(PushProxyMachine())
        var alice = UserKey()
        alice.appID = "demo"
        alice.userID = "alice"
        var bob = alice
        bob.userID = "bob"
        var event = PushEvent()
        event.users = [alice, bob]
        event.event.name = "typing"
        event.notSession = "s2"
        var other = PushEvent()
        other.users = [bob]
        other.event.name = "state"
        var body = PushEvents()
        body.events = [event, other]
        let lookup = try #require(driver.call(9, .pushEvents(body)).calls(Kind.lookup).first)
        #expect(lookup.payload.lookedUp == ["alice", "bob"])
        let found = Make.lookup([
            [Make.registration("alice", "s1", login: "L1"), Make.registration("alice", "s2", login: "L2")],
            [Make.registration("bob", "s3", login: "L2")],
        ])
        let sent = driver.turn(.reply(lookup.token, found)).calls(Kind.event)
        #expect(sent.map(\.to) == [.any(.route), .any(.route)])
        let requests = sent.compactMap { call -> EventRequest? in
            if case .eventRequest(let body) = call.payload { body } else { nil }
        }
        #expect(requests.map(\.loginID) == ["L1", "L2"])
        #expect(requests[1].items.map { $0.sessions.map(\.sessionID) } == [["s3"], ["s3"]])
        var answer = EventResponse()
        var hand = EventResult()
        hand.sessions = [.full]
        var ok = EventResult()
        ok.sessions = [.delivered]
        answer.results = [ok, hand]
        #expect(driver.turn(.reply(sent[1].token, .answered(.eventResponse(answer)))).replies.isEmpty)
        let end = driver.turn(.reply(sent[0].token, broken))
        guard case .pushEventResults(let results)? = end.replies.first?.payload else {
            Issue.record("no answer")
            return
        }
        #expect(results.results.map(\.sessions) == [[.notHere, .delivered], [.full]])
        #expect(driver.machine.waiting.events == 0)
    }

    @Test func eventsForNobodyOnlineAreAnsweredAtOnceAndALostLookupIsARefusal() throws {
        var driver = Driver(PushProxyMachine())
        var event = PushEvent()
        event.users = [UserKey()]
        var body = PushEvents()
        body.events = [event]
        let lookup = try #require(driver.call(1, .pushEvents(body)).calls(Kind.lookup).first)
        let answered = driver.turn(.reply(lookup.token, Make.lookup([[]])))
        #expect(answered.replies.count == 1 && answered.calls.isEmpty)
        let second = try #require(driver.call(2, .pushEvents(body)).calls(Kind.lookup).first)
        #expect(driver.turn(.reply(second.token, broken)).refusals.map(\.id) == [2])
    }

    @Test func whatIsNotItsOwnIsRefused() {
        var driver = Driver(PushProxyMachine())
        #expect(driver.call(1, .done(Done())).refusals.first?.failure.isCode(.noSuchMethod) == true)
    }
}
