import ArgumentParser
import Foundation
import MartletClient
import NIOConcurrencyHelpers
import Testing
import Wire

@testable import MartletTools

/// `martlet chat` as scripts use it: pipes against a server on loopback.
@Suite(.timeLimit(.minutes(1))) struct ChatCommandTests {
    /// A chat whose input is a pipe and whose output is collected.
    struct Piped {
        let input = Pipe()
        let output = NIOLockedValueBox("")

        func run(_ server: FakeServer, _ arguments: String...) async throws -> Int32 {
            let fixed = ["--server", server.address.description, "--app", "demo", "--app-key", "k1:c2VjcmV0"]
            let command = try ChatCommand.parse(fixed + arguments)
            let output = output
            return try await command.chat(Terminal(descriptor: input.fileHandleForReading.fileDescriptor)) { text in
                output.withLockedValue { $0 += text }
            }
        }

        func type(_ text: String) throws { try input.fileHandleForWriting.write(contentsOf: Data(text.utf8)) }
        func end() throws { try input.fileHandleForWriting.close() }
        var lines: [String] { output.withLockedValue { $0.split(separator: "\n").map(String.init) } }

        /// Waits for a line of output; the suite's time limit bounds it.
        func line(_ wanted: String) async throws {
            while !lines.contains(wanted) { try await Task.sleep(for: .milliseconds(5)) }
        }
    }

    @Test func aPipeSendsItsLinesAndEndsWithZero() async throws {
        let server = try await FakeServer(service: FakeService(seed: 1))
        let chat = Piped()
        try chat.type("hello bob\n//slash\n/unread\n/svc 1000 1 abc def\n/svc 7 1 x\nlast without newline")
        try chat.end()
        #expect(try await chat.run(server, "--user", "alice", "--to", "bob") == 0)
        let rows = try await server.with { $0.rows["p:alice|bob"] ?? [] }
        let texts = try rows.map {
            String(decoding: try ChatMessage(serializedBytes: Array($0.message)).content, as: UTF8.self)
        }
        #expect(texts == ["hello bob", "/slash", "last without newline"])
        #expect(chat.lines.contains("online alice"))
        #expect(chat.lines.contains("sending 1 bob hello bob"))
        #expect(chat.lines.contains("accepted 3"))
        #expect(chat.lines.contains("answer 1000 echo abc def"))
        #expect(chat.lines.contains("unread none"))
        #expect(chat.lines.contains { $0.hasPrefix("error") && $0.hasSuffix("(no_such_service)") })
        _ = try await server.stop()
    }

    @Test func twoChatsSeeEachOtherLive() async throws {
        let server = try await FakeServer(service: FakeService(seed: 2))
        let alice = Piped()
        let bob = Piped()
        async let first = alice.run(server, "--user", "alice", "--to", "bob")
        async let second = bob.run(server, "--user", "bob", "--to", "alice")
        try await alice.line("presence bob online")
        try await bob.line("online bob")
        try alice.type("hi\n")
        try await bob.line("message p:alice|bob 1 alice hi")
        try await alice.line("delivered 1")
        try await alice.line("read 1")
        try await server.cutEverybody()
        try bob.type("back\n")
        try await alice.line("message p:alice|bob 2 bob back")
        try await server.with { $0.notify("alice", svid: 1000, text: "order \u{1B}[2J shipped\nnow") }
        try await alice.line("notice 1000 1 order ·[2J shipped⏎now")
        try alice.type("/history 5\n/who bob carol\n/recall 1\n")
        try await alice.line("who bob online")
        try await alice.line("who carol offline")
        try await bob.line("message p:alice|bob 3 alice (took back message 1)")
        try alice.end()
        try bob.type("/quit\n")
        #expect(try await first == 0)
        #expect(try await second == 0)
        _ = try await server.stop()
    }

    @Test func theUnreadListAndHistory() async throws {
        let server = try await FakeServer(service: FakeService(seed: 3))
        let alice = Piped()
        try alice.type((1...30).map { "m\($0)\n" }.joined())
        try alice.end()
        #expect(try await alice.run(server, "--user", "alice", "--to", "bob") == 0)
        let bob = Piped()
        try bob.type("/unread\n/to alice\n")
        async let code = bob.run(server, "--user", "bob")
        try await bob.line("unread alice 30")
        try await bob.line("history p:alice|bob 30 alice m30")
        try bob.type("/history 10\n")
        try await bob.line("history p:alice|bob 1 alice m1")
        try bob.type("/history\n")
        try await bob.line("history none")
        #expect(bob.lines.filter { $0.hasPrefix("history p:") }.count == 30, "20 at first, then the 10 before them")
        try bob.end()
        #expect(try await code == 0)
        let read = try await server.with { $0.read["p:alice|bob"]?["bob"] }
        #expect(read == nil || read == 30)
        _ = try await server.stop()
    }

    @Test func exitCodes() async throws {
        var service = FakeService(seed: 4)
        service.faults.refused = 1
        let server = try await FakeServer(service: service)
        let stuck = Piped()
        try stuck.type("never accepted\n")
        try stuck.end()
        #expect(try await stuck.run(server, "--user", "alice", "--to", "bob", "--wait", "1") == 1)
        let refused = Piped()
        #expect(try await refused.run(server, "--user", "alice", "--token", "bad") == 2)
        #expect(throws: (any Error).self) { try ChatCommand.parse(["--user", "a|b"]) }
        #expect(throws: (any Error).self) { try ChatCommand.parse(["--user", "a", "--to", "a"]) }
        let missing = try ChatCommand.parse(["--user", "alice", "--data", "/nonexistent"])
        let error = await #expect(throws: ExitCode.self) { try await missing.run() }
        #expect(error?.rawValue == 2)
        _ = try await server.stop()
    }

    @Test func tokensComeFromTheKeyThatWasGiven() throws {
        // The expected token was made by another implementation (Python's hmac).
        let options = try ConnectionOptions.parse(["--app", "demo", "--app-key", "k1:c2VjcmV0"])
        let token = try options.issuer().issue(userID: "alice", lifetimeSeconds: 60, nowMS: 1_700_000_000_000)
        #expect(
            token
                == [
                    "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0",
                    "eyJhcHAiOiJkZW1vIiwiZXhwIjoxNzAwMDAwMDYwLCJpYXQiOjE3MDAwMDAwMDAsInN1YiI6ImFsaWNlIn0",
                    "zA5-4MuO8wQsYAsrqslumgu6GvMyj-f8mIVJPOnvAso",
                ].joined(separator: "."))
        for wrong in [
            ["--app-key", "k1:c2VjcmV0"], ["--app", "demo", "--app-key", "k1"], ["--app", "demo", "--app-key", "k1:?"],
        ] {
            #expect(throws: ToolError.self) { try ConnectionOptions.parse(wrong).issuer() }
        }
        #expect(throws: ToolError.self) { try ConnectionOptions.parse(["--server", "nowhere"]).servers() }
        #expect(
            try ConnectionOptions.parse(["--server", "a:1,[::1]:2"]).servers().map(\.description) == ["a:1", "[::1]:2"])
    }
}

