import Foundation
import NIOCore
import Testing
import Wire

@testable import MartletClient

/// Order, holes, repeats, push acks, own messages.
@Suite struct ReceivingRules {
    @Test func onlyTheDensePrefixIsShown() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 2)
        script.push(2, 3)
        #expect(script.notices.shown.isEmpty)
        script.push(3, 1)
        #expect(script.notices.shown == [1, 2, 3])
        script.pass(2_000)
        #expect(!script.take().contains { $0.isRequest(6, 1) }, "the hole closed by itself")
    }

    @Test func aHoleIsRepairedAfterItsWait() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 1)
        script.push(2, 3)
        script.pass(299)
        #expect(!script.take().contains { $0.isRequest(6, 1) })
        script.pass(2)
        let request = try #require(script.take().first { $0.isRequest(6, 1) })
        guard case .request(_, let body) = request, let query = HistoryRequest(body: body)?.queries.first else {
            Issue.record("unreadable")
            return
        }
        #expect(query.fromSeq == 2 && query.atLeast == 3)
        let rows = [MachineScript.row(2), MachineScript.row(3)]
        script.answer(request, MachineScript.page(rows, head: 3).buffer)
        #expect(script.notices.shown == [1, 2, 3])
        #expect(script.machine.redelivered == 1)
    }

    /// Seen over one connection, repaired over the next, though the sync there says that nothing has changed.
    @Test func aHoleOutlivesItsConnection() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 1)
        script.push(2, 3)
        script.pass(310)
        #expect(script.take().contains { $0.isRequest(6, 1) })
        script.tell(.disconnected("cable"))
        script.pass(1000)
        try script.goOnline()
        script.pass(310)
        let request = try #require(script.take().first { $0.isRequest(6, 1) })
        let rows = [MachineScript.row(2), MachineScript.row(3)]
        script.answer(request, MachineScript.page(rows, head: 3).buffer)
        #expect(script.notices.shown == [2, 3])
    }

    @Test func aPageThatBringsNothingIsAskedAgainLater() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 2)
        script.pass(310)
        let request = try #require(script.take().first { $0.isRequest(6, 1) })
        script.fail(request, .historyUnavailable)
        script.pass(900)
        #expect(!script.take().contains { $0.isRequest(6, 1) })
        script.pass(500)
        #expect(script.take().contains { $0.isRequest(6, 1) })
    }

    @Test func repeatsAreShownOnceAndAckedAgain() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 1)
        script.push(1, 1)
        #expect(script.notices.shown == [1])
        script.pass(201)
        #expect(script.take() == [.pushAck(pushID: 1)])
        script.push(1, 1)
        script.pass(201)
        #expect(script.take() == [.pushAck(pushID: 1)], "the first ack may have been lost")
        #expect(script.notices.shown == [1])
    }

    @Test func acksAfterThirtyTwoAtOnce() throws {
        var script = MachineScript()
        try script.goOnline()
        for seq: UInt64 in 1...31 { script.push(UInt32(seq), seq) }
        #expect(script.take().isEmpty)
        script.push(32, 32)
        #expect(script.take() == [.pushAck(pushID: 32)])
    }

    @Test func aMissingPushIsNeverAcked() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 1)
        script.push(3, 3)
        script.pass(201)
        #expect(script.take().first { $0.type == .pushAck } == .pushAck(pushID: 1))
        script.push(2, 2)
        script.pass(201)
        #expect(script.take().first { $0.type == .pushAck } == .pushAck(pushID: 3))
        #expect(script.notices.shown == [1, 2, 3])
    }

    @Test func ownMessagesArePlacedByNoticeOnce() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(41)
        let request = try #require(script.take().first)
        let id = try #require(request.sent?.request.items.first?.clientMsgID)
        script.answerSend(request, [.accepted])
        var stored = SeqNotice.Stored()
        stored.conversation = MachineScript.pair
        stored.clientMsgID = id
        stored.seq = 1
        stored.n = 1
        stored.timeMs = 77
        var notice = SeqNotice()
        notice.stored = [stored]
        script.tell(.received(.seqNotice(pushID: 1, notice.buffer)))
        let shown = script.takeNotices().compactMap { if case .message(let message) = $0 { message } else { nil } }
        #expect(shown.count == 1)
        #expect(shown.first?.handle == 41 && shown.first?.seq == 1 && shown.first?.timeMS == 77)
        #expect(shown.first?.message.sender == "alice" && shown.first?.message.content == Data("text 41".utf8))
        script.tell(.received(.seqNotice(pushID: 2, notice.buffer)))
        #expect(script.takeNotices().shown.isEmpty)
        script.pass(201)
        #expect(script.take() == [.pushAck(pushID: 2)])
    }

    @Test func aPlaceIsAnAcceptanceThoughTheAckWasLost() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(9)
        let request = try #require(script.take().first)
        let item = try #require(request.sent?.request.items.first)
        var message = ChatMessage()
        message.sender = "alice"
        message.device = "d1"
        message.clientMsgID = item.clientMsgID
        message.content = item.content
        var row = MachineScript.row(1)
        row.message = try message.serializedData()
        script.tell(.disconnected("cable"))
        script.pass(500)
        script.tell(.connected)
        script.welcome()
        script.authenticated()
        script.tell(.received(.push(pushID: 1, row.buffer)))
        try script.answerSync([])
        let notices = script.takeNotices()
        #expect(notices.acceptedHandles == [9])
        #expect(notices.shown == [1])
        _ = script.take()
        script.tell(.disconnected("cable"))
        script.pass(500)
        script.tell(.connected)
        script.welcome()
        script.authenticated()
        #expect(!script.take().contains { $0.sent != nil }, "nothing is left to resend")
    }

    @Test func anUnreadableBodyTakesItsPlaceAndHoldsNothingUp() throws {
        var script = MachineScript()
        try script.goOnline()
        var row = MachineScript.row(1)
        row.message = Data([0xFF, 0xFF, 0xFF])
        script.tell(.received(.push(pushID: 1, row.buffer)))
        script.push(2, 2)
        #expect(script.notices.shown == [1, 2])
    }
}

