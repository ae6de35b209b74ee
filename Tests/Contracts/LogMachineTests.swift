import EmbeddedStore
import Foundation
import Ports
import RPC
import TestKit
import Testing
import Wire

/// Groups, generations, parking and group commit, event by event.
@Suite struct LogMachineTests {
    private let disk = SimulatedDisk()
    private typealias Script = MachineScript<LogMachine>

    private func script(partitions: UInt32 = 8) throws -> Script {
        var config = EmbeddedConfig()
        config.partitions = partitions
        let log = try SegmentLog.open(folder: "log", files: disk, config: config, incarnation: 5, wallMS: { 0 })
        let push = MemoryLog(partitions: partitions, incarnation: 5, limit: 1 << 20)
        var script = Script(LogMachine(logs: ["msg": log, "push": push]))
        #expect(script.event(.start) == [.timer(1, afterMS: 1000)])
        return script
    }

    private func append(_ texts: [(UInt32, String)], log: String = "msg") -> Payload {
        var request = LogAppend()
        request.log = log
        request.entries = texts.map(MessageLogContract.entry)
        return .logAppend(request)
    }

    private func fetch(
        _ member: String, _ generation: UInt64 = 0, _ positions: [LogPosition] = [], wait: UInt32 = 0,
        log: String = "msg"
    ) -> Payload {
        var request = LogFetch()
        request.log = log
        request.group = "g"
        request.member = member
        request.generation = generation
        request.positions = positions
        request.maxBytes = 1 << 20
        request.waitMs = wait
        return .logFetch(request)
    }

    private func commit(_ member: String, _ generation: UInt64, _ positions: [LogPosition]) -> Payload {
        var request = LogCommit()
        request.log = "msg"
        request.group = "g"
        request.member = member
        request.generation = generation
        request.positions = positions
        return .logCommit(request)
    }

    private func fetched(_ result: CallResult?) throws -> LogFetched {
        guard case .answered(.logFetched(let answer)) = result else {
            Issue.record("no records: \(String(describing: result))")
            return LogFetched()
        }
        return answer
    }

    private func refusal(_ result: CallResult?) -> ErrorCodeNumber? {
        if case .refused(let failure) = result { return failure.code }
        return nil
    }
    private typealias ErrorCodeNumber = UInt32

    /// Joins and gives the assignment.
    private func join(_ script: inout Script, _ member: String) throws -> LogFetched {
        try fetched(script.ask(fetch(member)))
    }

    @Test func anAppendThatIsDurableIsTraced() throws {
        var script = try script()
        var request = LogAppend()
        request.log = "msg"
        request.entries = [MessageLogContract.entry(1, "plain"), MessageLogContract.entry(2, "traced")]
        request.entries[1].traceID = "t1"
        let (id, gathered) = script.call(.logAppend(request))
        #expect(gathered.isEmpty, "nothing is durable yet")
        let written = script.event(.flush)
        #expect(written.first == .trace("t1", hop: "log msg"))
        #expect(Script.answer(to: id, in: Array(written.dropFirst())) != nil, "traced before anybody is told")
        #expect(written.count == 2)
    }

    @Test func oneSyncForAllAppendsOfAFlush() throws {
        var script = try script()
        let before = disk.syncs
        let calls = (0..<20).map { number in script.call(append([(UInt32(number % 8), "r\(number)"), (0, "x")])) }
        #expect(calls.allSatisfy { $0.actions.isEmpty })
        let actions = script.event(.flush)
        #expect(disk.syncs == before + 1)
        for call in calls {
            guard case .answered(.logAppended(let answer)) = Script.answer(to: call.id, in: actions) else {
                Issue.record("no answer")
                continue
            }
            #expect(answer.results.count == 2)
        }
        #expect(script.event(.flush).isEmpty)
        #expect(disk.syncs == before + 1)
    }

