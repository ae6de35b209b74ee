import Foundation
import Machinery
import MsgProxyRole
import RPC
import Testing
import Wire

/// What MsgProxy does about a MsgWriter that does not keep up with the log.
@Suite struct LagTests {
    /// A proxy with one bucket, the log behind it, and its timer.
    private struct World {
        var script: Script<MsgProxyMachine>
        var end: UInt64 = 0
        var asked = 0
        var dueMS: UInt64?

        init() {
            var config = MsgProxyConfig(instance: "1")
            config.buckets = 1
            script = Script(MsgProxyMachine(config: config))
        }

        /// Appends the records at the log's end; the failures.
        mutating func store(_ records: [LogRecord]) throws -> [Failure] {
            let (id, early) = script.call(.storeMessages(.with { $0.records = records }))
            let actions = script.flush()
            guard actions.hasCall(to: .messageLog) else { return outcomes(early, id) }
            let call = try actions.call(to: .messageLog)
            guard case .logAppend(let body) = call.payload else { throw TestFailure() }
            let results = body.entries.indices.map { index in
                LogAppendResult.with { $0.offset = end + UInt64(index) }
            }
            end += UInt64(body.entries.count)
            return outcomes(
                took(script.reply(call.token, .answered(.logAppended(.with { $0.results = results })))), id)
        }

        private func outcomes(_ actions: [RoleAction<Never>], _ id: CallID) -> [Failure] {
            guard case .storeOutcomes(let body) = actions.answer(to: id) else { return [] }
            return body.results.map(\.failure)
        }

        private mutating func took(_ actions: [RoleAction<Never>]) -> [RoleAction<Never>] {
            for case .timer(_, let afterMS) in actions { dueMS = script.now.wallMS + UInt64(afterMS) }
            return actions
        }

        /// Time passes; questions for the writers' progress get this answer.
        mutating func pass(_ milliseconds: UInt64, answer: CallResult) throws {
            for _ in 0..<milliseconds / 100 {
                script.pass(ms: 100)
                guard let due = dueMS, due <= script.now.wallMS else { continue }
                dueMS = nil
                let call = try script.timer(1).call(to: .messageLog)
                guard case .logProgressAsk(let ask) = call.payload else { throw TestFailure() }
                #expect(ask.log == "msg" && ask.group == "msgwriter")
                asked += 1
                _ = took(script.reply(call.token, answer))
            }
        }
    }

    private func committed(_ offset: UInt64) -> CallResult {
        .answered(.logProgress(.with { $0.committed = [.with { $0.offset = offset }] }))
    }

    private func heavy(_ count: UInt64) throws -> [LogRecord] { try (1...count).map { try Sample.record($0) } }

    @Test func aBucketThatLagsSlowsItsHeaviestConversations() throws {
        var world = World()
        #expect(try world.store(heavy(1)).map(\.reason) == [""])
        try world.pass(6500, answer: committed(0))
        // Twice the bound: fifty a second are left to each conversation. What comes together is taken or refused
        // together: who is refused in the middle would send the first half again, for nothing, each time.
        #expect(try world.store(heavy(64)).allSatisfy { $0.code == 0 })
        let failed = try world.store(heavy(64))
        #expect(failed[0].isCode(.busy) && failed[0].retryable && failed[0].retryAfterMs > 200)
        #expect(failed[1...].allSatisfy { $0.isCode(.resendInOrder) })
        let light = try Sample.record(9, conversation: "p:carol|dave", sender: "carol")
        #expect(try world.store([light]).map(\.reason) == [""])
        try world.pass(500, answer: committed(0))
        #expect(try world.store(heavy(64)).allSatisfy { $0.code == 0 }, "it goes on, slowly")
        try world.pass(600_000, answer: committed(0))
        #expect(try world.store(heavy(3)).allSatisfy { $0.code == 0 })
        try world.pass(1500, answer: committed(0))
        #expect(try world.store(heavy(3)).map(\.reason) == ["busy", "resend_in_order", "resend_in_order"])
        try world.pass(2000, answer: committed(0))
        #expect(try world.store(heavy(3)).allSatisfy { $0.code == 0 }, "one a second is left")
        try world.pass(1000, answer: committed(world.end))
        #expect(try world.store(heavy(300)).allSatisfy { $0.code == 0 }, "it has caught up")
    }

    @Test func nobodyIsAskedWhenNothingIsWaitedFor() throws {
        var world = World()
        try world.pass(2000, answer: committed(0))
        #expect(world.asked == 0)
        _ = try world.store(heavy(1))
        try world.pass(2000, answer: committed(1))
        #expect(world.asked == 1)
        _ = try world.store(heavy(1))
        try world.pass(500, answer: committed(1))
        try world.pass(500, answer: committed(2))
        try world.pass(5000, answer: committed(2))
        #expect(world.asked == 3)
    }

    @Test func aWriterThatIsASecondBehindKeepsUp() throws {
        var world = World()
        for _ in 0..<20 {
            let before = world.end
            #expect(try world.store(heavy(150)).allSatisfy { $0.code == 0 })
            try world.pass(1000, answer: committed(before))
        }
        #expect(world.asked >= 20)
    }

    /// Then the bounds of what waits for the log are all there is.
    @Test func aLogThatDoesNotTellIsNoReason() throws {
        var world = World()
        _ = try world.store(heavy(1))
        try world.pass(6500, answer: committed(0))
        try world.pass(500, answer: .refused(Sample.failure(.noSuchMethod)))
        #expect(try world.store(heavy(200)).allSatisfy { $0.code == 0 })
    }
}
