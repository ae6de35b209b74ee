import Foundation
import Testing
import Wire

@testable import MartletCheck

/// The rules for clients, as a script of one device.
@Suite struct ClientMachineTests {
    @Test func eightAreInFlightAndNoMore() {
        var script = Script()
        script.login()
        script.send(20)
        let first = script.sends()
        #expect(first.flatMap(\.numbers) == Array(0..<8))
        #expect(first.allSatisfy { $0.turn == 0 })
        script.accept(first[0])
        let next = script.sends()
        #expect(next.flatMap(\.numbers) == Array(8..<(8 + first[0].numbers.count)))
        #expect(script.history.acked == first[0].numbers.count)
    }

    @Test func nothingIsWrittenBeforeLoginAndEverythingAfter() {
        var script = Script()
        script.send(3)
        #expect(script.sends().isEmpty)
        script.login()
        #expect(script.sends().flatMap(\.numbers) == [0, 1, 2])
    }

    @Test func afterAFailureEverythingUnackedIsResentInOrderWithTheNextTurn() {
        var script = Script()
        script.login()
        script.send(12)
        let first = script.sends()
        script.accept(first[0])
        let accepted = first[0].numbers.count
        let refill = script.sends()
        script.fail(first[1], .outcomeUnknown)
        for sent in first[2...] + refill { script.fail(sent, .resendInOrder) }
        script.pass(250_000)
        #expect(script.sends().isEmpty, "it waits at least 300 ms")
        script.pass(150_000)
        let again = script.sends()
        #expect(again.flatMap(\.numbers) == Array(accepted..<(accepted + 8)))
        #expect(again.allSatisfy { $0.turn == 1 })
        let ids = Dictionary(uniqueKeysWithValues: zip(first.flatMap(\.numbers), first.flatMap(\.ids)))
        for sent in again {
            for (number, id) in zip(sent.numbers, sent.ids) where ids[number] != nil { #expect(ids[number] == id) }
        }
    }

    @Test func nothingNewIsWrittenWhileTheOrderIsBroken() {
        var script = Script()
        script.login()
        script.send(8)
        let first = script.sends()
        script.fail(first[0], .busy, after: 1000)
        for sent in first[1...] { script.accept(sent) }
        script.send(4)
        script.pass(900_000)
        #expect(script.sends().isEmpty, "the server asked for a second")
        script.pass(200_000)
        let again = script.sends()
        #expect(again.flatMap(\.numbers) == first[0].numbers + [8, 9, 10, 11])
        #expect(again.allSatisfy { $0.turn == 1 })
    }

    @Test func nothingIsResentBeforeEveryFrameOfTheTurnIsAnswered() {
        var script = Script()
        script.login()
        script.send(6)
        let first = script.sends()
        #expect(first.count > 2)
        script.fail(first[0], .retry)
        for sent in first[1..<(first.count - 1)] { script.fail(sent, .resendInOrder) }
        script.pass(5_000_000)
        #expect(script.sends().isEmpty, "the last frame may still be carried out")
        script.accept(first[first.count - 1])
        script.pass(400_000)
        let second = script.sends()
        #expect(second.first?.turn == 1)
        let accepted = first[first.count - 1].numbers.count
        #expect(second.flatMap(\.numbers) == Array(0..<(6 - accepted)))
        for sent in second { script.accept(sent) }
        #expect(script.history.acked == 6)
        #expect(script.machine.isQuiet)
    }

    @Test func resendWaitsDoubleUntilSomethingIsAccepted() {
        var script = Script()
        script.login()
        script.send(1)
        var wait: UInt64 = 300_000
        for turn: UInt16 in 0..<6 {
            let sent = script.sends()
            #expect(sent.map(\.turn) == [turn])
            script.fail(sent[0], .busy)
            script.pass(wait - 50_000)
            #expect(script.sends().isEmpty, "turn \(turn) came back in less than \(wait) us")
            script.pass(wait / 4 + 100_000)
            wait = min(wait * 2, 5_000_000)
        }
        let last = script.sends()
        #expect(last.map(\.turn) == [6])
        script.accept(last[0])
        script.send(1)
        script.fail(script.sends()[0], .busy)
        script.pass(400_000)
        #expect(script.sends().map(\.turn) == [7], "short again")
    }

    @Test func anUnknownItemBreaksTheOrderAndARefusedOneDoesNot() {
        var script = Script()
        script.login()
        script.send(1)
        script.answer(script.sends()[0], [(.refused, .noSuchUser)])
        #expect(script.history.refused == 1)
        script.send(1)
        let second = script.sends()
        #expect(second.map(\.turn) == [0])
        script.answer(second[0], [(.unknown, .outcomeUnknown)])
        script.pass(400_000)
        let third = script.sends()
        #expect(third.map(\.turn) == [1])
        #expect(third.map(\.ids) == second.map(\.ids))
        #expect(script.history.sends[1].doubtful)
        #expect(!script.history.sends[0].doubtful)
    }

    @Test func aNewConnectionStartsAtTurnZeroWithTheSameIDs() {
        var script = Script()
        script.login()
        script.send(5)
        for sent in script.sends() { script.fail(sent, .retry) }
        script.pass(400_000)
        let before = script.sends()
        #expect(!before.isEmpty && before.allSatisfy { $0.turn == 1 })
        script.on(.closed("gone"))
        script.login()
        let after = script.sends()
        #expect(after.allSatisfy { $0.turn == 0 })
        #expect(after.flatMap(\.numbers) == Array(0..<5))
        #expect(after.flatMap(\.ids) == before.flatMap(\.ids))
        #expect(script.history.sends.allSatisfy { $0.doubtful })
    }

    @Test func onlyWhatIsDenseIsAcknowledged() {
        var script = Script()
        script.login()
        script.on(.frame(.push(pushID: 1, script.pushed(1).buffer)))
        script.on(.frame(.push(pushID: 3, script.pushed(3).buffer)))
        script.pass(250_000)
        #expect(script.acks == [1])
        script.on(.frame(.push(pushID: 2, script.pushed(2).buffer)))
        script.pass(250_000)
        #expect(script.acks == [1, 3])
        // A repeat says that the ack was lost.
        script.on(.frame(.push(pushID: 3, script.pushed(3).buffer)))
        script.pass(250_000)
        #expect(script.acks == [1, 3, 3])
        #expect(script.history.redelivered == 1)
    }

    @Test func thirtyTwoPushesAreAcknowledgedAtOnce() {
        var script = Script()
        script.login()
        for id in 1...32 { script.on(.frame(.push(pushID: UInt32(id), script.pushed(UInt64(id)).buffer))) }
        #expect(script.acks == [32])
    }

    @Test func aGapIsAskedForAfterAMoment() {
        var script = Script()
        script.login()
        script.on(.frame(.push(pushID: 1, script.pushed(1).buffer)))
        script.on(.frame(.push(pushID: 2, script.pushed(4).buffer)))
        script.pass(250_000)
        #expect(script.requests(svid: 6, method: 1).isEmpty)
        script.pass(300_000)
        let asked = script.requests(svid: 6, method: 1)
        let query = asked.first.flatMap { HistoryRequest(body: $0.body) }?.queries.first
        #expect(query?.fromSeq == 2)
        #expect(query?.atLeast == 4)
        var page = HistoryPage()
        page.conversation = script.name
        page.messages = [2, 3, 4].map { script.pushed($0) }
        var response = HistoryResponse()
        response.pages = [page]
        script.on(.frame(.response(requestID: asked.first?.id ?? 0, response.buffer)))
        #expect(script.machine.receipts.conversations[0]?.dense == 4)
        #expect(script.history.redelivered == 0)
        script.pass(1_000_000)
        #expect(script.requests(svid: 6, method: 1).isEmpty)
    }

    @Test func whatSyncSaysIsMissingIsFetched() {
        var script = Script()
        script.login(head: 3)
        script.pass(600_000)
        #expect(script.requests(svid: 6, method: 1).count == 1)
    }

    @Test func syncNeededSyncsFromTheLastToken() {
        var script = Script()
        script.login()
        script.on(.frame(.syncNeeded(SyncNeeded().buffer)))
        let asked = script.requests(svid: 4, method: 1)
        #expect(asked.first.flatMap { SyncRequest(body: $0.body) }?.token == Data("mark".utf8))
    }

    @Test func aReadIsRepeatedUntilItIsConfirmed() {
        var script = Script()
        script.login()
        script.on(.frame(.push(pushID: 1, script.pushed(1).buffer)))
        script.machine.read(0)
        script.pass(50_000)
        let first = script.requests(svid: 4, method: 2)
        #expect(first.first.flatMap { SetStateRequest(body: $0.body) }?.changes.first?.readSeq == 1)
        script.on(.frame(.failure(requestID: first.first?.id ?? 0, Failure(.storeUnavailable, "down").buffer)))
        #expect(!script.machine.isQuiet)
        script.pass(1_000_000)
        let second = script.requests(svid: 4, method: 2)
        #expect(second.count == 1)
        var result = StateResult()
        result.ok = true
        var response = SetStateResponse()
        response.results = [result]
        script.on(.frame(.response(requestID: second.first?.id ?? 0, response.buffer)))
        #expect(script.machine.isQuiet)
        #expect(script.history.readConfirmed[0][script.roster.conversations[0].members.firstIndex(of: 0) ?? 0] == 1)
    }

    @Test func anUnansweredRequestCostsTheConnection() {
        var script = Script()
        script.login()
        script.send(1)
        script.actions = []
        script.pass(CheckConfig().requestTimeout + 100_000)
        #expect(script.actions.contains(.close))
        #expect(script.machine.stalls == 1)
    }

    @Test func aBadTokenIsFatalAndABusyServerIsNot() {
        var script = Script()
        while !script.actions.contains(.open) { script.pass(50_000) }
        script.on(.opened)
        script.on(.frame(.error(Failure(.tooManyConnections, "full").buffer)))
        #expect(script.machine.link.fatal == nil)
        script.actions = []
        while !script.actions.contains(.open) { script.pass(50_000) }
        script.on(.opened)
        script.on(.frame(.error(Failure(.tokenBadSignature, "no").buffer)))
        #expect(script.machine.link.fatal?.hasPrefix("token_bad_signature") == true)
    }
}
