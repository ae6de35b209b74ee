import Identity
import MartletClient
import Wire

/// What the terminal client shows and asks for: a value that is told notices and lines, and answers with steps.
struct ChatView: Sendable {
    enum Step: Equatable, Sendable {
        case show(ChatLine)
        /// An own message came further; the line is for scripts.
        case mark(number: UInt64, SendMark, plain: String)
        case prompt(String)
        case send(OutgoingMessage)
        case read(String, upTo: UInt64)
        case watch([String])
        case history(String, beforeSeq: UInt64, limit: Int)
        case who([String])
        case ask(svid: UInt16, method: UInt16, text: String)
        case quit(Int32)
    }

    /// One conversation's shown part.
    struct Transcript: Sendable {
        var messages: [ShownMessage] = []
        /// The head when it was first heard of: what is at or below is backlog, not news.
        var backlogSeq: UInt64?
        var oldestShown: UInt64 = 0
        var state: ConversationState
    }

    struct Own: Sendable {
        var conversation: String
        var seq: UInt64 = 0
        var mark = SendMark.sending
    }

    /// Messages kept per conversation, and own messages whose marks still move.
    static let transcriptLimit = 200
    static let ownLimit = 2_000

    private let me: String
    private(set) var peer: String?
    private(set) var transcripts: [String: Transcript] = [:]
    private(set) var own: [UInt64: Own] = [:]
    private var nextNumber: UInt64 = 1
    private var online: Bool?
    private var connected = false
    private var everConnected = false
    private(set) var failures = 0
    private var steps: [Step] = []

    init(me: String, peer: String?) {
        self.me = me
        self.peer = peer
    }

    /// Own messages that are neither accepted nor failed.
    var unsettled: Int { own.values.count { $0.mark == .sending } }
    /// The conversation with the peer.
    var current: String? { peer.map { ConversationName.pair(of: me, and: $0).id } }

    var promptText: String {
        guard let peer else { return connected ? "/to whom? " : "(offline) /to whom? " }
        let presence = !connected ? " (offline, will send later)" : online.map { $0 ? " ●" : " ○" } ?? ""
        return "\(me) → \(peer)\(presence): "
    }

    mutating func on(_ notice: ClientNotice) -> [Step] {
        steps = []
        switch notice {
        case .connection(let state): connection(state)
        case .message(let message): received(message)
        case .accepted(let handle): advance(handle, .accepted, plain: "accepted \(handle)")
        case .failed(let handle, let failure): failed(handle, failure)
        case .conversation(let state): changed(state)
        case .presence(let user, let isOnline): presence(user, isOnline)
        case .event(let event): happened(event)
        case .answer, .synced: break
        case .ended(let failure): ended(failure)
        }
        return steps
    }

    mutating func on(_ input: ChatInput) -> [Step] {
        steps = []
        switch input {
        case .nothing: break
        case .text(let text): say(text)
        case .to(let user): talk(to: user)
        case .history(let limit): older(limit)
        case .who(let users): who(users)
        case .unread: listUnread()
        case .recall(let seq): takeBack(seq)
        case .service(let svid, let method, let text): steps.append(.ask(svid: svid, method: method, text: text))
        case .help:
            for line in ChatInput.helpLines { steps.append(.show(ChatLine(plain: "help \(line)", pretty: line))) }
        case .quit: steps.append(.quit(0))
        case .wrong(let why): complain(why)
        }
        return steps
    }

    private mutating func complain(_ why: String) {
        steps.append(.show(ChatLine(plain: "error \(why)", pretty: "\u{1B}[31m\(why)\u{1B}[0m")))
    }

    private mutating func say(_ text: String) {
        guard let conversation = current, let peer else { return complain("to whom? /to USER") }
        guard text.utf8.count <= 32 * 1024 else { return complain("a message is at most 32 KiB") }
        let number = remember(conversation)
        let shown = ChatLine.harmless(text)
        steps.append(
            .show(ChatLine(plain: "sending \(number) \(peer) \(shown)", pretty: "\(me): \(shown)", number: number)))
        steps.append(.send(OutgoingMessage(handle: number, conversation: conversation, content: Array(text.utf8))))
    }

    private mutating func remember(_ conversation: String) -> UInt64 {
        defer { nextNumber += 1 }
        if own.count >= Self.ownLimit, let oldest = own.filter({ $0.value.mark != .sending }).keys.min() {
            own[oldest] = nil
        }
        own[nextNumber] = Own(conversation: conversation)
        return nextNumber
    }

    private mutating func takeBack(_ seq: UInt64) {
        guard let conversation = current else { return complain("in which conversation? /to USER") }
        let number = remember(conversation)
        steps.append(
            .show(
                ChatLine(plain: "sending \(number) recall \(seq)", pretty: "taking back message \(seq)", number: number)
            ))
        steps.append(
            .send(
                OutgoingMessage(
                    handle: number, conversation: conversation, kind: .contentRecall, content: [], targetSeq: seq)))
    }

