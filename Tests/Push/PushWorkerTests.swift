import RPC
import Testing
import Wire

@testable import PushWorkerRole

@Suite struct PushWorkerTests {
    private func worker(_ change: (inout PushWorkerConfig) -> Void = { _ in }) -> Driver<PushWorkerMachine> {
        var config = PushWorkerConfig()
        change(&config)
        return Driver(PushWorkerMachine(config: config))
    }

    private func answer(_ actions: [Action]) -> [[[Hand]]]? {
        guard case .workerDone(let body)? = actions.replies.first?.payload else { return nil }
        return body.batches.map { $0.results.map { $0.targets + $0.senders } }
    }

    @Test func handsOverAndAnswersWhenEveryTargetIsSettled() throws {
        var driver = worker()
        let plan = Make.plan([
            (0, "L1", [Make.delivery(1, to: ["s1"], senders: ["sa"]), Make.delivery(2, to: ["s1", "s2"])]),
            (0, "L2", [Make.delivery(1, to: ["s3"])]),
        ])
        let sent = driver.call(1, plan).calls(Kind.deliver)
        #expect(sent.map(\.to) == [.any(.route), .any(.route)])
        #expect(sent.map(\.payload.seqs) == [[1, 2], [1]])
        let first = driver.turn(
            .reply(sent[0].token, Make.hands([([.delivered], [.delivered]), ([.delivered, .full], [])])))
        #expect(first.replies.isEmpty)
        let end = driver.turn(.reply(sent[1].token, Make.hands([([.delivered], [])])))
        #expect(answer(end) == [[[.delivered, .delivered], [.delivered, .full]], [[.delivered]]])
        #expect(driver.machine.held.deliveries == 0 && driver.machine.held.bytes == 0)
    }

