import Foundation
import RPC
import Testing
import Wire

@testable import PushServerRole

@Suite struct PushServerTests {
    private let alice = Make.registration("alice", "sa", login: "L1")
    private let alicePhone = Make.registration("alice", "sp", login: "L2")
    private let bob = Make.registration("bob", "sb", login: "L1")

    /// A member with partitions 0 and 1 from offset 10 and a fetch under way; its token.
    private func started(
        _ change: (inout PushServerConfig) -> Void = { _ in }
    ) throws -> (Driver<PushServerMachine>, UInt64) {
        var config = PushServerConfig(member: "ps-1")
        change(&config)
        var driver = Driver(PushServerMachine(config: config))
        let join = try #require(driver.turn(.start).calls(Kind.fetch).first)
        guard case .logFetch(let body) = join.payload else { throw Unexpected() }
        #expect(body.group == "pushserver" && body.log == "push" && body.generation == 0)
        let assigned = [Make.position(0, 10), Make.position(1, 10)]
        let next = driver.turn(.reply(join.token, Make.fetched(generation: 3, assigned: assigned))).calls(Kind.fetch)
        let fetch = try #require(next.first)
        #expect(fetch.payload.fetchedPositions == [0: 10, 1: 10])
        return (driver, fetch.token)
    }

    /// Records 1, 2, ... for bob alone, in partition 0 from offset 10.
    private func forBob(_ count: UInt64) -> [(UInt32, UInt64, PushRecord)] {
        (0..<count).map { (0, 10 + $0, Make.record($0 + 1, members: ["bob"])) }
    }

    private struct Unexpected: Error {}

    @Test func leavesItsGroupWhenItIsToldTo() throws {
        var (driver, fetch) = try started()
        let leave = driver.turn(.call(CallID(9), .logLeave(LogLeave()), deadline: .max)).calls(Kind.leave)
        let made = try #require(leave.first)
        guard case .logLeave(let body) = made.payload else { throw Unexpected() }
        #expect([body.log, body.group, body.member] == ["push", "pushserver", "ps-1"])
        // The parked fetch is answered by the leaving, and must not be the way back in.
        #expect(driver.turn(.reply(fetch, Make.fetched(generation: 3))).calls(Kind.fetch).isEmpty)
        let done = driver.turn(.reply(made.token, .answered(.done(Done()))))
        #expect(done.replies.map(\.id) == [9])
        #expect(driver.wait(20_000, timer: 2).calls(Kind.fetch).isEmpty)
    }

