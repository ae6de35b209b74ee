import NIOCore
import Testing
import Wire

@testable import MartletClient

/// Handshake, heartbeat, reconnecting, and what ends it for good.
@Suite struct ConnectionRules {
    @Test func handshakeThenSync() throws {
        var script = MachineScript()
        script.tell(.start)
        #expect(script.connects == [nil])
        script.tell(.connected)
        let hello = script.take()
        #expect(hello.count == 1 && hello[0].type == .hello)
        script.welcome()
        let login = script.take()
        guard case .authenticate(let body) = login.first, let request = Authenticate(body: body) else {
            Issue.record("no AUTHENTICATE: \(login)")
            return
        }
        #expect(request.token == "user:alice" && request.deviceID == "d1" && request.platform == "terminal")
        script.authenticated()
        #expect(script.notices.contains(.connection(.online(userID: "alice", sessionID: "s1"))))
        let sync = script.take()
        #expect(sync.count == 1 && sync[0].isRequest(4, 1))
    }

    @Test func heartbeatOnlyWhenNothingElseIsWritten() throws {
        var script = MachineScript()
        try script.goOnline()
        script.pass(29_000)
        #expect(script.take().isEmpty)
        script.tell(.received(.pong))
        script.pass(1_001)
        #expect(script.take() == [.ping])
        script.tell(.received(.pong))
        script.pass(15_000)
        script.send(1)
        let sent = script.take()
        #expect(sent.count == 1)
        script.answerSend(try #require(sent.first), [.accepted])
        script.pass(16_000)
        #expect(!script.take().contains(.ping), "the send was a sign of life 16 s ago")
    }

    @Test func silenceOfTwoPeriodsIsTheEndOfTheConnection() throws {
        var script = MachineScript()
        try script.goOnline()
        script.pass(60_001)
        #expect(script.closes == 1)
        #expect(script.connects.count >= 1)
        script.pass(500)
        #expect(script.connects.count == 2, "it connects again by itself")
    }

    @Test func reconnectsWithGrowingJitteredWaits() throws {
        var script = MachineScript()
        script.tell(.start)
        var waits: [UInt64] = []
        for _ in 0..<8 {
            script.tell(.disconnected("refused"))
            let until = try #require(script.machine.nextWakeMS)
            waits.append(until - script.nowMS)
            script.pass(until - script.nowMS)
        }
        for (index, wait) in waits.enumerated() {
            let ceiling = min(5_000, 300 << UInt64(index))
            #expect(wait >= ceiling / 2 && wait <= ceiling + 1, "wait \(index) was \(wait)")
        }
        #expect(script.connects.count == 9)
    }

    @Test func aServerThatDoesNotAnswerTheHandshakeIsLeft() throws {
        var script = MachineScript()
        script.tell(.start)
        script.tell(.connected)
        script.pass(10_001)
        #expect(script.closes == 1)
    }

    @Test func wrongTokenEndsItAndTellsWhatWasPending() throws {
        var script = MachineScript()
        script.tell(.start)
        script.send(5)
        script.tell(.connected)
        script.welcome()
        let failure = Failure(.tokenExpired, "expired")
        script.tell(.received(.error(failure.buffer)))
        #expect(script.notices.contains(.ended(failure)))
        #expect(script.notices.failedHandles == [5])
        #expect(script.machine.nextWakeMS == nil)
        _ = script.takeNotices()
        script.send(6)
        #expect(script.notices.failedHandles == [6], "nothing is pending for ever after the end")
    }

    @Test func troubleOfTheServerIsTriedAgain() throws {
        var script = MachineScript()
        script.tell(.start)
        script.tell(.connected)
        script.welcome()
        script.tell(.received(.error(Failure(.goingAway, "restarting").buffer)))
        script.pass(1_000)
        #expect(script.connects.count == 2)
    }

    @Test func displacedMeansStayAway() throws {
        var script = MachineScript()
        try script.goOnline()
        var kick = Kick()
        kick.code = ErrorCode.displaced.number
        kick.reason = ErrorCode.displaced.name
        script.tell(.received(.kick(kick.buffer)))
        script.pass(120_000)
        #expect(script.connects.count == 1)
        guard case .ended(let failure?) = script.notices.last else {
            Issue.record("not ended: \(script.notices)")
            return
        }
        #expect(failure.isCode(.displaced))
    }

    @Test func redirectGoesThereAtOnce() throws {
        var script = MachineScript()
        try script.goOnline()
        var redirect = Redirect()
        redirect.address = "10.0.0.7:7782"
        script.tell(.received(.redirect(redirect.buffer)))
        script.pass(1)
        #expect(script.connects == [nil, "10.0.0.7:7782"])
    }

    @Test func appRequestsAreAnsweredEvenWhenTheConnectionIsLost() throws {
        var script = MachineScript()
        script.tell(.request(handle: 1, svid: 1000, method: 1, body: []))
        guard case .answer(1, .failed(let offline)) = script.takeNotices().last else {
            Issue.record("no answer while offline")
            return
        }
        #expect(offline.isCode(.serviceUnavailable))
        try script.goOnline()
        script.tell(.request(handle: 2, svid: 1000, method: 1, body: [1]))
        let request = try #require(script.take().first)
        #expect(request.isRequest(1000, 1))
        script.answer(request, ByteBuffer(bytes: [9]))
        #expect(script.takeNotices() == [.answer(handle: 2, .ok([9]))])
        script.tell(.request(handle: 3, svid: 1000, method: 1, body: []))
        script.tell(.disconnected("cable"))
        guard case .answer(3, .failed(let lost)) = script.takeNotices().first else {
            Issue.record("no answer after the loss")
            return
        }
        #expect(lost.isCode(.outcomeUnknown))
    }

    @Test func anUnansweredRequestGivesTheConnectionUp() throws {
        var script = MachineScript()
        try script.goOnline()
        script.send(1)
        script.pass(9_000)
        script.tell(.received(.pong))
        #expect(script.closes == 0)
        script.pass(1_500)
        #expect(script.closes == 1)
    }

    @Test func presenceIsWatchedAgainAfterAReconnect() throws {
        var script = MachineScript()
        try script.goOnline()
        script.tell(.watch(["bob"]))
        #expect(script.take().contains { $0.isRequest(5, 2) })
        script.tell(.disconnected("cable"))
        script.pass(500)
        script.tell(.connected)
        script.welcome()
        script.authenticated()
        let watch = try #require(script.written.first { $0.isRequest(5, 2) })
        var user = UserPresence()
        user.userID = "bob"
        user.state = .presenceOnline
        var response = PresenceResponse()
        response.users = [user]
        script.answer(watch, response.buffer)
        #expect(script.notices.contains(.presence(user: "bob", online: true)))
    }
}
