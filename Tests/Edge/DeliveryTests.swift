import NIOCore
import RPC
import Testing
import Wire

@testable import LoginRole

@Suite struct DeliveryTests {
    @Test func deliveredWhenAcknowledged() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice")
        let bob = try script.login(2, "bob")
        let call = script.deliver((1...2).map { LoginScript.delivery($0, to: [bob], from: [alice]) })
        // One notice for both, two pushes; ids from 1.
        let notices = script.takeFrames(1)
        #expect(notices.count == 1)
        guard case .seqNotice(1, let body)? = notices.first else { return }
        #expect(SeqNotice(body: body)?.stored.map(\.seq) == [1, 2])
        #expect(script.takeFrames(2).map(\.pushID) == [1, 2])
        #expect(script.takeHands(call) == nil)
        script.frame(2, .pushAck(pushID: 1))
        #expect(script.takeHands(call) == nil)
        script.frame(1, .pushAck(pushID: 1))
        script.frame(2, .pushAck(pushID: 2))
        let taken = script.takeHands(call)
        let hands = try #require(taken)
        #expect(hands.map(\.targets) == [[.delivered], [.delivered]])
        #expect(hands.map(\.senders) == [[.delivered], [.delivered]])
    }

    @Test func unknownSessionsAreNotHere() throws {
        var script = LoginScript()
        let call = script.deliver([LoginScript.delivery(1, to: ["login-0-99-x"])])
        #expect(script.takeHands(call)?.map(\.targets) == [[.notHere]])
    }

    @Test func repeatsDoubleUntilTheSessionIsCut() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        let call = script.deliver([LoginScript.delivery(1, to: [bob])])
        #expect(script.takeFrames(1).count == 1)
        var repeats: [UInt64] = []
        for tenth in 1...101 as ClosedRange<UInt64> {
            script.advance(ms: 100)
            let frames = script.takeFrames(1)
            if frames.contains(where: { $0.pushID == 1 }) { repeats.append(tenth * 100) }
            if let last = frames.last, case .error(let body) = last {
                #expect(Failure(body: body)?.isCode(.pushAckTimeout) == true)
                #expect(tenth == 100)
            }
        }
        #expect(repeats == [300, 900, 2100, 4500, 9300])
        #expect(script.takeHands(call)?.map(\.targets) == [[.notHere]])
        #expect(try script.takeCall(.online).payload.kind == 12)
    }

    @Test func slowClientsAreGivenTheirTimeBeforeARepeat() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        script.deliver([LoginScript.delivery(1, to: [bob])])
        _ = script.takeFrames(1)
        script.advance(ms: 200)
        script.frame(1, .pushAck(pushID: 1))
        script.deliver([LoginScript.delivery(2, to: [bob])])
        #expect(script.takeFrames(1).map(\.pushID) == [2])
        script.advance(ms: 300)
        #expect(script.takeFrames(1).isEmpty, "twice its 200 ms are not over")
        script.advance(ms: 100)
        #expect(script.takeFrames(1).map(\.pushID) == [2])
        // The time of what was repeated is not learned from: the next wait is no longer.
        script.advance(ms: 400)
        script.frame(1, .pushAck(pushID: 2))
        script.deliver([LoginScript.delivery(3, to: [bob])])
        #expect(script.takeFrames(1).map(\.pushID) == [3])
        script.advance(ms: 300)
        #expect(script.takeFrames(1).isEmpty)
        script.advance(ms: 100)
        #expect(script.takeFrames(1).map(\.pushID) == [3])
    }

    @Test func anAckStopsRepeats() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        script.deliver([LoginScript.delivery(1, to: [bob]), LoginScript.delivery(2, to: [bob])])
        script.frame(1, .pushAck(pushID: 1))
        _ = script.takeFrames(1)
        script.advance(ms: 300)
        #expect(script.takeFrames(1).map(\.pushID) == [2])
        script.frame(1, .pushAck(pushID: 2))
        script.advance(ms: 20_000)
        #expect(script.takeFrames(1).isEmpty)
    }

    @Test func impossibleAcks() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        script.deliver([LoginScript.delivery(1, to: [bob])])
        _ = script.takeFrames(1)
        script.frame(1, .pushAck(pushID: 1))
        script.frame(1, .pushAck(pushID: 1))
        script.frame(1, .pushAck(pushID: 0))
        #expect(script.takeFrames(1).isEmpty)
        script.frame(1, .pushAck(pushID: 2))
        #expect(try script.takeError(1).isCode(.unexpectedFrame))
    }

    @Test func aDeliveryInTheWindowIsJoined() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        let first = script.deliver([LoginScript.delivery(1, to: [bob])])
        let second = script.deliver([LoginScript.delivery(1, to: [bob])])
        #expect(script.takeFrames(1).map(\.pushID) == [1])
        script.frame(1, .pushAck(pushID: 1))
        #expect(script.takeHands(first)?.map(\.targets) == [[.delivered]])
        #expect(script.takeHands(second)?.map(\.targets) == [[.delivered]])
        // Acknowledged and gone: a later copy is another frame, which the client knows by its seq.
        script.deliver([LoginScript.delivery(1, to: [bob])])
        #expect(script.takeFrames(1).map(\.pushID) == [2])
    }

    @Test func aFullWindowSyncsLater() throws {
        var script = LoginScript { $0.pushWindow = 2 }
        let bob = try script.login(1, "bob")
        let call = script.deliver((1...3).map { LoginScript.delivery($0, to: [bob]) })
        #expect(script.takeFrames(1).count == 2)
        script.frame(1, .pushAck(pushID: 2))
        #expect(script.takeHands(call)?.map(\.targets) == [[.delivered], [.delivered], [.full]])
        let frames = script.takeFrames(1)
        #expect(frames.count == 1)
        guard case .syncNeeded(let body)? = frames.first else {
            Issue.record("\(frames)")
            return
        }
        #expect(SyncNeeded(body: body)?.reason == "window_full")
        script.deliver([LoginScript.delivery(4, to: [bob])])
        script.frame(1, .pushAck(pushID: 3))
        #expect(script.takeFrames(1).map(\.type) == [.push], "told once")
    }

    @Test func windowBytesAreBounded() throws {
        var script = LoginScript { $0.pushWindowBytes = 10 }
        let bob = try script.login(1, "bob")
        let call = script.deliver([LoginScript.delivery(1, to: [bob]), LoginScript.delivery(2, to: [bob])])
        script.frame(1, .pushAck(pushID: 1))
        #expect(script.takeHands(call)?.map(\.targets) == [[.delivered], [.full]])
    }

    @Test func aStuckConnectionGetsNoPushesAndIsCut() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        script.input(.writable(ConnectionID(1), false))
        #expect(script.takeOutputs() == [.reading(ConnectionID(1), false)])
        let call = script.deliver([LoginScript.delivery(1, to: [bob])])
        #expect(script.takeHands(call)?.map(\.targets) == [[.full]])
        script.input(.writable(ConnectionID(1), true))
        #expect(script.takeFrames(1).map(\.type) == [.syncNeeded])
        script.input(.writable(ConnectionID(1), false))
        script.advance(ms: 10_100)
        #expect(try script.takeError(1).isCode(.slowConsumer))
    }

    @Test func overflowCutsAtOnce() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        let call = script.deliver([LoginScript.delivery(1, to: [bob])])
        script.input(.overflow(ConnectionID(1)))
        #expect(script.takeOutputs() == [.abort(ConnectionID(1))])
        #expect(script.takeHands(call)?.map(\.targets) == [[.notHere]])
    }

    @Test func closingSettlesWhatWaits() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        let call = script.deliver([LoginScript.delivery(1, to: [bob], from: [bob])])
        script.input(.closed(ConnectionID(1)))
        let hands = script.takeHands(call)
        #expect(hands?.map(\.targets) == [[.notHere]] && hands?.map(\.senders) == [[.notHere]])
    }

    @Test func callsAreForgottenAfterTheirDeadline() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        let call = script.deliver([LoginScript.delivery(1, to: [bob])], deadlineMS: 1500)
        script.advance(ms: 2400)
        #expect(script.takeHands(call) == nil)
        script.advance(ms: 200)
        #expect(script.takeHands(call)?.map(\.targets) == [[.notHere]])
        script.frame(1, .pushAck(pushID: 1))
        #expect(script.replies.isEmpty)
    }

    @Test func traceIDsAreTraced() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        var delivery = LoginScript.delivery(1, to: [bob])
        delivery.traceID = "t-9"
        script.deliver([delivery])
        #expect(script.traces == ["t-9"])
    }

    @Test func eventsAreBestEffort() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        let eve = try script.login(2, "eve")
        script.input(.writable(ConnectionID(2), false))
        var item = EventItem()
        item.event.name = "typing"
        item.sessions = [bob, eve, "nobody"].map(LoginScript.ref)
        let call = script.call(.eventRequest(EventRequest.with { $0.items = [item] }))
        #expect(script.takeFrames(1).map(\.type) == [.event])
        let expected = EventResult.with { $0.sessions = [.delivered, .full, .notHere] }
        #expect(script.replies.first?.id == call)
        #expect(script.replies.first?.payload == .eventResponse(EventResponse.with { $0.results = [expected] }))
        script.advance(ms: 5000)
        #expect(script.takeFrames(1).isEmpty, "never repeated")
    }

    @Test func kicksSayWhy() throws {
        var script = LoginScript()
        let bob = try script.login(1, "bob")
        var item = KickItem()
        item.session = LoginScript.ref(bob)
        item.kick.code = ErrorCode.displaced.number
        _ = script.call(.kickRequest(KickRequest.with { $0.items = [item] }))
        script.flush()
        guard case .kick(let body)? = script.takeFrames(1).last else {
            Issue.record("no KICK")
            return
        }
        #expect(Kick(body: body)?.code == ErrorCode.displaced.number)
        #expect(script.takeOutputs() == [.finish(ConnectionID(1))])
        #expect(script.replies.first?.payload == .done(Done()))
        #expect(try script.takeCall(.online).payload.kind == 12)
    }

    // MARK: - Faults on purpose

    private func faulty(_ fault: LoginConfig.TestFault) throws -> (LoginScript, String) {
        var script = LoginScript { $0.testFault = { number, _ in number == 1 ? fault : .none } }
        let bob = try script.login(1, "bob")
        return (script, bob)
    }

    @Test func faultsDoWhatTheySay() throws {
        var (skip, bob) = try faulty(.skipFirstWrite)
        skip.deliver([LoginScript.delivery(1, to: [bob])])
        #expect(skip.takeFrames(1).isEmpty)
        skip.advance(ms: 300)
        #expect(skip.takeFrames(1).map(\.seq) == [1])

        var (drop, carol) = try faulty(.drop)
        let call = drop.deliver([LoginScript.delivery(1, to: [carol])])
        #expect(drop.takeFrames(1).isEmpty)
        #expect(drop.takeHands(call)?.map(\.targets) == [[.delivered]])

        var (swap, dave) = try faulty(.swapWithNext)
        swap.deliver([LoginScript.delivery(1, to: [dave])])
        swap.deliver([LoginScript.delivery(2, to: [dave])])
        #expect(swap.takeFrames(1).map(\.seq) == [2, 1])

        let other = PushedMessage.with {
            $0.conversation = "p:alice|bob"; $0.seq = 9
        }
        var (also, erin) = try faulty(.alsoSend(other))
        also.deliver([LoginScript.delivery(1, to: [erin])])
        #expect(also.takeFrames(1).map(\.seq) == [1, 9])

        var (instead, frank) = try faulty(.sendInstead(other))
        instead.deliver([LoginScript.delivery(1, to: [frank])])
        #expect(instead.takeFrames(1).map(\.seq) == [9])
    }
}