    @Test func fetchLookUpPlanSettleCommit() throws {
        var (driver, fetch) = try started()
        var traced = Make.record(2)
        traced.traceID = "t"
        let entries: [(UInt32, UInt64, PushRecord)] = [(0, 10, Make.record(1)), (0, 11, traced)]
        var actions = driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries)))
        #expect(actions.hops == ["pushserver"])
        // Fetching goes on while both are unsettled.
        #expect(actions.calls(Kind.fetch).first?.payload.fetchedPositions == [0: 12, 1: 10])
        let lookup = try #require(actions.calls(Kind.lookup).first)
        #expect(lookup.payload.lookedUp == ["alice", "bob"])
        if case .lookupRequest(let request) = lookup.payload { #expect(request.traceIds == ["t"]) }
        actions = driver.turn(.reply(lookup.token, Make.lookup([[alice, alicePhone], [bob]])))
        #expect(actions.hops.isEmpty, "Online traces its own hop")
        let plan = try #require(actions.calls(Kind.plan).first)
        #expect(actions.calls(Kind.plan).count == 1)
        guard case .workerPlan(let body) = plan.payload else { return }
        #expect(body.batches.map(\.loginID) == ["L1", "L2"])
        #expect(body.batches[0].deliveries.map { $0.senders.map(\.sessionID) } == [["sa"], ["sa"]])
        #expect(body.batches[0].deliveries.map { $0.targets.map(\.sessionID) } == [["sb"], ["sb"]])
        #expect(body.batches[1].deliveries.map { $0.targets.map(\.sessionID) } == [["sp"], ["sp"]])
        #expect(driver.wait(200).calls(Kind.commit).isEmpty)
        let commit = driver.turn(.reply(plan.token, Make.done(plan.payload))).calls(Kind.commit)
        #expect(commit.first?.payload.committed == [0: 12])
        #expect(driver.machine.unsettled == 0)
    }

    @Test func thePositionMovesOnlyOverTheSettledPrefix() throws {
        var (driver, fetch) = try started { $0.planDeliveries = 1 }
        let entries = forBob(3)
        let lookup = try #require(
            driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries))).calls(Kind.lookup).first)
        let plans = driver.turn(.reply(lookup.token, Make.lookup([[bob]]))).calls(Kind.plan)
        #expect(plans.map(\.payload.seqs) == [[1], [2], [3]])
        _ = driver.turn(.reply(plans[1].token, Make.done(plans[1].payload)))
        _ = driver.turn(.reply(plans[2].token, Make.done(plans[2].payload)))
        #expect(driver.machine.positions == [0: 10, 1: 10])
        driver.micros += 500_000
        let commit = driver.turn(.reply(plans[0].token, Make.done(plans[0].payload))).calls(Kind.commit)
        #expect(commit.first?.payload.committed == [0: 13])
        // A commit that is not confirmed is made again.
        let again = driver.turn(.reply(commit[0].token, broken)) + driver.wait(150)
        #expect(again.calls(Kind.commit).first?.payload.committed == [0: 13])
    }

    @Test func unknownPresenceWaitsAndOnlyForTheUserConcerned() throws {
        var (driver, fetch) = try started()
        let lookup = try #require(
            driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: [(0, 10, Make.record(1))])))
                .calls(Kind.lookup).first)
        let plan = try #require(driver.turn(.reply(lookup.token, Make.lookup([[alice], nil]))).calls(Kind.plan).first)
        _ = driver.turn(.reply(plan.token, Make.done(plan.payload)))
        #expect(driver.machine.positions[0] == 10)
        #expect(driver.wait(100).calls(Kind.lookup).isEmpty)
        let again = try #require((driver.wait(200) + driver.wait(100)).calls(Kind.lookup).first)
        #expect(again.payload.lookedUp == ["bob"])
        let second = try #require(driver.turn(.reply(again.token, Make.lookup([[bob]]))).calls(Kind.plan).first)
        _ = driver.turn(.reply(second.token, Make.done(second.payload)))
        #expect(driver.machine.positions[0] == 11)
    }

    @Test(arguments: [down, broken, CallResult.answered(.done(Done()))])
    func aFailedPlanIsLookedUpAfreshAndAMoreRecentRegistrationIsUsed(_ end: CallResult) throws {
        var (driver, fetch) = try started()
        let entries: [(UInt32, UInt64, PushRecord)] = [(0, 10, Make.record(1, members: ["bob"]))]
        let lookup = try #require(
            driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries))).calls(Kind.lookup).first)
        let plan = try #require(driver.turn(.reply(lookup.token, Make.lookup([[bob]]))).calls(Kind.plan).first)
        _ = driver.turn(.reply(plan.token, end))
        let again = try #require((driver.wait(300) + driver.wait(100)).calls(Kind.lookup).first)
        let moved = Make.registration("bob", "sb2", login: "L9", epoch: 2)
        let second = try #require(driver.turn(.reply(again.token, Make.lookup([[moved]]))).calls(Kind.plan).first)
        guard case .workerPlan(let body) = second.payload else { return }
        #expect(body.batches.map(\.loginID) == ["L9"])
        _ = driver.turn(.reply(second.token, Make.done(second.payload)))
        #expect(driver.machine.positions[0] == 11)
    }

    @Test func deliveriesWithoutHandsAreNotSettled() throws {
        var (driver, fetch) = try started()
        let entries = forBob(2)
        let lookup = try #require(
            driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries))).calls(Kind.lookup).first)
        let plan = try #require(driver.turn(.reply(lookup.token, Make.lookup([[bob]]))).calls(Kind.plan).first)
        _ = driver.turn(.reply(plan.token, Make.done(plan.payload, except: [2])))
        #expect(driver.machine.positions[0] == 11 && driver.machine.unsettled == 1)
        let again = try #require((driver.wait(300) + driver.wait(100)).calls(Kind.lookup).first)
        let second = try #require(driver.turn(.reply(again.token, Make.lookup([[bob]]))).calls(Kind.plan).first)
        #expect(second.payload.seqs == [2])
    }

    @Test func repeatsBackOffByDoubling() throws {
        var (driver, fetch) = try started()
        let first = driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: [(0, 10, Make.record(1))])))
        var lookup = try #require(first.calls(Kind.lookup).first)
        var waits: [UInt64] = []
        for _ in 0..<7 {
            _ = driver.turn(.reply(lookup.token, broken))
            let from = driver.micros
            var next: [(token: UInt64, to: Address, payload: Payload)] = []
            while next.isEmpty { next = driver.wait(50).calls(Kind.lookup) }
            waits.append((driver.micros - from) / 1000)
            lookup = next[0]
        }
        for (wait, least) in zip(waits, [300, 600, 1200, 2400, 4800, 5000, 5000] as [UInt64]) {
            #expect(wait >= least && wait <= least + 150)
        }
    }

    @Test func theWindowIsBoundedAndOtherPartitionsGoOn() throws {
        var (driver, fetch) = try started { $0.windowRecords = 4 }
        let entries = forBob(6)
        let actions = driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries)))
        #expect(driver.machine.unsettled == 4)
        #expect(actions.calls(Kind.fetch).first?.payload.fetchedPositions == [1: 10])
        let lookup = try #require(actions.calls(Kind.lookup).first)
        let plan = try #require(driver.turn(.reply(lookup.token, Make.lookup([[bob]]))).calls(Kind.plan).first)
        _ = driver.turn(.reply(plan.token, Make.done(plan.payload)))
        let parked = try #require(actions.calls(Kind.fetch).first)
        let next = driver.turn(.reply(parked.token, Make.fetched(generation: 3))).calls(Kind.fetch).first
        #expect(next?.payload.fetchedPositions == [0: 14, 1: 10])
    }

    @Test func aRebalanceKeepsWhatStaysAndForgetsWhatGoes() throws {
        var (driver, fetch) = try started()
        let entries: [(UInt32, UInt64, PushRecord)] = [(0, 10, Make.record(1)), (1, 10, Make.record(2))]
        let actions = driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries)))
        let parked = try #require(actions.calls(Kind.fetch).first)
        let moved = Make.fetched(generation: 4, assigned: [Make.position(1, 10), Make.position(2, 5)])
        let next = driver.turn(.reply(parked.token, moved)).calls(Kind.fetch).first
        #expect(next?.payload.fetchedPositions == [1: 11, 2: 5])
        let lookup = try #require(actions.calls(Kind.lookup).first)
        let plans = driver.turn(.reply(lookup.token, Make.lookup([[alice], [bob]]))).calls(Kind.plan)
        #expect(plans.map(\.payload.seqs) == [[2]])
        guard case .logFetch(let body)? = next?.payload else { return }
        #expect(body.generation == 4)
    }

    @Test func anotherIncarnationStartsOver() throws {
        var (driver, fetch) = try started()
        let actions = driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: [(0, 10, Make.record(1))])))
        let parked = try #require(actions.calls(Kind.fetch).first)
        let replaced = driver.turn(.reply(parked.token, Make.fetched(generation: 3, incarnation: 8)))
        let join = try #require(replaced.calls(Kind.fetch).first)
        guard case .logFetch(let body) = join.payload else { return }
        #expect(body.generation == 0 && driver.machine.unsettled == 0)
        let assigned = Make.fetched(generation: 3, assigned: [Make.position(0, 0)], incarnation: 8)
        #expect(driver.turn(.reply(join.token, assigned)).calls(Kind.fetch).first?.payload.fetchedPositions == [0: 0])
    }

    @Test func anUnreachableLogIsTriedAgainAfterAPause() throws {
        var (driver, fetch) = try started()
        let failed = driver.turn(.reply(fetch, down))
        #expect(failed.calls(Kind.fetch).isEmpty)
        #expect(failed.contains(.timer(2, afterMS: 300)))
        #expect(driver.wait(300, timer: 2).calls(Kind.fetch).count == 1)
    }

    @Test func aRecordThatDoesNotDecodeIsPassedOverWithAWarning() throws {
        var (driver, fetch) = try started()
        var body = LogFetched()
        body.generation = 3
        body.incarnation = 7
        var entry = LogEntry()
        entry.partition = 0
        entry.offset = 10
        entry.record = Data([0xff, 0xff, 0xff])
        body.entries = [entry]
        let actions = driver.turn(.reply(fetch, .answered(.logFetched(body))))
        #expect(actions.contains { if case .warn = $0 { true } else { false } })
        #expect(driver.machine.positions[0] == 11)
    }

    @Test func aLostPlanHealsByItself() throws {
        var (driver, fetch) = try started { $0.dropOnce = 1 }
        let entries: [(UInt32, UInt64, PushRecord)] = [(0, 10, Make.record(1, members: ["bob"]))]
        let lookup = try #require(
            driver.turn(.reply(fetch, Make.fetched(generation: 3, entries: entries))).calls(Kind.lookup).first)
        #expect(driver.turn(.reply(lookup.token, Make.lookup([[bob]]))).calls(Kind.plan).isEmpty)
        var again: [(token: UInt64, to: Address, payload: Payload)] = []
        for _ in 0..<70 where again.isEmpty { again = driver.wait(100).calls(Kind.lookup) }
        let second = try #require(again.first)
        #expect(driver.turn(.reply(second.token, Make.lookup([[bob]]))).calls(Kind.plan).count == 1)
    }
}
