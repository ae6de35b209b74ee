import Foundation
import Ports
import RPC
import TestKit
import Testing
import Wire

@testable import KafkaLog

/// The decisions of the log in Kafka, event by event.
@Suite struct KafkaMachineTests {
    typealias Script = MachineScript<KafkaLogMachine>
    typealias Action = RoleAction<KafkaCommand>
    let id = MemberID(group: "g", member: "m", life: 1)

    func script(_ change: (inout KafkaLimits) -> Void = { _ in }) -> Script {
        var limits = KafkaLimits()
        change(&limits)
        return Script(KafkaLogMachine(log: "msg", partitions: 4, incarnation: 5, limits: limits))
    }

    func append(_ texts: [(UInt32, String)]) -> Payload {
        var request = LogAppend()
        request.log = "msg"
        request.entries = texts.map(MessageLogContract.entry)
        return .logAppend(request)
    }

    func fetch(_ generation: UInt64, _ positions: [LogPosition] = [], wait: UInt32 = 1000) -> Payload {
        var request = LogFetch()
        request.log = "msg"
        request.group = "g"
        request.member = "m"
        request.generation = generation
        request.positions = positions
        request.maxBytes = 1 << 20
        request.waitMs = wait
        return .logFetch(request)
    }

    func at(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        MessageLogContract.position(partition, offset)
    }

    func outputs(_ actions: [Action]) -> [KafkaCommand] {
        actions.compactMap { if case .output(let command) = $0 { command } else { nil } }
    }

    func fetched(_ id: CallID, _ actions: [Action]) throws -> LogFetched {
        guard case .answered(.logFetched(let body)) = Script.answer(to: id, in: actions) else {
            Issue.record("no records in \(actions)")
            return LogFetched()
        }
        return body
    }

    func results(_ id: CallID, _ actions: [Action]) -> [LogAppendResult]? {
        guard case .answered(.logAppended(let body)) = Script.answer(to: id, in: actions) else { return nil }
        return body.results
    }

    func refusal(_ id: CallID, _ actions: [Action]) -> UInt32? {
        if case .refused(let failure) = Script.answer(to: id, in: actions) { return failure.code }
        return nil
    }

    func stored(_ slot: UInt64, _ offset: UInt64) -> KafkaReport {
        KafkaReport(slot: slot, fate: .stored(offset: offset))
    }

    func facts(_ ends: [UInt64], committed: [UInt64?] = [], start: UInt64 = 0) -> [PartitionFacts] {
        ends.enumerated().map { index, end in
            PartitionFacts(
                partition: UInt32(index), start: start, end: end,
                committed: index < committed.count ? committed[index] : nil)
        }
    }

    func ticket(_ actions: [Action]) throws -> UInt64 {
        for case .ask(_, let ticket, _) in outputs(actions) { return ticket }
        Issue.record("nothing is asked in \(actions)")
        return 0
    }

    /// Joins with both partitions of a log of which two are given; the share's answer, and where reading began.
    func join(
        _ script: inout Script, ends: [UInt64] = [0, 0], committed: [UInt64?] = []
    ) throws -> (share: LogFetched, places: [KafkaPlace]) {
        let (call, actions) = script.call(fetch(0))
        #expect(outputs(actions) == [.join(id)])
        let asked = script.event(.input(.assigned(id, Array(0..<UInt32(ends.count)))))
        let ticket = try ticket(asked)
        let begun = script.event(.input(.facts(id, ticket: ticket, .success(facts(ends, committed: committed)))))
        for case .assign(_, let places) in outputs(begun) { return (try fetched(call, begun), places) }
        Issue.record("nothing is assigned in \(begun)")
        return (LogFetched(), [])
    }

    func run(_ place: KafkaPlace, _ offsets: Range<UInt64>, bytes: Int = 1) -> KafkaRun {
        let text = String(repeating: "x", count: bytes)
        let entries = offsets.map { offset in
            var entry = MessageLogContract.entry(place.partition, text)
            entry.offset = offset
            return entry
        }
        return KafkaRun(partition: place.partition, version: place.version, entries: entries, end: offsets.upperBound)
    }

    /// A record went through every partition: the brokers know the producer.
    func warm(_ script: inout Script) {
        _ = script.call(append((0..<4).map { ($0, "first") }))
        _ = script.event(.flush)
        _ = script.event(.input(.reports((0..<4).map { stored($0, 0) })))
    }

    // MARK: Appending