    @Test func aLaneDoesNotWaitForAnswersAndKeepsItsOrder() {
        var driver = worker()
        let first = driver.call(1, Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"])])])).calls(Kind.deliver)
        let second = driver.call(2, Make.plan([(0, "L1", [Make.delivery(2, to: ["s1"])])])).calls(Kind.deliver)
        #expect(first.map(\.payload.seqs) == [[1]] && second.map(\.payload.seqs) == [[2]])
    }

    @Test(arguments: [down, broken])
    func aFailedHandOverHoldsItsLaneAndIsRepeatedFirst(_ end: CallResult) throws {
        var driver = worker()
        let first = try #require(
            driver.call(1, Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"])])])).calls(Kind.deliver).first)
        #expect(driver.turn(.reply(first.token, end)).calls(Kind.deliver).isEmpty)
        // Behind it, the same lane waits; another Login's does not.
        let more = Make.plan([(0, "L1", [Make.delivery(2, to: ["s1"])]), (0, "L2", [Make.delivery(2, to: ["s3"])])])
        #expect(driver.call(2, more).calls(Kind.deliver).map(\.payload.seqs) == [[2]])
        #expect(driver.wait(250).calls(Kind.deliver).isEmpty)
        let again = driver.wait(60).calls(Kind.deliver)
        #expect(again.map(\.payload.seqs) == [[1, 2]])
        // A second failure waits twice as long.
        _ = driver.turn(.reply(again[0].token, end))
        #expect(driver.wait(550).calls(Kind.deliver).isEmpty)
        let third = try #require(driver.wait(60).calls(Kind.deliver).first)
        let hands = Make.hands([([.delivered], []), ([.delivered], [])])
        #expect(driver.turn(.reply(third.token, hands)).replies.map(\.id) == [1])
        // Settled: the lane is free again.
        let after = driver.call(3, Make.plan([(0, "L1", [Make.delivery(3, to: ["s1"])])])).calls(Kind.deliver)
        #expect(after.map(\.payload.seqs) == [[3]])
    }

    @Test func aSlowSessionDelaysNobodyElse() throws {
        var driver = worker()
        let both = Make.plan([(0, "L1", [Make.delivery(1, to: ["slow"]), Make.delivery(2, to: ["s2"])])])
        let first = try #require(driver.call(1, both).calls(Kind.deliver).first)
        driver.micros += 1_500_000
        _ = driver.turn(.reply(first.token, late))
        // Not held, and each is repeated by itself.
        let other = driver.call(2, Make.plan([(0, "L1", [Make.delivery(3, to: ["s2"])])])).calls(Kind.deliver)
        #expect(other.map(\.payload.seqs) == [[3]])
        let alone = driver.wait(320).calls(Kind.deliver)
        #expect(alone.map(\.payload.seqs) == [[1], [2]])
        #expect(driver.turn(.reply(alone[1].token, Make.hands([([.delivered], [])]))).replies.isEmpty)
        // Alone and late again: from now on what goes to that session travels alone.
        _ = driver.turn(.reply(alone[0].token, late))
        let mixed = Make.plan([(0, "L1", [Make.delivery(4, to: ["slow"]), Make.delivery(5, to: ["s2"])])])
        #expect(driver.call(3, mixed).calls(Kind.deliver).map(\.payload.seqs) == [[4], [5]])
    }

    @Test func notHereIsLookedUpOnceAndANewerRegistrationGetsIt() throws {
        var driver = worker()
        let plan = Make.plan([(3, "L1", [Make.delivery(1, to: ["old", "s2"], senders: ["sa"])])])
        let first = try #require(driver.call(1, plan).calls(Kind.deliver).first)
        let hands = Make.hands([([.notHere, .delivered], [.delivered])])
        let lookup = try #require(driver.turn(.reply(first.token, hands)).calls(Kind.lookup).first)
        #expect(lookup.payload.lookedUp == ["bob"])
        let found = Make.lookup([
            [
                Make.registration("bob", "old", login: "L1", epoch: 1),
                Make.registration("bob", "new", login: "L7", epoch: 2),
            ]
        ])
        let next = try #require(driver.turn(.reply(lookup.token, found)).calls(Kind.deliver).first)
        guard case .deliverRequest(let body) = next.payload else { return }
        #expect(body.loginID == "L7")
        #expect(body.deliveries.map { $0.targets.map(\.sessionID) } == [["new"]])
        #expect(body.deliveries[0].senders.isEmpty)
        let end = driver.turn(.reply(next.token, Make.hands([([.delivered], [])])))
        #expect(answer(end) == [[[.delivered, .delivered, .delivered]]])
    }

    @Test func notHereWithoutANewerRegistrationIsDoneAndTheSecondOneIsFinal() throws {
        var driver = worker()
        let plan = Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"])])])
        let first = try #require(driver.call(1, plan).calls(Kind.deliver).first)
        let gone = Make.hands([([.notHere], [])])
        let lookup = try #require(driver.turn(.reply(first.token, gone)).calls(Kind.lookup).first)
        #expect(answer(driver.turn(.reply(lookup.token, Make.lookup([[]])))) == [[[.notHere]]])
        let second = try #require(driver.call(2, plan).calls(Kind.deliver).first)
        let again = try #require(driver.turn(.reply(second.token, gone)).calls(Kind.lookup).first)
        let moved = Make.lookup([[Make.registration("bob", "s9", login: "L2", epoch: 5)]])
        let redirected = try #require(driver.turn(.reply(again.token, moved)).calls(Kind.deliver).first)
        let end = driver.turn(.reply(redirected.token, gone))
        #expect(end.calls(Kind.lookup).isEmpty && answer(end) == [[[.notHere]]])
    }

    @Test func whatOnlineCannotTellGoesBackUnsettled() throws {
        var driver = worker()
        let plan = Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"]), Make.delivery(2, to: ["s2"])])])
        let first = try #require(driver.call(1, plan).calls(Kind.deliver).first)
        let hands = Make.hands([([.notHere], []), ([.delivered], [])])
        let lookup = try #require(driver.turn(.reply(first.token, hands)).calls(Kind.lookup).first)
        #expect(driver.turn(.reply(lookup.token, Make.lookup([nil]))).replies.isEmpty)
        #expect(answer(driver.wait(4600)) == [[[], [.delivered]]])
        #expect(driver.machine.held.deliveries == 0)
    }

    @Test func aPlanIsAnsweredBeforeItsCallerGivesUp() throws {
        var driver = worker()
        let sent = try #require(
            driver.call(1, Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"])])])).calls(Kind.deliver).first)
        #expect(driver.wait(1000).replies.isEmpty)
        _ = driver.turn(.reply(sent.token, late))
        var end: [Action] = []
        while end.replies.isEmpty { end = driver.wait(100) }
        #expect(answer(end) == [[[]]])
        #expect(driver.micros <= 1_000_000 + 4_700_000)
        // Nothing of it is repeated any more.
        #expect(driver.wait(5000).calls(Kind.deliver).isEmpty)
    }

    /// Its lane may be held at that moment, and no later event has to come.
    @Test func nothingStaysBehindTheLastPlan() throws {
        var driver = worker()
        let plan = Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"])]), (1, "L1", [Make.delivery(2, to: ["s2"])])])
        let sent = try #require(driver.call(1, plan).calls(Kind.deliver).first)
        driver.micros += 4_400_000
        #expect(driver.turn(.reply(sent.token, down)).replies.isEmpty)
        #expect(!driver.machine.lanes.isEmpty)
        #expect(driver.wait(200).replies.count == 1)
        #expect(driver.machine.lanes.isEmpty && driver.machine.alone.isEmpty && driver.machine.touched.isEmpty)
    }

    @Test func boundedByDeliveriesAndByBytes() {
        var driver = worker { $0.maxDeliveries = 2 }
        let two = Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"]), Make.delivery(2, to: ["s1"])])])
        #expect(driver.call(1, two).refusals.isEmpty)
        #expect(driver.call(2, two).refusals.first?.failure.isCode(.overloaded) == true)
        var tight = worker { $0.maxBytes = 3 }
        #expect(tight.call(1, two).refusals.first?.failure.isCode(.overloaded) == true)
    }

    @Test func aLostDeliveryHealsByItself() throws {
        var driver = worker { $0.dropOnce = 1 }
        #expect(driver.call(1, Make.plan([(0, "L1", [Make.delivery(1, to: ["s1"])])])).calls(Kind.deliver).isEmpty)
        var again: [(token: UInt64, to: Address, payload: Payload)] = []
        for _ in 0..<30 where again.isEmpty { again = driver.wait(100).calls(Kind.deliver) }
        let second = try #require(again.first)
        let end = driver.turn(.reply(second.token, Make.hands([([.delivered], [])])))
        #expect(answer(end) == [[[.delivered]]])
    }

    @Test func requestsAreCutToTheirLimit() {
        var driver = worker { $0.requestDeliveries = 2 }
        let plan = Make.plan([(0, "L1", (1...5).map { Make.delivery($0, to: ["s1"]) })])
        #expect(driver.call(1, plan).calls(Kind.deliver).map(\.payload.seqs) == [[1, 2], [3, 4], [5]])
    }
}