    mutating func talk(to user: String) {
        guard NameRule.isUser(user), user != me else { return complain("\(user) is nobody you can talk to") }
        peer = user
        online = nil
        steps.append(.show(ChatLine(plain: "to \(user)", pretty: "\u{1B}[1mtalking to \(user)\u{1B}[0m")))
        if let conversation = current, let transcript = transcripts[conversation] {
            for message in transcript.messages.suffix(20) where message.seq >= transcript.oldestShown {
                show(message, keyword: "history")
            }
            if let last = transcript.messages.last { read(conversation, last.seq) }
        }
        steps.append(.watch([user]))
        steps.append(.prompt(promptText))
    }

    private mutating func older(_ limit: Int) {
        guard let conversation = current else { return complain("of which conversation? /to USER") }
        let oldest = transcripts[conversation]?.oldestShown ?? 0
        guard oldest != 1 else {
            return steps.append(.show(.hint("that was the first message", plain: "history none")))
        }
        steps.append(.history(conversation, beforeSeq: oldest, limit: limit))
    }

    private mutating func who(_ users: [String]) {
        let asked = users.isEmpty ? peer.map { [$0] } ?? [] : users
        guard !asked.isEmpty else { return complain("usage: /who USER ...") }
        steps.append(.who(asked))
    }

    private mutating func listUnread() {
        let unread = transcripts.values.filter { $0.state.unread > 0 }.sorted {
            $0.state.conversation < $1.state.conversation
        }
        if unread.isEmpty { steps.append(.show(ChatLine(plain: "unread none", pretty: "nothing unread"))) }
        for transcript in unread {
            let name = Self.title(transcript.state)
            steps.append(
                .show(
                    ChatLine(
                        plain: "unread \(name) \(transcript.state.unread)",
                        pretty: "\(name): \(transcript.state.unread) unread")))
        }
    }

    static func title(_ state: ConversationState) -> String {
        state.peer.isEmpty ? state.conversation : state.peer
    }
}

// What arrives.
extension ChatView {
    private mutating func connection(_ state: ConnectionState) {
        switch state {
        case .connecting: return
        case .online(let user, _):
            connected = true
            if !everConnected { steps.append(.show(.hint("you are \(user); /help lists the commands"))) }
            everConnected = true
            steps.append(.show(ChatLine(plain: "online \(user)", pretty: nil)))
        case .waiting(let retryMS, let reason):
            if connected || !everConnected {
                let why = ChatLine.harmless(reason)
                steps.append(
                    .show(
                        ChatLine(
                            plain: "offline \(why)",
                            pretty: "\u{1B}[2mdisconnected (\(why)), trying again in \(retryMS) ms\u{1B}[0m")))
            }
            connected = false
            everConnected = true
            online = nil
        }
        steps.append(.prompt(promptText))
    }

    private mutating func received(_ message: ShownMessage) {
        let key = message.conversation
        var transcript = transcripts[key] ?? Transcript(state: ConversationState(conversation: key))
        if transcript.oldestShown == 0 { transcript.oldestShown = message.seq }
        transcript.messages.append(message)
        if transcript.messages.count > Self.transcriptLimit {
            transcript.messages.removeFirst(Self.transcriptLimit / 2)
            transcript.oldestShown = transcript.messages.first?.seq ?? 0
        }
        transcripts[key] = transcript
        if let handle = message.handle {
            placed(handle, message)
        } else if message.message.svid != 0 {
            // Seeing a notice is reading it; what was read in an earlier session is not news.
            if message.seq > transcript.state.readSeq { notice(message) }
            read(key, message.seq)
        } else if message.seq > transcript.backlogSeq ?? 0 {
            show(message, keyword: "message")
        } else if key == current {
            show(message, keyword: "history")
        }
        if key == current, message.message.sender != me { read(key, message.seq) }
    }

    private mutating func placed(_ handle: UInt64, _ message: ShownMessage) {
        guard own[handle] != nil else { return }
        own[handle]?.seq = message.seq
        steps.append(.show(ChatLine(plain: "stored \(handle) \(message.seq)", pretty: nil)))
        advance(handle, .accepted, plain: "accepted \(handle)")
        if let state = transcripts[message.conversation]?.state { advanceOwn(state) }
    }

    private mutating func read(_ conversation: String, _ seq: UInt64) { steps.append(.read(conversation, upTo: seq)) }