/// Sync, read and delivered positions, unread.
@Suite struct SyncRules {
    @Test func theFirstSyncShowsTheNewestPage() throws {
        var script = MachineScript()
        script.logIn()
        try script.answerSync([MachineScript.entry(head: 1_000, unread: 3, read: 997)])
        let request = try #require(script.take().first { $0.isRequest(6, 1) })
        guard case .request(_, let body) = request, let query = HistoryRequest(body: body)?.queries.first else {
            Issue.record("unreadable")
            return
        }
        #expect(query.fromSeq == 951 && query.limit == 200)
        let rows = (951...1_000).map { MachineScript.row($0) }
        script.answer(request, MachineScript.page(rows, head: 1_000).buffer)
        #expect(script.notices.shown == Array(951...1_000))
        let states = script.notices.compactMap { if case .conversation(let state) = $0 { state } else { nil } }
        #expect(states.last?.unread == 3, "backlog is in the server's count already")
        script.push(1, 1_001)
        script.push(2, 1_002, control: true)
        let after = script.notices.compactMap { if case .conversation(let state) = $0 { state } else { nil } }
        #expect(after.last?.unread == 4)
    }

    @Test func pushesBeforeTheSyncAnswerWaitForIt() throws {
        var script = MachineScript()
        script.logIn()
        script.push(1, 1_001)
        #expect(script.notices.shown.isEmpty)
        try script.answerSync([MachineScript.entry(head: 1_000)])
        let request = try #require(script.take().first { $0.isRequest(6, 1) })
        script.answer(request, MachineScript.page((951...1_000).map { MachineScript.row($0) }, head: 1_001).buffer)
        #expect(script.notices.shown == Array(951...1_001))
    }

    @Test func pagesAreAskedToTheEndAndTheTokenIsKept() throws {
        var script = MachineScript()
        script.logIn()
        try script.answerSync([], more: true, token: 5)
        let second = try #require(script.written.last)
        guard case .request(_, let body) = second else {
            Issue.record("no second page")
            return
        }
        #expect(SyncRequest(body: body)?.token == Data([5]))
        #expect(!script.notices.contains(.synced))
        try script.answerSync([], token: 6)
        #expect(script.notices.contains(.synced))
        script.tell(.received(.syncNeeded(ByteBuffer())))
        guard case .request(_, let again) = try #require(script.written.last) else { return }
        #expect(SyncRequest(body: again)?.token == Data([6]))
    }

