import Foundation
import Identity
import Machinery
import MsgProxyRole
import RPC
import Testing
import Wire

@Suite struct MsgProxyTests {
    private func script(_ change: (inout MsgProxyConfig) -> Void = { _ in }) -> Script<MsgProxyMachine> {
        var config = MsgProxyConfig(instance: "1")
        change(&config)
        return Script(MsgProxyMachine(config: config))
    }

    private func store(_ records: [LogRecord]) -> Payload {
        var body = StoreMessages()
        body.records = records
        return .storeMessages(body)
    }

    private func appended(_ results: [LogAppendResult]) -> CallResult {
        var body = LogAppended()
        body.results = results
        return .answered(.logAppended(body))
    }

    private var done: LogAppendResult { LogAppendResult() }
    private var unknown: LogAppendResult {
        var result = LogAppendResult()
        result.unknown = true
        return result
    }
    private var failed: LogAppendResult {
        var result = LogAppendResult()
        result.failure = Sample.failure(.storeUnavailable)
        return result
    }

    private func results(_ actions: [RoleAction<Never>], _ id: CallID) -> [SendResult] {
        guard case .storeOutcomes(let body) = actions.answer(to: id) else { return [] }
        return body.results
    }

    @Test func acceptsOnlyAfterTheLog() throws {
        var script = script()
        let (one, first) = script.call(store([try Sample.record(1)]))
        let (two, second) = script.call(store([try Sample.record(2), try Sample.record(3)]))
        #expect(first == [] && second == [])
        let append = try script.flush().call(to: .messageLog)
        guard case .logAppend(let body) = append.payload else { throw TestFailure() }
        #expect(body.log == "msg")
        let ids = try body.entries.map { try LogRecord(serializedBytes: $0.record).clientMsgID }
        #expect(ids == [1, 2, 3].map { Sample.id($0) })
        let buckets = MsgProxyConfig(instance: "1").buckets
        let bucket = StableHash.bucket(app: "app", conversation: Sample.conversation, buckets: buckets)
        #expect(body.entries.allSatisfy { $0.partition == bucket })
        let actions = script.reply(append.token, appended([done, done, done]))
        #expect(results(actions, one).map(\.outcome) == [.accepted])
        #expect(results(actions, two).map(\.outcome) == [.accepted, .accepted])
        #expect(results(actions, two).first?.sentMs == 1000)
    }

    @Test func refusedAndUnknownAreKeptApart() throws {
        var script = script()
        let (one, _) = script.call(store([try Sample.record(1)]))
        let first = try script.flush().call(to: .messageLog)
        let refused = results(script.reply(first.token, .refused(Sample.failure(.overloaded))), one)
        #expect(refused.map(\.outcome) == [.refused] && refused[0].failure.isCode(.overloaded))
        let (two, _) = script.call(store([try Sample.record(1)]))
        let second = try script.flush().call(to: .messageLog)
        let unknown = results(script.reply(second.token, .unknown(Sample.failure(.deadlineExceeded))), two)
        #expect(unknown.map(\.outcome) == [.unknown])
        let (three, _) = script.call(store([try Sample.record(1)]))
        let third = try script.flush().call(to: .messageLog)
        #expect(results(script.reply(third.token, appended([])), three).map(\.outcome) == [.unknown])
    }

    @Test func aPartialFailureFailsWhatIsBehindIt() throws {
        var script = script()
        let other = try Sample.record(9, conversation: "p:carol|dave", sender: "carol")
        let (id, _) = script.call(
            store([try Sample.record(1), try Sample.record(2), other, try Sample.record(3), try Sample.record(4)]))
        let append = try script.flush().call(to: .messageLog)
        let actions = script.reply(append.token, appended([done, failed, done, failed, done]))
        let results = results(actions, id)
        #expect(results.map(\.outcome) == [.accepted, .refused, .accepted, .refused, .unknown])
        #expect(results[3].failure.isCode(.resendInOrder))
    }

    @Test func unknownInTheMiddle() throws {
        var script = script()
        let (id, _) = script.call(store([try Sample.record(1), try Sample.record(2), try Sample.record(3)]))
        let append = try script.flush().call(to: .messageLog)
        let results = results(script.reply(append.token, appended([done, unknown, failed])), id)
        #expect(results.map(\.outcome) == [.accepted, .unknown, .refused])
    }

    @Test func aBucketThatIsBehindIsBusyInOrder() throws {
        var script = script { $0.waitingPerBucket = 2 }
        let (id, _) = script.call(store(try (1...4).map { try Sample.record($0) }))
        let append = try script.flush().call(to: .messageLog)
        let results = results(script.reply(append.token, appended([done, done])), id)
        #expect(results.map(\.outcome) == [.accepted, .accepted, .refused, .refused])
        #expect(results[2].failure.isCode(.busy) && results[3].failure.isCode(.resendInOrder))
        // The bucket is empty again.
        _ = script.call(store([try Sample.record(3)]))
        #expect(script.flush().hasCall(to: .messageLog))
    }

    @Test func bytesAreBoundedToo() throws {
        var script = script { $0.waitingBytes = 100 }
        _ = script.call(store([try Sample.record(1)]))
        let (id, actions) = script.call(store([try Sample.record(2)]))
        #expect(actions.refusal(of: id)?.isCode(.overloaded) == true)
    }

    @Test func refusesWhatTheWriterCouldNotStore() throws {
        var script = script()
        var records = try (1...6).map { try Sample.record($0) }
        records[0].conversation = "nonsense"
        records[1].clientMsgID = Data([1])
        records[2].message = Data(repeating: 7, count: 40_000)
        records[3].message = Data([0xff, 0xff])
        records[4].members = ["alice", "mallory"]
        let (id, _) = script.call(store(records))
        let append = try script.flush().call(to: .messageLog)
        let results = results(script.reply(append.token, appended([done])), id)
        #expect(
            results.dropLast().map(\.failure.code)
                == [ErrorCode.badConversation, .badMessageID, .messageTooLarge, .badContent, .malformedRequest].map(
                    \.number))
        #expect(results.last?.outcome == .accepted)
    }

    @Test func largeFlushesAreCutBetweenCallers() throws {
        var script = script { $0.entriesPerAppend = 2 }
        for number in 1...2 {
            _ = script.call(store(try (0..<3).map { try Sample.record(UInt64(number * 10 + $0)) }))
        }
        let sizes = script.flush().calls.map { call -> Int in
            guard case .logAppend(let body) = call.payload else { return 0 }
            return body.entries.count
        }
        #expect(sizes == [3, 3])
    }
}