    /// Shows a message of a transcript, of history or just received.
    mutating func show(_ message: ShownMessage, keyword: String) {
        let sender = message.message.sender
        let text = Self.text(message.message)
        let elsewhere =
            message.conversation == current ? "" : "\u{1B}[33m[\(ChatLine.harmless(message.conversation))]\u{1B}[0m "
        let time = ChatLine.clock(message.timeMS)
        let mark = sender == me ? "" : "\u{1B}[1m"
        steps.append(
            .show(
                ChatLine(
                    plain: "\(keyword) \(message.conversation) \(message.seq) \(sender.isEmpty ? "-" : sender) \(text)",
                    pretty: "\u{1B}[2m\(time) \(message.seq)\u{1B}[0m \(elsewhere)\(mark)\(sender)\u{1B}[0m: \(text)")))
    }

    static func text(_ message: ChatMessage) -> String {
        switch message.kind {
        case .contentText: ChatLine.harmless(String(decoding: message.content, as: UTF8.self))
        case .contentRecall: "(took back message \(message.targetSeq))"
        default: "(\(message.content.count) bytes of another kind)"
        }
    }

    private mutating func notice(_ message: ShownMessage) {
        let text = ChatLine.harmless(String(decoding: message.message.content, as: UTF8.self))
        steps.append(
            .show(
                ChatLine(
                    plain: "notice \(message.message.svid) \(message.seq) \(text)",
                    pretty: "\u{1B}[35m◆ service \(message.message.svid):\u{1B}[0m \(text)")))
    }

    private mutating func changed(_ state: ConversationState) {
        var transcript = transcripts[state.conversation] ?? Transcript(state: state)
        let news = transcript.backlogSeq == nil
        if news { transcript.backlogSeq = state.headSeq }
        transcript.state = state
        transcripts[state.conversation] = transcript
        if news, state.unread > 0, state.conversation != current, !state.peer.isEmpty {
            let name = ChatLine.harmless(Self.title(state))
            steps.append(
                .show(ChatLine(plain: "unread \(name) \(state.unread)", pretty: "\(name): \(state.unread) unread")))
        }
        advanceOwn(state)
    }

    /// The other side's positions move the marks of what we sent.
    private mutating func advanceOwn(_ state: ConversationState) {
        for (number, message) in own.sorted(by: { $0.key < $1.key })
        where message.conversation == state.conversation && message.seq > 0 && message.mark < .read {
            if message.seq <= state.peerDeliveredSeq { advance(number, .delivered, plain: "delivered \(number)") }
            if message.seq <= state.peerReadSeq { advance(number, .read, plain: "read \(number)") }
        }
    }

    private mutating func advance(_ number: UInt64, _ mark: SendMark, plain: String) {
        guard let message = own[number], message.mark < mark else { return }
        own[number]?.mark = mark
        steps.append(.mark(number: number, mark, plain: plain))
    }

    private mutating func failed(_ handle: UInt64, _ failure: Failure) {
        failures += 1
        advance(handle, .failed, plain: "failed \(handle) \(failure.reason)")
        complain("message \(handle) was not sent: \(ChatLine.harmless(failure.message)) (\(failure.reason))")
    }

    private mutating func presence(_ user: String, _ isOnline: Bool) {
        if user == peer { online = isOnline }
        steps.append(.show(ChatLine(plain: "presence \(user) \(isOnline ? "online" : "offline")", pretty: nil)))
        steps.append(.prompt(promptText))
    }

    private mutating func happened(_ event: Event) {
        let body = ChatLine.harmless(String(decoding: event.body, as: UTF8.self))
        let name = ChatLine.harmless(event.name)
        steps.append(
            .show(
                ChatLine(
                    plain: "event \(event.svid) \(name) \(body)",
                    pretty: "\u{1B}[35m◇ service \(event.svid), \(name):\u{1B}[0m \(body)")))
    }

    private mutating func ended(_ failure: Failure?) {
        guard let failure else { return steps.append(.quit(failures > 0 ? 1 : 0)) }
        complain("\(ChatLine.harmless(failure.message)) (\(failure.reason))")
        steps.append(.quit(2))
    }

    /// A page that `/history` asked for.
    mutating func on(page: HistoryPage) -> [Step] {
        steps = []
        if page.messages.isEmpty { steps.append(.show(.hint("there is nothing before", plain: "history none"))) }
        if let first = page.messages.first, var transcript = transcripts[page.conversation] {
            transcript.oldestShown = min(transcript.oldestShown == 0 ? first.seq : transcript.oldestShown, first.seq)
            transcripts[page.conversation] = transcript
        }
        for row in page.messages {
            let message = (try? ChatMessage(serializedBytes: Array(row.message))) ?? ChatMessage()
            let shown = ShownMessage(
                conversation: page.conversation, seq: row.seq, n: row.n, timeMS: row.timeMs, message: message)
            if message.svid != 0 { notice(shown) } else { show(shown, keyword: "history") }
        }
        return steps
    }
}
