import Identity
import NIOCore
import Testing
import Wire

@testable import MartletClient

/// The outbox: ids, batches, order, resending.
@Suite struct SendingRules {
    @Test func idsAreOfServerTimeAndItemsShareARequest() throws {
        var script = MachineScript()
        try script.goOnline()
        script.nowMS += 5_000
        script.send(1, 2, 3)
        let frames = script.take()
        #expect(frames.count == 1)
        let sent = try #require(frames.first?.sent)
        #expect(sent.turn == 0 && sent.request.conversation == MachineScript.pair)
        #expect(
            sent.request.items.map { String(decoding: $0.content, as: UTF8.self) } == ["text 1", "text 2", "text 3"])
        for item in sent.request.items {
            let time = try #require(MessageID.timeMS(item.clientMsgID))
            #expect(time == MachineScript.serverTimeMS + 5_000)
        }
        script.answerSend(try #require(frames.first), [.accepted, .accepted, .accepted])
        #expect(script.takeNotices().acceptedHandles == [1, 2, 3])
    }

    @Test func eightRequestsOfAConversationAndNoMore() throws {
        var script = MachineScript()
        try script.goOnline()
        for handle: UInt64 in 1...9 { script.send(handle) }
        let frames = script.take()
        #expect(frames.count == 8)
        script.answerSend(frames[0], [.accepted])
        let ninth = script.take()
        #expect(ninth.count == 1 && ninth.first?.sent?.request.items.first?.content == .init("text 9".utf8))
    }

    @Test func unknownResendsEverythingUnackedInOrderWithTheNextTurn() throws {
        var script = MachineScript()
        try script.goOnline()
        for handle: UInt64 in 1...3 { script.send(handle) }
        let first = script.take()
        let ids = first.compactMap { $0.sent?.request.items.first?.clientMsgID }
        script.answerSend(first[0], [.accepted])
        script.answerSend(first[1], [.unknown])
        script.fail(first[2], .resendInOrder)
        script.send(4)
        script.pass(299)
        #expect(script.take().isEmpty, "nothing overtakes, and the wait is at least 300 ms")
        script.pass(80)
        let again = script.take()
        #expect(again.count == 1)
        let sent = try #require(again.first?.sent)
        #expect(sent.turn == 1)
        #expect(
            sent.request.items.map { String(decoding: $0.content, as: UTF8.self) } == ["text 2", "text 3", "text 4"])
        #expect(sent.request.items.prefix(2).map(\.clientMsgID) == Array(ids[1...2]), "the same ids")
        #expect(script.takeNotices().acceptedHandles == [1])
        script.answerSend(try #require(again.first), [.accepted, .accepted, .accepted])
        #expect(script.takeNotices().acceptedHandles == [2, 3, 4])
    }

    @Test func nothingIsResentBeforeEveryFrameOfTheTurnIsAnswered() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1)
        script.send(2)
        script.send(3)
        let first = script.take()
        script.fail(first[0], .outcomeUnknown)
        script.fail(first[1], .resendInOrder)
        script.pass(5_000)
        #expect(!script.take().contains { $0.sent != nil }, "the third may still be carried out")
        script.answerSend(first[2], [.accepted])
        #expect(script.takeNotices().acceptedHandles == [3])
        script.pass(400)
        let again = try #require(script.take().first { $0.sent != nil }?.sent)
        #expect(again.turn == 1)
        #expect(again.request.items.map { String(decoding: $0.content, as: UTF8.self) } == ["text 1", "text 2"])
    }

    @Test func aFrameThatIsNeverAnsweredCostsTheConnection() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1)
        script.send(2)
        let first = script.take()
        script.fail(first[0], .outcomeUnknown)
        script.pass(9_000)
        #expect(script.closes == 0)
        script.pass(1_500)
        #expect(script.closes == 1)
    }

    @Test func waitsDoubleUntilSomethingIsAccepted() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1)
        var wait: UInt64 = 300
        for turn: UInt16 in 0..<6 {
            let frame = try #require(script.take().first { $0.sent != nil })
            #expect(frame.sent?.turn == turn)
            script.fail(frame, .busy)
            script.pass(wait - 1)
            #expect(!script.take().contains { $0.sent != nil }, "turn \(turn) came back in less than \(wait) ms")
            script.pass(wait / 4 + 2)
            wait = min(wait * 2, 5_000)
        }
    }

    @Test func refusedForGoodIsReportedAndTheRestGoesOn() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1, 2)
        let frame = try #require(script.take().first)
        script.answerSend(frame, [.refused, .accepted], failure: .noSuchUser)
        let notices = script.takeNotices()
        #expect(notices.failedHandles == [1] && notices.acceptedHandles == [2])
        script.pass(10_000)
        #expect(!script.take().contains { $0.sent != nil })
    }

    @Test func anAnswerWithTooFewResultsIsUnknown() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1, 2)
        script.answerSend(try #require(script.take().first), [.accepted])
        script.pass(400)
        #expect(script.take().first?.sent?.request.items.count == 1)
    }

    @Test func aReconnectResendsWithTheSameIDsAndTurnZero() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1)
        script.fail(try #require(script.take().first), .busy)
        script.pass(400)
        let before = try #require(script.take().first?.sent)
        #expect(before.turn == 1)
        script.tell(.disconnected("cable"))
        script.send(2)
        script.pass(500)
        script.tell(.connected)
        script.welcome()
        script.authenticated()
        let after = try #require(script.take().compactMap(\.sent).first)
        #expect(after.turn == 0)
        #expect(after.request.items.count == 2)
        #expect(after.request.items.first?.clientMsgID == before.request.items.first?.clientMsgID)
    }

    @Test func batchesStayBelowTheFrameLimit() throws {
        var script = MachineScript()
        try script.goOnline()
        let big = [UInt8](repeating: 65, count: 32 * 1024)
        for handle: UInt64 in 1...4 {
            _ = script.machine.on(
                .send(OutgoingMessage(handle: handle, conversation: MachineScript.pair, content: big)), nowMS: 1_000)
        }
        script.tell()
        let frames = script.take()
        #expect(frames.compactMap { $0.sent?.request.items.count } == [3, 1])
        for frame in frames { #expect(FrameCodec.payloadBytes(frame) <= FrameLimits.afterLoginBytes) }
    }

    @Test func limitsAreTyped() throws {
        var script = MachineScript { $0.outboxLimit = 2 }
        script.send(1, 2, 3)
        guard case .failed(3, let full) = script.takeNotices().last else {
            Issue.record("the third was taken")
            return
        }
        #expect(full.isCode(.limitExceeded))
        script.send(4, to: "p:bob|alice")
        guard case .failed(4, let bad) = script.takeNotices().last else {
            Issue.record("a name in the wrong order was taken")
            return
        }
        #expect(bad.isCode(.badConversation))
        let huge = OutgoingMessage(
            handle: 5, conversation: MachineScript.pair, content: .init(repeating: 0, count: 32 * 1024 + 1))
        script.tell(.send(huge))
        guard case .failed(5, let large) = script.takeNotices().last else {
            Issue.record("33 KiB were taken")
            return
        }
        #expect(large.isCode(.messageTooLarge))
    }
}
