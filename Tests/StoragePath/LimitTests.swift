import Foundation
import IMRole
import Identity
import Machinery
import MsgProxyRole
import RPC
import Testing
import Wire

/// Rates, sizes and times that the entry to the log holds everybody to.
@Suite struct LimitTests {
    private func proxy(_ change: (inout MsgProxyConfig) -> Void = { _ in }) -> Script<MsgProxyMachine> {
        var config = MsgProxyConfig(instance: "1")
        change(&config)
        return Script(MsgProxyMachine(config: config))
    }

    private func store(_ records: [LogRecord]) -> Payload { .storeMessages(.with { $0.records = records }) }

    private func results(_ actions: [RoleAction<Never>], _ id: CallID) -> [SendResult] {
        guard case .storeOutcomes(let body) = actions.answer(to: id) else { return [] }
        return body.results
    }

    /// Stores the records and answers for the log; the failures.
    private func failures(_ script: inout Script<MsgProxyMachine>, _ records: [LogRecord]) throws -> [Failure] {
        let (id, early) = script.call(store(records))
        let made = script.flush().calls
        guard let append = made.first, case .logAppend(let body) = append.payload else {
            return results(early, id).map(\.failure)
        }
        let appended = LogAppended.with { $0.results = Array(repeating: LogAppendResult(), count: body.entries.count) }
        return results(script.reply(append.token, .answered(.logAppended(appended))), id).map(\.failure)
    }

    @Test func aConversationHasItsRateAndOthersTheirs() throws {
        var script = proxy {
            $0.conversationPerSecond = 10
            $0.conversationBurst = 3
        }
        let mine = try (1...5).map { try Sample.record($0) }
        let other = try Sample.record(9, conversation: "p:carol|dave", sender: "carol")
        let failed = try failures(&script, mine + [other])
        #expect(failed.map(\.reason) == ["", "", "", "rate_limited", "resend_in_order", ""])
        #expect(failed[3].retryable && failed[3].retryAfterMs == 100)
        script.pass(ms: 100)
        #expect(try failures(&script, Array(mine[3...])).map(\.reason) == ["", "rate_limited"])
        script.pass(ms: 1000)
        #expect(try failures(&script, [mine[4]]).map(\.reason) == [""])
    }

    @Test func anAppHasItsRateAndOthersTheirs() throws {
        var script = proxy {
            $0.appPerSecond = 10
            $0.appBurst = 2
        }
        let mine = try (1...3).map { try Sample.record($0, conversation: "p:alice|u\($0)") }
        var other = try Sample.record(4)
        other.appID = "other"
        #expect(try failures(&script, mine + [other]).map(\.reason) == ["", "", "rate_limited", ""])
    }

    @Test func theDefaultsLetAHardWorkingSuiteThrough() throws {
        var script = proxy()
        for second in UInt64(0)..<5 {
            let records = try (1...200).map { try Sample.record(second * 200 + $0) }
            #expect(try failures(&script, records).allSatisfy { $0.code == 0 })
            script.pass(ms: 1000)
        }
    }

    @Test func aRecordFromTheFutureIsBroughtBack() throws {
        var script = proxy()
        let now = script.now.wallMS
        let times = [now - 1000, now + 299_000, now + 8 * 86_400_000, .max]
        let records = try times.enumerated().map { try Sample.record(UInt64($0 + 1), timeMS: $1) }
        let (_, early) = script.call(store(records))
        #expect(early.isEmpty)
        guard case .logAppend(let body) = try script.flush().call(to: .messageLog).payload else { throw TestFailure() }
        let stored = try body.entries.map { try LogRecord(serializedBytes: $0.record).timeMs }
        #expect(stored == [now - 1000, now + 299_000, now + 300_000, now + 300_000])
    }

    /// What IM hands over fits a frame between services, however much came in one flush.
    @Test func storingIsCutByBytes() throws {
        var config = IMConfig(instance: "1")
        config.bytesPerCall = 100_000
        var script = Script(IMMachine(config: config))
        let text = String(repeating: "x", count: 30_000)
        let sends = try (1...10).map { try Sample.call([Sample.item(UInt64($0), text)], device: "d\($0)") }
        let (id, _) = script.call(.serviceCalls(.with { $0.calls = sends }))
        let check = try script.flush().call(to: .user)
        let checked = UserChecked.with { $0.users = [.with { $0.exists = true }] }
        let made = script.reply(check.token, .answered(.userChecked(checked))).calls
        let sizes = made.map { call -> Int in
            guard case .storeMessages(let body) = call.payload else { return 0 }
            #expect(body.records.reduce(0) { $0 + $1.message.count } <= 100_000)
            return body.records.count
        }
        #expect(sizes == [3, 3, 3, 1])
        var done: [RoleAction<Never>] = []
        for (call, count) in zip(made, sizes) {
            let outcomes = StoreOutcomes.with {
                $0.results = Array(repeating: SendResult.with { $0.outcome = .accepted }, count: count)
            }
            done += script.reply(call.token, .answered(.storeOutcomes(outcomes)))
        }
        guard case .serviceReplies(let replies)? = done.answer(to: id) else { throw TestFailure() }
        #expect(replies.replies.count == 10 && replies.replies.allSatisfy { !$0.hasFailure })
    }
}