    @Test func theFirstRecordOfAProducerTravelsAlone() {
        var script = script()
        _ = script.call(append([(0, "a"), (0, "b"), (1, "c")]))
        guard case .produce(let first)? = outputs(script.event(.flush)).first else {
            Issue.record("nothing is produced")
            return
        }
        #expect(first.map(\.slot) == [0, 2])
        _ = script.call(append([(0, "d")]))
        #expect(outputs(script.event(.flush)).isEmpty, "it waits behind the first")
        guard case .produce(let rest)? = outputs(script.event(.input(.reports([stored(0, 0)])))).first else {
            Issue.record("what waited does not go")
            return
        }
        #expect(rest.map(\.slot) == [1, 3])
        _ = script.call(append([(0, "e"), (0, "f")]))
        guard case .produce(let open)? = outputs(script.event(.flush)).first else {
            Issue.record("nothing is produced")
            return
        }
        #expect(open.count == 2)
        script.advance(ms: 600_000)
        _ = script.call(append([(0, "g"), (0, "h")]))
        guard case .produce(let late)? = outputs(script.event(.flush)).first else {
            Issue.record("nothing is produced")
            return
        }
        #expect(late.count == 1, "brokers may have forgotten the producer")
    }

    @Test func whatWaitsBehindAFirstRecordFailsWithIt() {
        var script = script()
        let (id, _) = script.call(append([(0, "a"), (0, "b")]))
        let (other, _) = script.call(append([(0, "c")]))
        _ = script.event(.flush)
        let failed = KafkaReport(slot: 0, fate: .unknown(Failure(.outcomeUnknown, "x")))
        let actions = script.event(.input(.reports([failed])))
        #expect(results(id, actions)?.map(\.hasFailure) == [true, true])
        #expect(results(id, actions)?.map(\.unknown) == [true, false])
        #expect(results(other, actions)?.map(\.hasFailure) == [true])
        #expect(outputs(actions).isEmpty)
    }

    @Test func whatWaitsForAProducerThatFailedIsRefused() {
        var script = script()
        let (id, _) = script.call(append([(0, "a"), (0, "b")]))
        _ = script.event(.flush)
        #expect(results(id, script.event(.input(.producerFailed(life: 1, "gap")))) == nil)
        let late = KafkaReport(slot: 0, fate: .refused(Failure(.storeUnavailable, "x")))
        #expect(results(id, script.event(.input(.reports([late]))))?.map(\.hasFailure) == [true, true])
    }

    @Test func anAppendIsAnsweredByTheLastOfItsReports() {
        var script = script()
        warm(&script)
        let (first, none) = script.call(append([(0, "a"), (9, "b"), (1, "c")]))
        #expect(none.isEmpty)
        let (second, _) = script.call(append([(0, "d")]))
        guard case .produce(let records)? = outputs(script.event(.flush)).first else {
            Issue.record("nothing is produced")
            return
        }
        #expect(records.map(\.slot) == [4, 5, 6])
        #expect(records.map(\.partition) == [0, 1, 0])
        #expect(script.event(.input(.reports([stored(4, 7)]))).isEmpty)
        let actions = script.event(.input(.reports([stored(6, 8), stored(5, 3), stored(5, 99)])))
        #expect(results(first, actions)?.map(\.offset) == [7, 0, 3])
        #expect(results(first, actions)?.map(\.hasFailure) == [false, true, false])
        #expect(results(second, actions)?.map(\.offset) == [8])
        #expect(actions.count == 2)
    }

    @Test func whatKafkaDoesNotKnowIsUnknown() {
        var script = script()
        let (id, _) = script.call(append([(0, "a"), (1, "b")]))
        _ = script.event(.flush)
        let actions = script.event(
            .input(
                .reports([
                    KafkaReport(slot: 0, fate: .unknown(Failure(.outcomeUnknown, "x"))),
                    KafkaReport(slot: 1, fate: .refused(Failure(.storeUnavailable, "y"))),
                ])))
        #expect(results(id, actions)?.map(\.unknown) == [true, false])
        #expect(results(id, actions)?.map(\.hasFailure) == [true, true])
    }

    @Test func onlyWhatIsInTheLogIsTraced() {
        var script = script()
        var request = LogAppend()
        request.log = "msg"
        request.entries = [MessageLogContract.entry(0, "a"), MessageLogContract.entry(1, "b")]
        request.entries[0].traceID = "one"
        request.entries[1].traceID = "two"
        _ = script.call(.logAppend(request))
        _ = script.event(.flush)
        _ = script.event(.input(.reports([stored(0, 0)])))
        let failed = KafkaReport(slot: 1, fate: .refused(Failure(.storeUnavailable, "y")))
        let actions = script.event(.input(.reports([failed])))
        #expect(actions.first == .trace("one", hop: "log msg"))
        #expect(actions.count == 2)
    }

