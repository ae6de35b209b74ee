import Foundation
import Machinery
import NIOCore
import Testing
import Wire

@testable import MartletCheck

/// Drives one client machine by hand: a server in the test's own words.
struct Script {
    let roster = Roster(users: 2, devicesPerUser: 1, partners: 1, seed: 1, tag: "cscript")
    var history: History
    var machine: ClientMachine
    var now: UInt64 = 1_000_000
    /// What the machine wrote since the last look.
    var written: [Frame] = []
    var actions: [LinkAction] = []

    struct Sent: Equatable {
        var id: UInt32
        var turn: UInt16
        var numbers: [Int]
        var ids: [Data]
    }

    init() {
        history = History(roster: roster)
        machine = ClientMachine(
            device: 0, roster: roster, token: "t", config: CheckConfig(), seed: 3, firstOpen: 0)
    }

    var name: String { roster.conversations[0].name }

    mutating func on(_ event: LinkEvent) {
        var new: [LinkAction] = []
        machine.on(event, now: now, history: &history, actions: &new)
        take(new)
    }

    private mutating func take(_ new: [LinkAction]) {
        actions += new
        for case .write(let frame) in new { written.append(frame) }
    }

    mutating func pass(_ micros: UInt64) {
        for _ in 0..<(micros / 50_000) {
            now += 50_000
            on(.tick)
        }
    }

    /// Connects, logs in and answers the first sync with nothing.
    mutating func login(head: UInt64 = 0) {
        while !actions.contains(.open) { pass(50_000) }
        actions = []
        on(.opened)
        var welcome = Welcome()
        welcome.version = 1
        welcome.serverTimeMs = 1_700_000_000_000
        on(.frame(.welcome(welcome.buffer)))
        on(.frame(.authenticated(Authenticated().buffer)))
        answerSync(head: head)
    }

    mutating func answerSync(head: UInt64) {
        let asked = requests(svid: 4, method: 1)
        #expect(asked.count == 1)
        var response = SyncResponse()
        response.token = Data("mark".utf8)
        if head > 0 {
            var entry = ConversationEntry()
            entry.conversation = name
            entry.headSeq = head
            response.entries = [entry]
        }
        if let id = asked.first?.id { on(.frame(.response(requestID: id, response.buffer))) }
    }

    mutating func send(_ count: Int) {
        var new: [LinkAction] = []
        _ = machine.send(count, conversation: 0, now: now, history: &history, actions: &new)
        take(new)
    }

    /// The plain requests of a kind that were written, taken out.
    mutating func requests(svid: UInt16, method: UInt16) -> [(id: UInt32, body: ByteBuffer)] {
        var found: [(UInt32, ByteBuffer)] = []
        written.removeAll { frame in
            guard case .request(let header, let body) = frame, header.svid == svid, header.method == method else {
                return false
            }
            found.append((header.requestID, body))
            return true
        }
        return found
    }

    /// The sends that were written, taken out.
    mutating func sends() -> [Sent] {
        var found: [Sent] = []
        let name = self.name
        written.removeAll { frame in
            guard case .orderedRequest(let header, let key, let turn, let body) = frame else { return false }
            #expect(key == name)
            let items = SendRequest(body: body)?.items ?? []
            found.append(
                Sent(
                    id: header.requestID, turn: turn, numbers: items.compactMap { Roster.number(inID: $0.clientMsgID) },
                    ids: items.map(\.clientMsgID)))
            return true
        }
        return found
    }

    mutating func accept(_ sent: Sent) {
        answer(sent, sent.numbers.map { _ in (.accepted, nil) })
    }

    mutating func answer(_ sent: Sent, _ outcomes: [(Outcome, ErrorCode?)]) {
        var response = SendResponse()
        response.results = outcomes.map { outcome, code in
            var result = SendResult()
            result.outcome = outcome
            if let code { result.failure = Failure(code, "as scripted") }
            return result
        }
        on(.frame(.response(requestID: sent.id, response.buffer)))
    }

    mutating func fail(_ sent: Sent, _ code: ErrorCode, after: UInt32 = 0) {
        on(.frame(.failure(requestID: sent.id, Failure(code, "as scripted", retryAfterMS: after).buffer)))
    }

    /// A message of the other user.
    func pushed(_ seq: UInt64) -> PushedMessage {
        var message = ChatMessage()
        message.sender = roster.users[1]
        message.device = "d0"
        message.content = Data(roster.text(Int(seq) + 1000).utf8)
        message.clientMsgID = Roster.messageID(Int(seq) + 1000, timeMS: 1, random: 2)
        var pushed = PushedMessage()
        pushed.conversation = name
        pushed.seq = seq
        pushed.n = seq
        pushed.timeMs = seq
        pushed.message = (try? message.serializedData()) ?? Data()
        return pushed
    }

    var acks: [UInt32] {
        written.compactMap { if case .pushAck(let id) = $0 { id } else { nil } }
    }
}