    @Test func badEntriesAreRefusedOneByOne() throws {
        var script = try script()
        let big = String(repeating: "x", count: LogLimits.recordBytes + 1)
        guard case .answered(.logAppended(let answer)) = script.ask(append([(0, "a"), (8, "b"), (0, big), (0, "c")]))
        else {
            Issue.record("no answer")
            return
        }
        #expect(answer.results.map(\.hasFailure) == [false, true, true, false])
        #expect(answer.results.map(\.offset) == [0, 0, 0, 1])
        #expect(refusal(script.ask(append([(0, "a")], log: "other"))) == ErrorCode.notFound.number)
    }

    @Test func appendsAreAnsweredUnknownWhenTheSyncFails() throws {
        var script = try script()
        disk.setFaults { $0.failingSyncs = 1 }
        let (id, _) = script.call(append([(0, "a")]))
        let actions = script.event(.flush)
        guard case .answered(.logAppended(let answer)) = Script.answer(to: id, in: actions) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.results.map(\.unknown) == [true])
        #expect(actions.contains { if case .warn = $0 { true } else { false } })
    }

    @Test func membersShareThePartitions() throws {
        var script = try script()
        let first = try join(&script, "b")
        #expect(first.assigned.map(\.partition) == Array(0..<8))
        #expect(first.partitions == 8 && first.incarnation == 5)
        let second = try join(&script, "a")
        #expect(second.assigned.map(\.partition) == Array(0..<4))
        #expect(second.generation == first.generation + 1)
        let again = try fetched(script.ask(fetch("b", first.generation)))
        #expect(again.assigned.map(\.partition) == Array(4..<8))
        #expect(again.generation == second.generation)
        var leave = LogLeave()
        leave.log = "msg"
        leave.group = "g"
        leave.member = "a"
        #expect(script.ask(.logLeave(leave)) == .answered(.done(Done())))
        let alone = try fetched(script.ask(fetch("b", again.generation)))
        #expect(alone.assigned.count == 8)
        #expect(alone.generation == again.generation + 1)
    }

    @Test func anybodyMayAskHowFarAGroupHasCome() throws {
        var script = try script(partitions: 3)
        for partition in UInt32(0)..<2 { _ = script.ask(append([(partition, "a"), (partition, "b")])) }
        let generation = try join(&script, "a").generation
        var commit = LogCommit()
        commit.log = "msg"
        commit.group = "g"
        commit.member = "a"
        commit.generation = generation
        commit.positions = [
            .with {
                $0.partition = 1; $0.offset = 2
            }, .with { $0.offset = 1 },
        ]
        #expect(script.ask(.logCommit(commit)) == .answered(.done(Done())))
        let ask = LogProgressAsk.with {
            $0.log = "msg"; $0.group = "g"
        }
        var told = LogProgress()
        told.committed = [
            .with { $0.offset = 1 },
            .with {
                $0.partition = 1; $0.offset = 2
            },
        ]
        #expect(script.ask(.logProgressAsk(ask)) == .answered(.logProgress(told)))
        let others = LogProgressAsk.with {
            $0.log = "msg"; $0.group = "h"
        }
        #expect(script.ask(.logProgressAsk(others)) == .answered(.logProgress(LogProgress())))
        #expect(refusal(script.ask(.logProgressAsk(.with { $0.log = "none" }))) == ErrorCode.notFound.number)
    }

    @Test func moreMembersThanPartitions() throws {
        var script = try script(partitions: 2)
        var owned: [UInt32] = []
        var generation: UInt64 = 0
        for member in ["a", "b", "c"] { generation = try join(&script, member).generation }
        for member in ["a", "b", "c"] {
            let answer = try fetched(script.ask(fetch(member)))
            #expect(answer.generation == generation)
            owned += answer.assigned.map(\.partition)
        }
        #expect(owned.sorted() == [0, 1])
    }

    @Test func aSilentMemberIsGoneAfterTenSeconds() throws {
        var script = try script()
        let first = try join(&script, "a")
        let second = try join(&script, "b")
        #expect(first.generation < second.generation)
        for _ in 0..<9 {
            script.advance(ms: 1000)
            _ = script.ask(fetch("b", second.generation))
            #expect(script.event(.timer(1)) == [.timer(1, afterMS: 1000)])
        }
        #expect(try fetched(script.ask(fetch("b", second.generation))).assigned.isEmpty)
        script.advance(ms: 1001)
        _ = script.event(.timer(1))
        let alone = try fetched(script.ask(fetch("b", second.generation)))
        #expect(alone.assigned.count == 8)
        #expect(refusal(script.ask(commit("a", second.generation, []))) == ErrorCode.forbidden.number)
    }

    @Test func aParkedFetchIsAnsweredByTheFlushThatBringsData() throws {
        var script = try script()
        let generation = try join(&script, "a").generation
        let (id, actions) = script.call(
            fetch("a", generation, (0..<8).map { MessageLogContract.position($0, 0) }, wait: 2000))
        #expect(actions == [.timer(2, afterMS: 2000)])
        #expect(script.event(.flush).isEmpty)
        _ = script.call(append([(3, "news")]))
        let answer = try fetched(Script.answer(to: id, in: script.event(.flush)))
        #expect(answer.entries.map { String(decoding: $0.record, as: UTF8.self) } == ["news"])
        #expect(answer.ends.map(\.offset) == [0, 0, 0, 1, 0, 0, 0, 0])
        #expect(answer.assigned.isEmpty)
    }

    @Test func aParkedFetchIsAnsweredEmptyWhenItsWaitIsOver() throws {
        var script = try script()
        let generation = try join(&script, "a").generation
        let (id, _) = script.call(fetch("a", generation, [MessageLogContract.position(0, 0)], wait: 300))
        script.advance(ms: 299)
        #expect(script.event(.timer(2)) == [.timer(2, afterMS: 1)])
        script.advance(ms: 1)
        let actions = script.event(.timer(2))
        #expect(actions.count == 1)
        #expect(try fetched(Script.answer(to: id, in: actions)).entries.isEmpty)
    }

    @Test func aShorterWaitGetsATimerOfItsOwn() throws {
        var script = try script()
        _ = try join(&script, "a")
        let generation = try join(&script, "b").generation
        let (_, first) = script.call(fetch("a", generation, [MessageLogContract.position(0, 0)], wait: 3000))
        let (second, actions) = script.call(fetch("b", generation, [MessageLogContract.position(7, 0)], wait: 100))
        #expect(first == [.timer(2, afterMS: 3000)])
        #expect(actions == [.timer(2, afterMS: 100)])
        script.advance(ms: 100)
        let ended = script.event(.timer(2))
        #expect(Script.answer(to: second, in: ended) != nil)
        #expect(ended.contains(.timer(2, afterMS: 2900)))
    }

    @Test func aNewMemberWakesThoseWhoWait() throws {
        var script = try script()
        let generation = try join(&script, "a").generation
        let (id, _) = script.call(fetch("a", generation, [MessageLogContract.position(0, 0)], wait: 5000))
        let (_, actions) = script.call(fetch("b"))
        let answer = try fetched(Script.answer(to: id, in: actions))
        #expect(answer.generation == generation + 1)
        #expect(answer.assigned.map(\.partition) == Array(0..<4))
    }

    @Test func aSecondFetchOfAMemberEndsTheFirst() throws {
        var script = try script()
        let generation = try join(&script, "a").generation
        let (first, _) = script.call(fetch("a", generation, [MessageLogContract.position(0, 0)], wait: 5000))
        let (_, actions) = script.call(fetch("a", generation, [MessageLogContract.position(0, 0)], wait: 5000))
        #expect(try fetched(Script.answer(to: first, in: actions)).entries.isEmpty)
    }

    @Test func oldGenerationsAndStrangersCannotCommit() throws {
        var script = try script()
        _ = script.ask(append([(0, "a"), (7, "b")]))
        let old = try join(&script, "a")
        let new = try join(&script, "b")
        #expect(
            refusal(script.ask(commit("a", old.generation, [MessageLogContract.position(0, 1)])))
                == ErrorCode.forbidden.number)
        #expect(refusal(script.ask(commit("c", new.generation, []))) == ErrorCode.forbidden.number)
        #expect(
            refusal(script.ask(commit("a", new.generation, [MessageLogContract.position(7, 1)])))
                == ErrorCode.forbidden.number)
        #expect(
            refusal(script.ask(commit("a", new.generation, [MessageLogContract.position(0, 2)])))
                == ErrorCode.limitExceeded.number)
        #expect(
            script.ask(commit("a", new.generation, [MessageLogContract.position(0, 1)])) == .answered(.done(Done())))
        let again = try fetched(script.ask(fetch("a")))
        #expect(again.assigned.first == MessageLogContract.position(0, 1))
    }

    @Test func fetchingWhatIsNotOnesOwnIsRefused() throws {
        var script = try script()
        let generation = try join(&script, "a").generation
        _ = try join(&script, "b")
        let foreign = script.ask(fetch("a", generation + 1, [MessageLogContract.position(7, 0)]))
        #expect(refusal(foreign) == ErrorCode.forbidden.number)
        #expect(refusal(script.ask(fetch("", generation))) == ErrorCode.malformedRequest.number)
    }

    @Test func aPositionBeyondTheEndIsShownByTheEnds() throws {
        var script = try script()
        let generation = try join(&script, "a").generation
        _ = script.ask(append([(1, "x")]))
        let positions = [MessageLogContract.position(0, 9), MessageLogContract.position(1, 0)]
        let answer = try fetched(script.ask(fetch("a", generation, positions, wait: 100)))
        #expect(answer.ends.first == MessageLogContract.position(0, 0))
        #expect(answer.entries.map(\.partition) == [1])
        let alone = try fetched(script.ask(fetch("a", generation, [positions[0]], wait: 100)))
        #expect(alone.entries.isEmpty && alone.ends.count == 8)
    }

    @Test func generationsGoOnOverARestart() throws {
        var first = try script()
        let before = try join(&first, "a").generation
        first.advance(ms: 1)
        let wall = first.now.wallMS
        disk.killProcess()
        var config = EmbeddedConfig()
        config.partitions = 8
        let log = try SegmentLog.open(folder: "log", files: disk, config: config, incarnation: 6, wallMS: { 0 })
        var second = Script(LogMachine(logs: ["msg": log]), wallMS: wall)
        #expect(try join(&second, "a").generation > before)
    }

    @Test func positionsAreDurableAfterASweep() throws {
        var first = try script()
        _ = first.ask(append([(0, "a")]))
        let generation = try join(&first, "a").generation
        _ = first.ask(commit("a", generation, [MessageLogContract.position(0, 1)]))
        _ = first.event(.timer(1))
        disk.killProcess()
        var second = try script()
        #expect(try join(&second, "a").assigned.first == MessageLogContract.position(0, 1))
    }

    @Test func appendsSoonAfterAWriteShareTheNext() throws {
        let log = MemoryLog(partitions: 4, incarnation: 5, limit: 1 << 20)
        var script = Script(LogMachine(logs: ["msg": log], writeEveryMS: 2))
        script.advance(ms: 10)
        #expect(script.ask(append([(0, "alone")])) != nil, "after a pause nothing waits")
        let (first, none) = script.call(append([(0, "a")]))
        #expect(none.isEmpty)
        #expect(script.event(.flush) == [.timer(LogMachine.writeTimer, afterMS: 2)])
        let (second, _) = script.call(append([(0, "b")]))
        #expect(script.event(.flush).isEmpty, "one timer is enough")
        #expect(log.range(of: 0).end == 1)
        script.advance(ms: 2)
        #expect(script.event(.timer(LogMachine.writeTimer)).isEmpty)
        let actions = script.event(.flush)
        #expect(Script.answer(to: first, in: actions) != nil && Script.answer(to: second, in: actions) != nil)
        #expect(log.range(of: 0).end == 3)
    }

    @Test func logsAreSeparate() throws {
        var script = try script()
        _ = script.ask(append([(0, "push")], log: "push"))
        let generation = try fetched(script.ask(fetch("a", log: "push"))).generation
        let found = try fetched(script.ask(fetch("a", generation, [MessageLogContract.position(0, 0)], log: "push")))
        #expect(found.entries.map { String(decoding: $0.record, as: UTF8.self) } == ["push"])
        #expect(try join(&script, "a").ends.map(\.offset) == Array(repeating: 0, count: 8))
    }
}
