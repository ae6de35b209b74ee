import Foundation
import MartletClient
import Testing
import Wire

/// The SDK over real sockets.
@Suite(.timeLimit(.minutes(1))) struct ChatClientTests {
    func client(_ user: String, _ servers: [ServerAddress], device: String = "d") throws -> ChatClient {
        var config = ClientConfig(token: "user:" + user, deviceID: device)
        config.reconnectFirstMS = 50
        config.reconnectMostMS = 200
        return try ChatClient(config: config, servers: servers)
    }

    /// The next notice that the test picks.
    func first<Result>(
        _ events: inout ClientEvents.Iterator, _ pick: (ClientNotice) -> Result?
    ) async throws -> Result {
        while let notice = await events.next() {
            if let result = pick(notice) { return result }
        }
        throw Ended()
    }

    struct Ended: Error {}

    @Test func twoUsersTalkAndSeeTheMarks() async throws {
        let server = try await FakeServer(service: FakeService(seed: 1))
        let alice = try client("alice", [server.address])
        let bob = try client("bob", [server.address])
        var toAlice = alice.events.makeAsyncIterator()
        var toBob = bob.events.makeAsyncIterator()
        alice.start()
        bob.start()
        try await first(&toBob) { $0 == .synced ? () : nil }
        try await first(&toAlice) { $0 == .synced ? () : nil }
        alice.send(OutgoingMessage(handle: 1, conversation: "p:alice|bob", content: Array("hello".utf8)))
        let message = try await first(&toBob) { if case .message(let message) = $0 { message } else { nil } }
        #expect(message.message.sender == "alice" && message.seq == 1)
        #expect(String(decoding: message.message.content, as: UTF8.self) == "hello")
        bob.markRead("p:alice|bob", upTo: 1)
        let read = try await first(&toAlice) { notice -> UInt64? in
            if case .conversation(let state) = notice, state.peerReadSeq > 0 { state.peerReadSeq } else { nil }
        }
        #expect(read == 1)
        let page = try await bob.history("p:alice|bob", beforeSeq: 0, limit: 10)
        #expect(page.messages.count == 1)
        #expect(try await alice.presence(of: ["bob", "carol"]).map(\.state) == [.presenceOnline, .presenceOffline])
        #expect(
            String(decoding: try await alice.request(svid: 1000, method: 1, body: Array("x".utf8)), as: UTF8.self)
                == "echo x")
        await #expect(throws: Failure.self) { try await alice.request(svid: 1001, method: 1, body: []) }
        alice.stop()
        bob.stop()
        _ = try await server.stop()
    }

    @Test func survivesARestartOfTheServerAndAnUnreachableOne() async throws {
        let server = try await FakeServer(service: FakeService(seed: 2))
        // Nobody listens at the first address: port 1 of loopback.
        let servers = [ServerAddress(host: "127.0.0.1", port: 1), server.address]
        let alice = try client("alice", servers)
        var events = alice.events.makeAsyncIterator()
        alice.start()
        try await first(&events) { $0 == .synced ? () : nil }
        alice.send(OutgoingMessage(handle: 1, conversation: "p:alice|bob", content: [1]))
        try await first(&events) { $0 == .accepted(handle: 1) ? () : nil }
        let state = try await server.stop()
        alice.send(OutgoingMessage(handle: 2, conversation: "p:alice|bob", content: [2]))
        let again = try await FakeServer(port: server.port, service: state)
        try await first(&events) { $0 == .accepted(handle: 2) ? () : nil }
        let rows = try await again.with { $0.rows["p:alice|bob"]?.count }
        #expect(rows == 2)
        alice.stop()
        _ = try await again.stop()
    }

    @Test func aConsumerThatDoesNotReadHoldsTheSocketNotTheMemory() async throws {
        let server = try await FakeServer(service: FakeService(seed: 3))
        let bob = try client("bob", [server.address])
        var events = bob.events.makeAsyncIterator()
        bob.start()
        try await first(&events) { $0 == .synced ? () : nil }
        for _ in 0..<30 {
            try await server.with { service in
                for _ in 0..<100 { service.notify("bob", svid: 1000, text: "n") }
            }
        }
        var seen: [UInt64] = []
        while seen.count < 3_000 {
            seen.append(try await first(&events) { if case .message(let message) = $0 { message.seq } else { nil } })
        }
        #expect(seen == Array(1...3_000))
        bob.stop()
        _ = try await server.stop()
    }

    @Test func saysInWordsWhyItCannotConnect() async throws {
        let alice = try client("alice", [ServerAddress(host: "127.0.0.1", port: 1)])
        var events = alice.events.makeAsyncIterator()
        alice.start()
        let reason = try await first(&events) { notice -> String? in
            if case .connection(.waiting(_, let reason)) = notice { reason } else { nil }
        }
        #expect(reason == "cannot reach 127.0.0.1:1: Connection refused")
        alice.stop()
    }

    @Test func aRefusedTokenEndsIt() async throws {
        let server = try await FakeServer(service: FakeService(seed: 4))
        let nobody = try ChatClient(
            config: ClientConfig(token: "nonsense", deviceID: "d"), servers: [server.address])
        var events = nobody.events.makeAsyncIterator()
        nobody.start()
        let failure = try await first(&events) { if case .ended(let failure) = $0 { failure } else { nil } }
        #expect(failure.isCode(.tokenBadSignature))
        #expect(await events.next() == nil)
        _ = try await server.stop()
    }
}