/// What the terminal shows, without a terminal.
@Suite struct ChatViewTests {
    @Test func linesMeanWhatHelpSays() {
        #expect(ChatInput(line: "hi there") == .text("hi there"))
        #expect(ChatInput(line: "//x") == .text("/x"))
        #expect(ChatInput(line: "") == .nothing)
        #expect(ChatInput(line: "/to bob\r") == .to("bob"))
        #expect(ChatInput(line: "/history") == .history(20))
        #expect(ChatInput(line: "/history 500") == .wrong("usage: /history [1-200]"))
        #expect(ChatInput(line: "/who a b") == .who(["a", "b"]))
        #expect(ChatInput(line: "/svc 1000 2 a b c") == .service(svid: 1000, method: 2, text: "a b c"))
        #expect(ChatInput(line: "/svc 70000 2 a") == .wrong("usage: /svc SVID METHOD TEXT"))
        #expect(ChatInput(line: "/recall 0") == .wrong("usage: /recall SEQ"))
        guard case .wrong = ChatInput(line: "/nonsense") else {
            Issue.record("an unknown command was taken")
            return
        }
    }

    @Test func theEditorEditsByCharacters() {
        var editor = LineEditor()
        #expect(editor.on(Array("aé你".utf8)) == [.changed, .changed, .changed])
        #expect(editor.text == "aé你")
        _ = editor.on([0x7F])
        #expect(editor.text == "aé")
        #expect(editor.on([0x0D]) == [.line("aé")])
        _ = editor.on(Array("two words".utf8) + [0x17])
        #expect(editor.text == "two ")
        _ = editor.on([0x15, 0x1B, 0x5B, 0x41])
        #expect(editor.text == "aé", "arrow up brings the last line back")
        _ = editor.on([0x1B, 0x5B, 0x33, 0x7E, 0xFF])
        #expect(editor.text == "aé", "other keys and broken bytes do nothing")
        #expect(editor.on([0x04]) == [])
        #expect(editor.on([0x03]) == [.quit])
    }

