import NIOCore
import RPC
import Testing
import Wire

@testable import LoginRole

@Suite struct RequestTests {
    @Test func oneHandOverPerFlushAndService() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice")
        try script.login(2, "bob")
        script.request(1, 10)
        script.request(2, 11)
        script.ordered(1, 12, key: "p:alice|bob")
        script.flush()
        let made = script.takeCalls(.route)
        let calls = made.compactMap { call -> ServiceCalls? in
            if case .serviceCalls(let calls) = call.payload { calls } else { nil }
        }
        #expect(calls.map { $0.calls.map(\.svid) } == [[6, 6], [1]])
        #expect(calls[0].calls[0].caller.userID == "alice" && calls[0].calls[0].caller.sessionID == alice)
        #expect(calls[1].calls[0].orderKey == "p:alice|bob")
        script.answerCalls(made[0], [LoginScript.ok(), LoginScript.failed(.notFound)])
        #expect(script.takeFrames(1).compactMap(\.responseID) == [10])
        #expect(script.takeFrames(2).compactMap { $0.failureCode?.code } == [ErrorCode.notFound.number])
    }

    @Test func oneBatchPerKeyInFlight() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        for request in 1...3 as ClosedRange<UInt32> { script.ordered(1, request, key: "a", body: "\(request)") }
        script.flush()
        let (first, calls) = try script.takeServiceCalls()
        #expect(calls.calls.map { String(decoding: $0.body, as: UTF8.self) } == ["1", "2", "3"])
        script.ordered(1, 4, key: "a", body: "4")
        script.ordered(1, 5, key: "b", body: "5")
        script.ordered(1, 6, key: "a", body: "6")
        script.flush()
        let (_, other) = try script.takeServiceCalls()
        #expect(other.calls.map(\.orderKey) == ["b"])
        script.answerCalls(first, Array(repeating: LoginScript.ok(), count: 3))
        #expect(script.takeFrames(1).compactMap(\.responseID) == [1, 2, 3])
        let (_, next) = try script.takeServiceCalls()
        #expect(next.calls.map { String(decoding: $0.body, as: UTF8.self) } == ["4", "6"])
    }

    @Test func aKeyBreaksAtARetryableFailure() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "a")
        script.ordered(1, 2, key: "a")
        script.flush()
        let (first, _) = try script.takeServiceCalls()
        script.ordered(1, 3, key: "a")
        script.ordered(1, 4, key: "b")
        script.answerCalls(first, [LoginScript.ok(), LoginScript.failed(.busy)])
        let frames = script.takeFrames(1)
        #expect(frames.compactMap(\.responseID) == [1])
        #expect(frames.compactMap(\.failureCode).map(\.request) == [2, 3])
        #expect(
            frames.compactMap(\.failureCode).map(\.code) == [ErrorCode.busy.number, ErrorCode.resendInOrder.number])
        // Sent before the client knew: too late. With the next turn: taken. The other key never noticed.
        script.ordered(1, 5, key: "a")
        #expect(script.takeFrames(1).compactMap(\.failureCode).map(\.code) == [ErrorCode.resendInOrder.number])
        script.ordered(1, 6, key: "a", turn: 1)
        script.flush()
        let kept = script.takeCalls(.route).flatMap { call -> [String] in
            if case .serviceCalls(let calls) = call.payload { calls.calls.map(\.orderKey) } else { [] }
        }
        #expect(kept.sorted() == ["a", "b"])
    }

    @Test func aBrokenReplyBreaksTheKeyThoughItAnswers() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "a")
        script.flush()
        let (call, _) = try script.takeServiceCalls()
        script.ordered(1, 2, key: "a")
        var reply = LoginScript.ok("cut")
        reply.broken = true
        script.answerCalls(call, [reply])
        let frames = script.takeFrames(1)
        #expect(frames.compactMap(\.responseID) == [1])
        #expect(frames.compactMap(\.failureCode).map(\.request) == [2])
        #expect(script.takeCalls(.route).isEmpty)
    }

    @Test func aFinalRefusalBreaksNothing() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "a")
        script.flush()
        let (call, _) = try script.takeServiceCalls()
        script.ordered(1, 2, key: "a")
        script.answerCalls(call, [LoginScript.failed(.badContent)])
        #expect(try script.takeServiceCalls().1.calls.count == 1)
    }

    @Test func unknownAndRefusedHandOvers() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "a")
        script.ordered(1, 2, key: "a")
        script.flush()
        script.fail(try script.takeServiceCalls().0, .unknown(Failure(.deadlineExceeded, "late")))
        let unknown = ErrorCode.outcomeUnknown.number
        #expect(script.takeFrames(1).compactMap { $0.failureCode?.code } == [unknown, unknown])
        script.ordered(1, 3, key: "a", turn: 1)
        script.ordered(1, 4, key: "a", turn: 1)
        script.flush()
        script.fail(try script.takeServiceCalls().0, .refused(Failure(.serviceUnavailable, "")))
        #expect(
            script.takeFrames(1).compactMap { $0.failureCode?.code }
                == [ErrorCode.serviceUnavailable.number, ErrorCode.resendInOrder.number])
        script.ordered(1, 5, key: "a", turn: 1)
        #expect(script.takeFrames(1).compactMap { $0.failureCode?.code } == [ErrorCode.resendInOrder.number])
    }

    @Test func missingRepliesAreUnknown() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.request(1, 1)
        script.request(1, 2)
        script.flush()
        script.answerCalls(try script.takeServiceCalls().0, [LoginScript.ok()])
        let frames = script.takeFrames(1)
        #expect(frames.compactMap(\.responseID) == [1])
        #expect(frames.compactMap(\.failureCode).map(\.code) == [ErrorCode.outcomeUnknown.number])
    }

    @Test func inFlightIsBounded() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        for request in 1...65 as ClosedRange<UInt32> { script.request(1, request) }
        #expect(script.takeFrames(1).compactMap { $0.failureCode?.code } == [ErrorCode.tooManyInFlight.number])
        script.ordered(1, 66, key: "a")
        script.flush()
        let (call, calls) = try script.takeServiceCalls()
        #expect(calls.calls.count == 64, "an ordered request waits for room")
        script.answerCalls(call, Array(repeating: LoginScript.ok(), count: 64))
        #expect(try script.takeServiceCalls().1.calls.map(\.orderKey) == ["a"])
    }

    @Test func aFullKeyBreaksForWhatComesAfter() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "a")
        script.flush()
        let (call, _) = try script.takeServiceCalls()
        for request in 2...257 as ClosedRange<UInt32> { script.ordered(1, request, key: "a") }
        #expect(script.takeFrames(1).isEmpty)
        script.ordered(1, 258, key: "a")
        #expect(script.takeFrames(1).compactMap { $0.failureCode?.code } == [ErrorCode.tooManyInFlight.number])
        script.answerCalls(call, [LoginScript.ok()])
        // There is room again, but 258 was refused and this one came after it.
        script.ordered(1, 259, key: "a")
        #expect(script.takeFrames(1).compactMap { $0.failureCode?.code } == [ErrorCode.resendInOrder.number])
        // What waited before it goes on.
        #expect(try script.takeServiceCalls().1.calls.count == 64)
    }

    @Test func tooManyKeysEndTheSession() throws {
        var script = LoginScript { $0.maxKeys = 3 }
        try script.login(1, "alice")
        for key in 1...4 as ClosedRange<UInt32> { script.ordered(1, key, key: "k\(key)") }
        #expect(try script.takeError(1).isCode(.limitExceeded))
    }

    @Test func keysThatSayNothingAreForgotten() throws {
        var script = LoginScript { $0.maxKeys = 3 }
        try script.login(1, "alice")
        for key in 1...100 as ClosedRange<UInt32> {
            script.ordered(1, key, key: "k\(key)")
            script.flush()
            script.answerCalls(try script.takeServiceCalls().0, [LoginScript.ok()])
        }
        #expect(script.takeFrames(1).count == 100)
    }

    @Test func readingStopsAboveTheHeldBytes() throws {
        var script = LoginScript { $0.maxHeldBytes = 100 }
        try script.login(1, "alice")
        script.request(1, 1, body: String(repeating: "x", count: 101))
        #expect(script.takeOutputs() == [.reading(ConnectionID(1), false)])
        script.flush()
        // Nothing can be heard while nothing is read: no heartbeat time-out.
        let (call, _) = try script.takeServiceCalls()
        script.advance(ms: 70_000)
        #expect(script.takeFrames(1).isEmpty)
        script.answerCalls(call, [LoginScript.ok()])
        #expect(script.takeOutputs() == [.reading(ConnectionID(1), true)])
    }

    @Test func oneServicePerBatchOfAKey() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "a")
        script.frame(1, .orderedRequest(.init(svid: 1000, method: 1, requestID: 2), key: "a", turn: 0, ByteBuffer()))
        script.flush()
        let (call, calls) = try script.takeServiceCalls()
        #expect(calls.calls.map(\.svid) == [1])
        script.answerCalls(call, [LoginScript.ok()])
        #expect(try script.takeServiceCalls().1.calls.map(\.svid) == [1000])
    }

    @Test func aBatchOfAKeyIsNeverSpreadOverTwo() throws {
        var script = LoginScript { $0.maxCallsPerBatch = 4 }
        try script.login(1, "alice")
        for request in 1...3 as ClosedRange<UInt32> { script.ordered(1, request, key: "a") }
        for request in 4...6 as ClosedRange<UInt32> { script.ordered(1, request, key: "b") }
        script.flush()
        let keys = script.takeCalls(.route).map { call -> [String] in
            if case .serviceCalls(let calls) = call.payload { calls.calls.map(\.orderKey) } else { [] }
        }
        #expect(keys == [["a", "a", "a"], ["b", "b", "b"]])
    }

    @Test func tracesAreFoundInTheBody() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        var send = SendRequest()
        send.conversation = "p:alice|bob"
        send.items = [SendItem(), SendItem()]
        send.traceID = "t-1"
        script.frame(1, .orderedRequest(.init(svid: 1, method: 1, requestID: 1), key: "a", turn: 0, send.buffer))
        script.flush()
        #expect(try script.takeServiceCalls().1.calls.map(\.traceID) == ["t-1"])
        #expect(script.traces == ["t-1"])
        for cut in 0..<send.buffer.readableBytes {
            #expect(TraceScan.traceID(try #require(send.buffer.getSlice(at: 0, length: cut))).isEmpty)
        }
    }

    @Test func framesThatOnlyServersSend() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.frame(1, .push(pushID: 1, ByteBuffer()))
        #expect(try script.takeError(1).isCode(.unexpectedFrame))
    }
}