    @Test func syncNeededDuringASyncMeansOnceMore() throws {
        var script = MachineScript()
        script.logIn()
        script.tell(.received(.syncNeeded(ByteBuffer())))
        #expect(script.written.filter { $0.isRequest(4, 1) }.count == 1)
        try script.answerSync()
        #expect(script.written.filter { $0.isRequest(4, 1) }.count == 1)
    }

    @Test func aFailedSyncIsRepeated() throws {
        var script = MachineScript()
        script.logIn()
        let request = try #require(script.take().last)
        script.fail(request, .storeUnavailable)
        script.pass(1_600)
        #expect(script.take().contains { $0.isRequest(4, 1) })
    }

    /// What asks for a sync while one waits to go on may concern its first pages, which have come already.
    @Test(arguments: [true, false]) func aReasonOutlivesAFailedPage(comesFirst: Bool) throws {
        var script = MachineScript()
        script.logIn()
        try script.answerSync([], more: true, token: 5)
        let second = try #require(script.take().last { $0.isRequest(4, 1) })
        if comesFirst { script.tell(.received(.syncNeeded(ByteBuffer()))) }
        script.fail(second, .storeUnavailable)
        if !comesFirst { script.tell(.received(.syncNeeded(ByteBuffer()))) }
        script.pass(1_600)
        #expect(script.syncTokens == [Data([5])])
        try script.answerSync([], token: 6)
        #expect(script.syncTokens == [Data([6])])
        try script.answerSync([], token: 7)
        #expect(script.syncTokens == [])
    }

    /// The data folder of another deployment: its token says nothing here.
    @Test func aTokenThatIsRefusedForGoodIsForgotten() throws {
        var script = MachineScript()
        script.logIn()
        try script.answerSync([], token: 5)
        script.tell(.received(.syncNeeded(ByteBuffer())))
        script.fail(try #require(script.take().last { $0.isRequest(4, 1) }), .malformedRequest)
        script.pass(1_600)
        #expect(script.syncTokens == [Data()])
    }

    @Test func everyTenMinutes() throws {
        var script = MachineScript()
        try script.goOnline()
        for _ in 0..<24 {
            script.pass(25_000)
            script.tell(.received(.pong))
        }
        #expect(script.take().filter { $0.isRequest(4, 1) }.count == 1)
    }

    @Test func positionsGatherAndSurviveAFailure() throws {
        var script = MachineScript()
        try script.goOnline()
        script.push(1, 1)
        script.push(2, 2)
        script.tell(.read(conversation: MachineScript.pair, seq: 1))
        script.tell(.read(conversation: MachineScript.pair, seq: 2))
        script.pass(501)
        let request = try #require(script.take().first { $0.isRequest(4, 2) })
        guard case .request(_, let body) = request, let changes = SetStateRequest(body: body)?.changes else {
            Issue.record("unreadable")
            return
        }
        #expect(changes.count == 1 && changes[0].readSeq == 2 && changes[0].deliveredSeq == 2)
        script.fail(request, .storeUnavailable)
        script.push(3, 3)
        script.pass(1_100)
        guard case .request(_, let again) = try #require(script.take().first(where: { $0.isRequest(4, 2) })) else {
            return
        }
        let merged = SetStateRequest(body: again)?.changes.first
        #expect(merged?.readSeq == 2 && merged?.deliveredSeq == 3)
    }

    @Test func theOtherSidesPositionsArrive() throws {
        var script = MachineScript()
        try script.goOnline([MachineScript.entry(head: 4)])
        var hint = StateHint()
        hint.conversation = MachineScript.pair
        hint.userID = "bob"
        hint.readSeq = 3
        hint.deliveredSeq = 4
        var event = Event()
        event.svid = 4
        event.name = "state"
        event.body = try hint.serializedData()
        script.tell(.received(.event(event.buffer)))
        let states = script.notices.compactMap { if case .conversation(let state) = $0 { state } else { nil } }
        #expect(states.last?.peerReadSeq == 3 && states.last?.peerDeliveredSeq == 4)
    }
}
