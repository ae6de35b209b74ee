import Foundation
import Machinery
import NIOCore
import RPC
import Testing
import Wire

@testable import LoginRole

/// Real sockets on 127.0.0.1, real machines, fakes behind them.
@Suite(.serialized, .timeLimit(.minutes(3))) struct GatewayTests {
    @Test(arguments: [false, true]) func aWholeConversation(webSocket: Bool) async throws {
        let suite = try await FakeSuite(loops: 2)
        let clients = try (0..<8).map { try suite.client("user\($0)", webSocket: webSocket) }
        // Each session is found under the loop that has its connection.
        for client in clients {
            try client.echo("hello")
            async let hands = suite.deliver(1...20, to: client.sessionID)
            try await blocking { try client.readPushes(1...20) }
            #expect(try await hands == Array(repeating: .delivered, count: 20))
            try client.send(.ping)
            #expect(try client.read() == .pong)
        }
        #expect(try await suite.server.connectionCount() == 8)
        try clients[0].send(.bye)
        #expect(try clients[0].readError() == nil)
        try await suite.stop()
        // The rest was told, and everybody unregistered.
        #expect(try clients[1].readError()?.isCode(.goingAway) == true)
        let gone = suite.online.payloads.flatMap { payload -> [String] in
            if case .unregisterRequest(let request) = payload { request.registrations.map(\.sessionID) } else { [] }
        }
        #expect(Set(gone) == Set(clients.map(\.sessionID)))
    }

    @Test func wrongTokens() async throws {
        let suite = try await FakeSuite()
        let long = try suite.token("alice") + "A"
        for (token, code) in [("nonsense", ErrorCode.tokenMalformed), (long, .tokenBadSignature)] {
            let client = try TestClient(port: suite.tcp)
            try client.send(LoginScript.hello(), LoginScript.authenticate(token))
            #expect(try client.readError()?.isCode(code) == true)
        }
        let client = try TestClient(port: suite.webSocket, webSocket: true)
        var token = Array(try suite.token("alice").utf8)
        token[token.count - 5] = token[token.count - 5] == 65 ? 66 : 65
        try client.send(LoginScript.hello(), LoginScript.authenticate(String(decoding: token, as: UTF8.self)))
        #expect(try client.readError()?.isCode(.tokenBadSignature) == true)
        try await suite.stop()
    }

    @Test func sizesAreRefusedBeforeTheyAreSent() async throws {
        let suite = try await FakeSuite()
        let before = try TestClient(port: suite.tcp)
        try before.send(raw: [0x81, 0x40])
        #expect(try before.readError()?.isCode(.frameTooLarge) == true)
        let giant = try TestClient(port: suite.tcp)
        try giant.send(raw: [0xff, 0xff, 0xff, 0xff, 0x7f])
        #expect(try giant.readError()?.isCode(.frameTooLarge) == true)
        // After login 128 KiB are taken, and not a byte more.
        let client = try suite.client("alice")
        let body = ByteBuffer(repeating: 1, count: FrameLimits.afterLoginBytes - 9)
        try client.send(.request(.init(svid: 6, method: 1, requestID: 1), body))
        #expect(try client.read() == .response(requestID: 1, body))
        var header = ByteBuffer()
        FrameCodec.writeLength(FrameLimits.afterLoginBytes + 1, into: &header)
        try client.send(raw: Array(header.readableBytesView))
        #expect(try client.readError()?.isCode(.frameTooLarge) == true)
        try await suite.stop()
    }

    @Test func floodsAndSilenceBeforeLogin() async throws {
        let suite = try await FakeSuite { $0.login.handshakeMS = 500 }
        let flood = try TestClient(port: suite.tcp)
        try flood.send(raw: Array(repeating: [1, 5], count: 4000).flatMap { $0 })
        #expect(try flood.readError()?.isCode(.unexpectedFrame) == true)
        let silent = try TestClient(port: suite.tcp)
        #expect(try silent.readError()?.isCode(.handshakeTimeout) == true)
        let half = try TestClient(port: suite.tcp)
        try half.send(raw: [0x20, 0x01])
        #expect(try half.readError()?.isCode(.handshakeTimeout) == true)
        let noUpgrade = try TestClient(port: suite.webSocket, webSocket: true, upgrade: false)
        #expect(throws: TestClient.Closed.self) { try noUpgrade.readHTTP() }
        let halfUpgrade = try TestClient(port: suite.webSocket, webSocket: true, upgrade: false)
        try halfUpgrade.send(raw: Array("GET /ws HTTP/1.1\r\nHost: ".utf8))
        #expect(throws: TestClient.Closed.self) { try halfUpgrade.readHTTP() }
        // Those that keep their side open are cut after a moment.
        try await suite.waitForConnections(0)
        try await suite.stop()
    }

    @Test func connectionsAreBounded() async throws {
        let suite = try await FakeSuite(loops: 2) { $0.maxConnections = 2 }
        let first = try suite.client("alice")
        let second = try suite.client("bob")
        let third = try TestClient(port: suite.tcp)
        #expect(try third.readError()?.isCode(.tooManyConnections) == true)
        try first.echo("still here")
        second.close()
        // There is room again, as soon as the server has seen the end of the second.
        for attempt in 0..<50 {
            if (try? suite.client("carol")) != nil { break }
            #expect(attempt < 49)
            try await Task.sleep(for: .milliseconds(20))
        }
        try await suite.stop()
    }

    @Test func webSocketRules() async throws {
        let suite = try await FakeSuite()
        let cases: [(UInt16, [UInt8])] = [
            (1003, ClientWebSocket.frame(1, Array("hi".utf8))), (1002, ClientWebSocket.frame(2, [5], masked: false)),
            (1009, ClientWebSocket.frame(2, [UInt8](repeating: 0, count: 9000))), (1000, ClientWebSocket.frame(8, [])),
        ]
        for (code, bytes) in cases {
            let client = try TestClient(port: suite.webSocket, webSocket: true)
            try client.send(raw: bytes)
            #expect(try client.readError() == nil)
            #expect(client.closeCode == code)
        }
        let pinger = try suite.client("alice", webSocket: true)
        try pinger.send(raw: ClientWebSocket.frame(9, [1, 2, 3]))
        #expect(try pinger.read() == .event(ByteBuffer(bytes: [1, 2, 3])), "the pong has the ping's bytes")
        for (path, status) in [("/", "404"), ("/ws", "426"), ("/wsx", "404")] {
            let client = try TestClient(port: suite.webSocket, webSocket: true, upgrade: false)
            try client.send(raw: Array("GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
            #expect(try client.readHTTP().hasPrefix("HTTP/1.1 \(status)"))
        }
        let long = try TestClient(port: suite.webSocket, webSocket: true, upgrade: false)
        #expect(throws: TestClient.Closed.self) {
            for _ in 0..<100 { try long.send(raw: Array("GET /ws?\(String(repeating: "x", count: 4096))".utf8)) }
            _ = try long.readHTTP()
        }
        try await suite.stop()
    }

    /// While others misbehave in every way, a neighbour loses nothing.
    @Test func aNeighbourOfTheHostileLosesNothing() async throws {
        let suite = try await FakeSuite { $0.login.handshakeMS = 1000 }
        let neighbour = try suite.client("neighbour")
        let stream = try vectorsStream()
        let hostile = Thread {
            var random = SeededRandom(seed: 99)
            for number in 0..<400 {
                let webSocket = number % 2 == 1
                guard
                    let client = try? TestClient(
                        port: webSocket ? suite.webSocket : suite.tcp, webSocket: webSocket, upgrade: number % 4 == 1)
                else { continue }
                let count = Int.random(in: 1...5000, using: &random)
                var bytes = number % 3 == 0 ? stream : [UInt8](repeating: 0, count: count)
                let share = number % 3 == 0 ? 0.02 : 1
                for index in bytes.indices where random.chance(share) {
                    bytes[index] = UInt8.random(in: 0...255, using: &random)
                }
                try? client.send(raw: bytes)
                if number % 20 == 0 { _ = try? client.readError() }
            }
        }
        hostile.start()
        var seq: UInt64 = 1
        repeat {
            let batch = seq...seq + 99
            async let hands = suite.deliver(batch, to: neighbour.sessionID)
            try await blocking { try neighbour.readPushes(batch) }
            #expect(try await hands == Array(repeating: .delivered, count: 100))
            seq += 100
        } while !hostile.isFinished
        try neighbour.echo("here")
        try await suite.stop()
    }

    private func vectorsStream() throws -> [UInt8] {
        let header = Frame.RequestHeader(svid: 6, method: 1, requestID: 1)
        let frames: [Frame] = [
            LoginScript.hello(), .ping, LoginScript.authenticate("x.y.z"), .request(header, ByteBuffer(string: "body")),
            .orderedRequest(header, key: "p:a|b", turn: 0, ByteBuffer(string: "body")), .pushAck(pushID: 7), .bye,
        ]
        return frames.flatMap { TestClient.encode($0, webSocket: false) }
    }

    /// A client that asks for much and reads nothing is cut; what is held for it stays under its limit.
    @Test func aSlowReaderIsCut() async throws {
        let suite = try await FakeSuite()
        let neighbour = try suite.client("neighbour")
        let slow = try TestClient(port: suite.tcp, receiveBuffer: 4096)
        try slow.login(token: suite.token("slow"))
        for request in 1...64 as ClosedRange<UInt32> {
            try slow.send(.request(.init(svid: 7, method: 1, requestID: request), ByteBuffer()))
        }
        try await suite.waitForConnections(1)
        try neighbour.echo("here")
        #expect(try await suite.deliver(1...1, to: slow.sessionID) == [.notHere])
        try await suite.stop()
    }

    /// Pushes to a client that does not read: some wait in its window, the rest is FULL, and the session is cut when
    /// nothing was acknowledged for too long.
    @Test func aReaderThatStopsIsFull() async throws {
        let suite = try await FakeSuite { $0.login.pushAckTimeoutMS = 1500 }
        let slow = try TestClient(port: suite.tcp, receiveBuffer: 4096)
        try slow.login(token: suite.token("slow"))
        let hands = try await suite.deliver(1...400, to: slow.sessionID, size: 4096)
        #expect(hands.filter { $0 == .full }.count >= 400 - 256)
        #expect(hands.filter { $0 == .notHere }.count > 0)
        #expect(!hands.contains(.delivered))
        try await suite.stop()
    }

    @Test func aTakenPortIsSaid() async throws {
        let suite = try await FakeSuite()
        let taken = suite.tcp
        await #expect {
            _ = try await FakeSuite { $0.listeners[0].port = taken }
        } throws: { error in
            (error as? GatewayError)?.description.contains("127.0.0.1:\(taken)") == true
        }
        try await suite.stop()
    }
}
