import Foundation
import NIOCore
import Testing
import Wire

@testable import MartletClient

/// Drives a `ClientMachine` by hand: time stands still until told, what it writes and says is collected.
struct MachineScript {
    var machine: ClientMachine
    var nowMS: UInt64 = 1_000
    /// Written and not yet taken.
    var written: [Frame] = []
    var notices: [ClientNotice] = []
    var connects: [String?] = []
    var closes = 0

    static let serverTimeMS: UInt64 = 1_700_000_000_000

    init(_ change: (inout ClientConfig) -> Void = { _ in }) {
        var config = ClientConfig(token: "user:alice", deviceID: "d1")
        config.gapJitterMS = 0
        change(&config)
        machine = ClientMachine(config: config, seed: 7)
    }

    mutating func tell(_ events: ClientEvent...) {
        for event in events { run(event) }
        run(.flush)
    }

    private mutating func run(_ event: ClientEvent) {
        for action in machine.on(event, nowMS: nowMS) {
            switch action {
            case .connect(let address): connects.append(address)
            case .write(let frames): written += frames
            case .close: closes += 1
            case .notify(let notice): notices.append(notice)
            }
        }
    }

    /// Lets time pass, waking the machine whenever it asked to be woken.
    mutating func pass(_ ms: UInt64) {
        let end = nowMS + ms
        while let wake = machine.nextWakeMS, wake <= end {
            nowMS = max(wake, nowMS + 1)
            run(.flush)
        }
        nowMS = max(nowMS, end)
        run(.flush)
    }

    mutating func take() -> [Frame] {
        defer { written = [] }
        return written
    }

    mutating func takeNotices() -> [ClientNotice] {
        defer { notices = [] }
        return notices
    }

    mutating func welcome() {
        var welcome = Welcome()
        welcome.version = 1
        welcome.serverTimeMs = Self.serverTimeMS
        welcome.heartbeatMs = 30_000
        welcome.pushAckEvery = 32
        welcome.pushAckMs = 200
        tell(.received(.welcome(welcome.buffer)))
    }

    mutating func authenticated() {
        var answer = Authenticated()
        answer.userID = "alice"
        answer.sessionID = "s1"
        tell(.received(.authenticated(answer.buffer)))
    }

    /// Connected and logged in; the first sync is asked for.
    mutating func logIn() {
        if connects.isEmpty { tell(.start) }
        tell(.connected)
        welcome()
        authenticated()
    }

    /// Connected, logged in, and synced with these entries; nothing left to take.
    mutating func goOnline(_ entries: [ConversationEntry] = []) throws {
        logIn()
        try answerSync(entries)
        written = []
        notices = []
    }

    mutating func answerSync(_ entries: [ConversationEntry] = [], more: Bool = false, token: UInt8 = 1) throws {
        let request = try #require(written.last { $0.isRequest(4, 1) })
        var response = SyncResponse()
        response.token = Data([token])
        response.more = more
        response.entries = entries
        written.removeAll { $0 == request }
        answer(request, response.buffer)
    }

    /// Tokens of the syncs that were asked for and are not answered.
    var syncTokens: [Data] {
        written.compactMap { frame in
            guard frame.isRequest(4, 1), case .request(_, let body) = frame else { return nil }
            return SyncRequest(body: body)?.token
        }
    }

    mutating func answer(_ request: Frame, _ body: ByteBuffer) {
        guard let id = request.requestID else { return }
        tell(.received(.response(requestID: id, body)))
    }

    mutating func fail(_ request: Frame, _ code: ErrorCode) {
        guard let id = request.requestID else { return }
        tell(.received(.failure(requestID: id, Failure(code, "scripted").buffer)))
    }

    mutating func answerSend(_ request: Frame, _ outcomes: [Outcome], failure: ErrorCode = .storeUnavailable) {
        var response = SendResponse()
        response.results = outcomes.map { outcome in
            var result = SendResult()
            result.outcome = outcome
            if outcome != .accepted { result.failure = Failure(failure, "scripted") }
            return result
        }
        answer(request, response.buffer)
    }

    mutating func push(_ id: UInt32, _ seq: UInt64, from sender: String = "bob", control: Bool = false) {
        tell(.received(.push(pushID: id, Self.row(seq, from: sender, control: control).buffer)))
    }

    mutating func send(_ handles: UInt64..., to conversation: String = Self.pair) {
        for handle in handles {
            let content = Array("text \(handle)".utf8)
            run(.send(OutgoingMessage(handle: handle, conversation: conversation, content: content)))
        }
        run(.flush)
    }

    static let pair = "p:alice|bob"

    static func row(_ seq: UInt64, from sender: String = "bob", control: Bool = false) -> PushedMessage {
        var message = ChatMessage()
        message.sender = sender
        message.device = "x"
        message.kind = .contentText
        message.content = Data("row \(seq)".utf8)
        message.control = control
        var row = PushedMessage()
        row.conversation = pair
        row.seq = seq
        row.n = seq
        row.timeMs = serverTimeMS
        row.message = (try? message.serializedData()) ?? Data()
        return row
    }

    static func entry(head: UInt64, unread: UInt64 = 0, read: UInt64 = 0) -> ConversationEntry {
        var entry = ConversationEntry()
        entry.conversation = pair
        entry.peer = "bob"
        entry.joinedSeq = 1
        entry.headSeq = head
        entry.unread = unread
        entry.readSeq = read
        return entry
    }

    static func page(_ rows: [PushedMessage], head: UInt64) -> HistoryResponse {
        var page = HistoryPage()
        page.conversation = pair
        page.messages = rows
        page.headSeq = head
        page.firstVisibleSeq = 1
        var response = HistoryResponse()
        response.pages = [page]
        return response
    }
}

extension Frame {
    var requestID: UInt32? {
        switch self {
        case .request(let header, _), .orderedRequest(let header, _, _, _): header.requestID
        default: nil
        }
    }

    func isRequest(_ svid: UInt16, _ method: UInt16) -> Bool {
        guard case .request(let header, _) = self else { return false }
        return header.svid == svid && header.method == method
    }

    /// The turn and items of a send request.
    var sent: (turn: UInt16, request: SendRequest)? {
        guard case .orderedRequest(_, _, let turn, let body) = self, let request = SendRequest(body: body) else {
            return nil
        }
        return (turn, request)
    }
}

extension [ClientNotice] {
    /// Seqs of shown messages, in the order shown.
    var shown: [UInt64] {
        compactMap { if case .message(let message) = $0 { message.seq } else { nil } }
    }
    var acceptedHandles: [UInt64] {
        compactMap { if case .accepted(let handle) = $0 { handle } else { nil } }
    }
    var failedHandles: [UInt64] {
        compactMap { if case .failed(let handle, _) = $0 { handle } else { nil } }
    }
}
