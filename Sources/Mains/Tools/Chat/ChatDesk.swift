import Foundation
import MartletClient
import Wire

/// Joins the client, the view and the terminal. An actor: notices and lines come from two loops, a few a second.
actor ChatDesk {
    private let client: ChatClient
    private let write: @Sendable (String) -> Void
    private let interactive: Bool
    private var view: ChatView
    private var screen: ChatScreen
    private var editor = LineEditor()
    private var partialLine: [UInt8] = []
    private var inputEnded = false
    private var ready = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private(set) var exitCode: Int32?

    /// Own messages on their way at which a pipe is held back.
    static let unsettledLimit = 500

    init(
        client: ChatClient, me: String, peer: String?, interactive: Bool, size: (width: Int, height: Int),
        write: @escaping @Sendable (String) -> Void
    ) {
        self.client = client
        self.interactive = interactive
        self.write = write
        view = ChatView(me: me, peer: peer)
        screen = ChatScreen(width: size.width, height: size.height)
    }

    func begin() {
        if let peer = view.peer { client.watchPresence(of: [peer]) }
        if interactive { write(screen.set(prompt: view.promptText)) }
    }

    /// Returns false when the session is over.
    func told(_ notice: ClientNotice) -> Bool {
        perform(view.on(notice))
        if case .synced = notice { beReady() }
        if inputEnded, view.unsettled == 0 { finish(view.failures > 0 ? 1 : 0) }
        releaseInput()
        return exitCode == nil
    }

    /// Pipes wait for the first sync, so that a script's first line already finds everything.
    func untilReady() async {
        guard !ready, exitCode == nil else { return }
        await withCheckedContinuation { waiting.append($0) }
    }

    func beReady() {
        ready = true
        releaseInput()
    }

    private func releaseInput() {
        guard exitCode != nil || (ready && view.unsettled < Self.unsettledLimit) else { return }
        for continuation in waiting { continuation.resume() }
        waiting = []
    }

    /// Takes a chunk of input; returns false when the session is over.
    func typed(_ bytes: [UInt8]) async -> Bool {
        guard exitCode == nil else { return false }
        for line in interactive ? lines(ofKeys: bytes) : lines(ofPipe: bytes) {
            await perform(input: ChatInput(line: line))
            guard exitCode == nil else { return false }
            if !interactive, view.unsettled >= Self.unsettledLimit {
                await withCheckedContinuation { waiting.append($0) }
            }
        }
        return exitCode == nil
    }

    private func lines(ofKeys bytes: [UInt8]) -> [String] {
        var lines: [String] = []
        for key in editor.on(bytes) {
            switch key {
            case .line(let line): lines.append(line)
            case .changed: break
            case .quit: finish(0)
            }
        }
        write(screen.set(input: editor.text))
        return lines
    }

    private func lines(ofPipe bytes: [UInt8]) -> [String] {
        var lines: [String] = []
        for byte in bytes {
            if byte == 0x0A {
                lines.append(String(decoding: partialLine, as: UTF8.self))
                partialLine = []
            } else if partialLine.count < LineEditor.lineLimit {
                partialLine.append(byte)
            }
        }
        return lines
    }

    /// Nothing more is typed. A pipe's messages are still brought to their end.
    func inputClosed() async {
        if !interactive, !partialLine.isEmpty { _ = await typed([0x0A]) }
        inputEnded = true
        if interactive || view.unsettled == 0 { finish(view.failures > 0 ? 1 : 0) }
    }

    /// The bounded wait after the end of a pipe is over.
    func giveUp() {
        guard view.unsettled > 0 else { return finish(0) }
        perform([.show(ChatLine(plain: "error \(view.unsettled) messages were not accepted in time", pretty: nil))])
        finish(1)
    }

    func finish(_ code: Int32) {
        if exitCode == nil { exitCode = code }
        client.stop()
        releaseInput()
    }

    private func perform(input: ChatInput) async {
        for step in view.on(input) {
            switch step {
            case .history(let conversation, let beforeSeq, let limit):
                await ask {
                    let page = try await self.client.history(
                        conversation, beforeSeq: beforeSeq, limit: UInt32(limit))
                    return self.view.on(page: page)
                }
            case .who(let users): await ask { Self.presence(try await self.client.presence(of: users)) }
            case .ask(let svid, let method, let text):
                await ask {
                    let body = try await self.client.request(svid: svid, method: method, body: Array(text.utf8))
                    let answer = ChatLine.harmless(String(decoding: body, as: UTF8.self))
                    return [.show(ChatLine(plain: "answer \(svid) \(answer)", pretty: "service \(svid): \(answer)"))]
                }
            default: perform([step])
            }
        }
    }

    private func ask(_ question: () async throws -> [ChatView.Step]) async {
        do { perform(try await question()) } catch {
            let why = (error as? Failure).map { "\($0.message) (\($0.reason))" } ?? "\(error)"
            let text = ChatLine.harmless(why)
            perform([.show(ChatLine(plain: "error \(text)", pretty: "\u{1B}[31m\(text)\u{1B}[0m"))])
        }
    }

    private static func presence(_ users: [UserPresence]) -> [ChatView.Step] {
        users.map { user in
            let name = ChatLine.harmless(user.userID)
            let state =
                switch user.state {
                case .presenceOnline: "online"
                case .presenceOffline: "offline"
                default: "unknown"
                }
            let platforms = user.platforms.isEmpty ? "" : " (" + user.platforms.joined(separator: ", ") + ")"
            return .show(ChatLine(plain: "who \(name) \(state)", pretty: "\(name) is \(state)\(platforms)"))
        }
    }

    private func perform(_ steps: [ChatView.Step]) {
        for step in steps {
            switch step {
            case .show(let line): show(line)
            case .mark(let number, let mark, let plain): write(interactive ? screen.mark(number, mark) : plain + "\n")
            case .prompt(let prompt): if interactive { write(screen.set(prompt: prompt)) }
            case .send(let message): client.send(message)
            case .read(let conversation, let seq): client.markRead(conversation, upTo: seq)
            case .watch(let users): client.watchPresence(of: users)
            case .quit(let code): finish(code)
            case .history, .who, .ask: break  // Only lines ask, and `perform(input:)` carries those out.
            }
        }
    }

    private func show(_ line: ChatLine) {
        if interactive { return write(screen.show(line)) }
        if let plain = line.plain { write(plain + "\n") }
    }

    func resized(_ size: (width: Int, height: Int)) {
        screen.width = max(20, size.width)
        screen.height = max(4, size.height)
    }
}