    @Test func aFullQueueIsOverloadedUntilReportsCome() {
        var script = script { $0.queuedRecords = 3 }
        _ = script.call(append([(1, "a"), (0, "b")]))
        let (refused, actions) = script.call(append([(0, "c"), (0, "d")]))
        #expect(refusal(refused, actions) == ErrorCode.overloaded.number)
        _ = script.event(.flush)
        _ = script.event(.input(.reports([stored(0, 0)])))
        let (taken, none) = script.call(append([(0, "c"), (0, "d")]))
        #expect(none.isEmpty, "\(taken)")
    }

    @Test func aFailedProducerIsRenewedAfterAPause() {
        var script = script()
        _ = script.call(append([(0, "a")]))
        _ = script.event(.flush)
        let failed = script.event(.input(.producerFailed(life: 1, "gap")))
        #expect(failed.contains(.timer(KafkaLogMachine.renewTimer, afterMS: 300)))
        #expect(outputs(failed) == [.verify(ends: [0, 0, 0, 0])])
        let (id, actions) = script.call(append([(0, "b")]))
        #expect(refusal(id, actions) == ErrorCode.storeUnavailable.number)
        #expect(outputs(script.event(.timer(KafkaLogMachine.renewTimer))) == [.renewProducer(life: 2)])
        #expect(script.event(.input(.producerFailed(life: 1, "late"))).isEmpty)
        let again = script.event(.input(.producerFailed(life: 2, "gap")))
        #expect(again.contains(.timer(KafkaLogMachine.renewTimer, afterMS: 600)))
    }

    /// Whoever only appends knows how far the log went, too: one that ends before what it acknowledged is another.
    @Test func whatWasAcknowledgedIsLookedForWhenTheProducerFails() {
        var script = script()
        _ = script.call(append([(0, "a"), (2, "b")]))
        _ = script.event(.flush)
        _ = script.event(.input(.reports([stored(0, 8), stored(1, 3)])))
        let failed = script.event(.input(.producerFailed(life: 1, "gap")))
        #expect(outputs(failed) == [.verify(ends: [9, 0, 4, 0])])
    }

    // MARK: Shares