    @Test func marksAreOverwrittenWhereTheirLineIs() {
        var screen = ChatScreen(width: 40, height: 10)
        _ = screen.set(prompt: "> ")
        _ = screen.show(ChatLine(plain: nil, pretty: "me: one", number: 1))
        _ = screen.show(ChatLine(plain: nil, pretty: String(repeating: "x", count: 81), number: nil))
        #expect(screen.mark(1, .accepted) == "\r\u{1B}[4A ✓\r\u{1B}[4B\r\u{1B}[K> ", "the long line takes three rows")
        for _ in 0..<10 { _ = screen.show(ChatLine(plain: nil, pretty: "y", number: nil)) }
        #expect(screen.mark(1, .read).isEmpty, "it has scrolled away")
        #expect(
            screen.set(input: String(repeating: "你", count: 40))
                .hasSuffix("> " + String(repeating: "你", count: 18)))
    }

    @Test func marksOnlyGoForward() {
        var view = ChatView(me: "alice", peer: "bob")
        _ = view.on(ChatInput.text("hi"))
        #expect(view.unsettled == 1)
        #expect(view.on(.accepted(handle: 1)) == [.mark(number: 1, .accepted, plain: "accepted 1")])
        #expect(view.on(.accepted(handle: 1)).isEmpty)
        #expect(view.unsettled == 0)
        var state = ConversationState(conversation: "p:alice|bob")
        state.peerReadSeq = 1
        state.peerDeliveredSeq = 1
        #expect(view.on(.conversation(state)).isEmpty, "its place is not known yet")
        var message = ChatMessage()
        message.sender = "alice"
        let placed = view.on(
            .message(ShownMessage(conversation: "p:alice|bob", seq: 1, n: 1, timeMS: 0, message: message, handle: 1)))
        #expect(placed.contains(.mark(number: 1, .delivered, plain: "delivered 1")))
        #expect(placed.contains(.mark(number: 1, .read, plain: "read 1")))
        #expect(view.on(ChatInput.recall(1)).count == 2)
        let failure = Failure(.forbidden, "not yours")
        #expect(view.on(.failed(handle: 2, failure)).first == .mark(number: 2, .failed, plain: "failed 2 forbidden"))
        #expect(view.on(.ended(nil)) == [.quit(1)])
    }

    @Test func noticesAreReadBySeeingThemAndShownOnce() {
        var view = ChatView(me: "alice", peer: nil)
        var state = ConversationState(conversation: "u:alice")
        state.headSeq = 2
        state.readSeq = 1
        state.unread = 1
        #expect(view.on(.conversation(state)).isEmpty)
        var message = ChatMessage()
        message.svid = 1000
        message.content = Data("tea".utf8)
        func arrives(_ seq: UInt64) -> [ChatView.Step] {
            view.on(.message(ShownMessage(conversation: "u:alice", seq: seq, n: seq, timeMS: 0, message: message)))
        }
        #expect(arrives(1) == [.read("u:alice", upTo: 1)], "read in an earlier session")
        let news = arrives(2)
        #expect(news.count == 2 && news.last == .read("u:alice", upTo: 2))
        guard case .show(let line) = news.first else {
            Issue.record("not shown")
            return
        }
        #expect(line.plain == "notice 1000 2 tea")
    }

    @Test func whatComesBeforeTheFirstSyncOfAPeerIsBacklog() {
        var view = ChatView(me: "alice", peer: "bob")
        var state = ConversationState(conversation: "p:alice|carol")
        state.peer = "carol"
        state.headSeq = 1
        state.unread = 1
        #expect(view.on(.conversation(state)) == [.show(ChatLine(plain: "unread carol 1", pretty: "carol: 1 unread"))])
        var message = ChatMessage()
        message.sender = "carol"
        message.kind = .contentText
        message.content = Data("old".utf8)
        func arrives(_ seq: UInt64) -> [ChatView.Step] {
            view.on(
                .message(ShownMessage(conversation: "p:alice|carol", seq: seq, n: seq, timeMS: 0, message: message)))
        }
        #expect(arrives(1).isEmpty, "the unread line said it")
        #expect(arrives(2).count == 1, "news of others is shown, and not marked read")
        let opened = view.on(ChatInput.to("carol"))
        #expect(opened.contains(.read("p:alice|carol", upTo: 2)))
        #expect(opened.contains(.watch(["carol"])))
    }

    @Test func foreignTextIsHarmless() {
        #expect(ChatLine.harmless("a\u{1B}[31mb\nc\td\u{202E}e") == "a·[31mb⏎c d·e")
    }
}