    @Test func aShareBeginsWhenItsPositionsAreKnown() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [5, 9], committed: [nil, 4])
        #expect(share.assigned == [at(0, 0), at(1, 4)])
        #expect(share.ends == [at(0, 5), at(1, 9)])
        #expect(share.incarnation == 5 && share.partitions == 4)
        #expect(places.map(\.offset) == [0, 4])
    }

    @Test func aGroupsPositionsAreAskedForByAnybody() {
        var script = script()
        func ask(_ log: String) -> Payload {
            .logProgressAsk(
                .with {
                    $0.log = log
                    $0.group = "g"
                })
        }
        let (first, actions) = script.call(ask("msg"))
        guard case .askProgress(let ticket, "g")? = outputs(actions).first else {
            Issue.record("nobody was asked: \(actions)")
            return
        }
        let told = script.event(.input(.progress(ticket: ticket, .success([at(1, 4)]))))
        #expect(Script.answer(to: first, in: told) == .answered(.logProgress(.with { $0.committed = [at(1, 4)] })))
        #expect(script.event(.input(.progress(ticket: ticket, .success([])))).isEmpty, "answered once")
        let (other, none) = script.call(ask("other"))
        #expect(refusal(other, none) == ErrorCode.notFound.number)
        for _ in 0..<16 { _ = script.call(ask("msg")) }
        let (more, full) = script.call(ask("msg"))
        #expect(refusal(more, full) == ErrorCode.overloaded.number)
    }

    @Test func whatIsTakenAwayIsLetGoAfterThePauseInOrder() throws {
        var script = script { $0.letGoMS = 50 }
        _ = try join(&script, ends: [5, 9])
        let first = script.event(.input(.revoked(id, [1])))
        #expect(outputs(first).isEmpty && first.contains(.timer(KafkaLogMachine.letGoTimer, afterMS: 50)))
        script.advance(ms: 20)
        #expect(outputs(script.event(.input(.revoked(id, [0])))).isEmpty)
        script.advance(ms: 30)
        let early = script.event(.timer(KafkaLogMachine.letGoTimer))
        #expect(outputs(early) == [.unassign(id, [1])])
        #expect(early.contains(.timer(KafkaLogMachine.letGoTimer, afterMS: 20)))
        script.advance(ms: 20)
        #expect(outputs(script.event(.timer(KafkaLogMachine.letGoTimer))) == [.unassign(id, [0])])
    }

    @Test func aQuestionThatFailsIsAskedAgain() throws {
        var script = script()
        _ = script.call(fetch(0))
        let first = try ticket(script.event(.input(.assigned(id, [0]))))
        let failure = Failure(.storeUnavailable, "x")
        #expect(outputs(script.event(.input(.facts(id, ticket: first, .failure(failure))))).isEmpty)
        let second = try ticket(script.event(.timer(KafkaLogMachine.sweepTimer)))
        #expect(second != first)
        let late = script.event(.input(.facts(id, ticket: first, .success(facts([1])))))
        #expect(late.isEmpty, "the answer to a question that is over")
        let begun = script.event(.input(.facts(id, ticket: second, .success(facts([1])))))
        #expect(outputs(begun).count == 1)
    }

    @Test func aRevokedPartitionEndsTheGenerationAndItsFetch() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [1, 1])
        let (call, _) = script.call(fetch(share.generation, [at(0, 1), at(1, 1)]))
        let actions = script.event(.input(.revoked(id, [0])))
        let answer = try fetched(call, actions)
        #expect(answer.generation == share.generation + 1)
        #expect(answer.assigned.map(\.partition) == [1])
        #expect(outputs(actions) == [.unassign(id, [0])])
        _ = script.event(.input(.records(id, [run(places[0], 1..<2)])))
        let (foreign, refused) = script.call(fetch(answer.generation, [at(0, 1)]))
        #expect(refusal(foreign, refused) == ErrorCode.forbidden.number)
    }

    @Test func anEmptyShareIsHeardToo() throws {
        var script = script()
        let (call, _) = script.call(fetch(0))
        let actions = script.event(.input(.assigned(id, [])))
        #expect(outputs(actions) == [.assign(id, [])])
        #expect(try fetched(call, actions).assigned.isEmpty)
    }

    @Test func aSilentMemberLeavesAfterTenSeconds() throws {
        var script = script()
        _ = try join(&script)
        for _ in 0..<10 {
            script.advance(ms: 1000)
            #expect(outputs(script.event(.timer(KafkaLogMachine.sweepTimer))).isEmpty)
        }
        script.advance(ms: 1000)
        #expect(outputs(script.event(.timer(KafkaLogMachine.sweepTimer))) == [.close(id)])
        let (early, refused) = script.call(fetch(0))
        #expect(refusal(early, refused) == ErrorCode.serviceUnavailable.number)
        _ = script.event(.input(.closed(id)))
        let (_, again) = script.call(fetch(0))
        guard case .join(let next)? = outputs(again).first else {
            Issue.record("it does not join again")
            return
        }
        #expect(next.life != id.life)
    }

    // MARK: Reading

    @Test func recordsOfAnOldPlaceAreNotTaken() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [9, 0])
        _ = script.event(.input(.records(id, [run(places[0], 0..<6)])))
        let (first, actions) = script.call(fetch(share.generation, [at(0, 0)]))
        #expect(try fetched(first, actions).entries.map(\.offset) == Array(0..<6))
        let (back, moved) = script.call(fetch(share.generation, [at(0, 2)]))
        guard case .move(_, let place)? = outputs(moved).first else {
            Issue.record("it does not move")
            return
        }
        #expect(place.offset == 2 && place.version != places[0].version)
        _ = script.event(.input(.records(id, [run(places[0], 6..<9)])))
        #expect(script.event(.flush).isEmpty, "what was under way is of the old place")
        _ = script.event(.input(.records(id, [run(place, 2..<4)])))
        #expect(try fetched(back, script.event(.flush)).entries.map(\.offset) == [2, 3])
    }

    @Test func whatIsWantedFromBeyondTheEndIsNotHandedOut() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [2, 1])
        _ = script.event(.input(.records(id, [run(places[0], 0..<2), run(places[1], 0..<1)])))
        let (call, actions) = script.call(fetch(share.generation, [at(0, 5), at(1, 0)]))
        let answer = try fetched(call, actions)
        #expect(answer.entries.map(\.partition) == [1])
        #expect(answer.ends.first == at(0, 2))
    }

    @Test func aFetchThatDoesNotWaitAsksForTheEnds() throws {
        var script = script()
        let (share, _) = try join(&script, ends: [3, 3])
        let (call, actions) = script.call(fetch(share.generation, [], wait: 0))
        let ticket = try ticket(actions)
        #expect(Script.answer(to: call, in: actions) == nil)
        let answered = script.event(.input(.facts(id, ticket: ticket, .success(facts([7, 2])))))
        // An end that was handed out or seen is never taken back by an answer that was under way.
        #expect(try fetched(call, answered).ends == [at(0, 7), at(1, 3)])
    }

    @Test func tooMuchAheadPausesAndReadingResumes() throws {
        var script = script { $0.aheadBytes = 1 << 20 }
        let (share, places) = try join(&script, ends: [9, 0])
        let actions = script.event(.input(.records(id, [run(places[0], 0..<6, bytes: 200_000)])))
        #expect(outputs(actions) == [.pause(id, [0])])
        let (_, first) = script.call(fetch(share.generation, [at(0, 0)]))
        #expect(outputs(first) == [.resume(id, [0])])
    }

    @Test func aPlaceThatTheBrokerDoesNotHaveIsLookedAt() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [9, 0])
        _ = script.event(.input(.records(id, [run(places[0], 0..<6)])))
        let (first, taken) = script.call(fetch(share.generation, [at(0, 0)]))
        #expect(try fetched(first, taken).entries.count == 6)
        let ticket = try ticket(script.event(.input(.outOfRange(id, 0))))
        let actions = script.event(.input(.facts(id, ticket: ticket, .success(facts([4, 0])))))
        #expect(outputs(actions) == [.verify(ends: [9, 0, 0, 0])], "it ends before what was read: is it the same log?")
        let (call, answer) = script.call(fetch(share.generation, [at(0, 6)]))
        #expect(try fetched(call, answer).ends.first == at(0, 4), "the member is told by the end")
    }

    /// A leader that is new may not know the end yet: nobody stays where nothing comes from for good.
    @Test func aPlaceBeyondTheEndIsLookedAtAgain() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [9, 0])
        _ = script.event(.input(.records(id, [run(places[0], 0..<6)])))
        _ = script.call(fetch(share.generation, [at(0, 0)]))
        let first = try ticket(script.event(.input(.outOfRange(id, 0))))
        let beyond = script.event(.input(.facts(id, ticket: first, .success(facts([4, 0])))))
        #expect(outputs(beyond) == [.verify(ends: [9, 0, 0, 0])], "nothing is asked again at once")
        let second = try ticket(script.event(.timer(KafkaLogMachine.sweepTimer)))
        let moved = script.event(.input(.facts(id, ticket: second, .success(facts([9, 0])))))
        guard case .move(id, let place) = try #require(outputs(moved).first) else { throw Unexpected() }
        #expect(place.partition == 0 && place.offset == 6)
        #expect(outputs(script.event(.timer(KafkaLogMachine.sweepTimer))).isEmpty)
    }

    /// The answer to a question that was asked before the broker refused says nothing about after.
    @Test func anOlderAnswerDoesNotSettleARefusal() throws {
        var script = script()
        let (share, places) = try join(&script, ends: [2, 0])
        let (_, asked) = script.call(fetch(share.generation, [at(0, 0)], wait: 0))
        let first = try ticket(asked)
        _ = script.event(.input(.records(id, [run(places[0], 0..<6)])))
        #expect(outputs(script.event(.input(.outOfRange(id, 0)))).isEmpty, "one question at a time")
        let old = script.event(.input(.facts(id, ticket: first, .success(facts([2, 0])))))
        let second = try ticket(old)
        #expect(outputs(old).count == 1, "neither moved nor doubted")
        let moved = script.event(.input(.facts(id, ticket: second, .success(facts([6, 0])))))
        guard case .move(id, _) = try #require(outputs(moved).first) else { throw Unexpected() }
    }

    private struct Unexpected: Error {}

    @Test func anotherLogBeginsAtItsBeginning() throws {
        var script = script()
        let (share, _) = try join(&script, ends: [9, 0], committed: [9, nil])
        #expect(script.event(.input(.verified(.success(5)))).isEmpty, "the same log")
        let replaced = script.event(.input(.verified(.success(6))))
        let (call, waiting) = script.call(fetch(share.generation, [at(0, 9)]))
        #expect(Script.answer(to: call, in: waiting) == nil, "what it holds is not known yet")
        let answered = script.event(
            .input(.facts(id, ticket: try ticket(replaced), .success(facts([2, 0], committed: [9, nil])))))
        let answer = try fetched(call, answered)
        #expect(answer.incarnation == 6)
        #expect(answer.generation > share.generation + 1, "nothing is known to have stayed")
        #expect(answer.assigned == [at(0, 0), at(1, 0)])
        #expect(outputs(answered).count == 2, "both readers move")
    }
}
