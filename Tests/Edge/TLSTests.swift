import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization
import Testing
import Wire

@testable import LoginRole

/// TCP and WebSocket behind TLS, spoken to by swift-nio's own client.
@Suite(.serialized, .timeLimit(.minutes(2))) struct TLSTests {
    /// Keeps what comes.
    private final class Inbox: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        private let received = Mutex(ByteBuffer())
        var bytes: ByteBuffer { received.withLock { $0 } }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let chunk = unwrapInboundIn(data)
            received.withLock { _ = $0.writeImmutableBuffer(chunk) }
        }

        /// Waits until the test says it has enough.
        func wait(_ enough: (ByteBuffer) -> Bool) async throws {
            for _ in 0..<500 where !enough(bytes) { try await Task.sleep(for: .milliseconds(10)) }
            #expect(enough(bytes))
        }
    }

    private func connect(
        _ suite: FakeSuite, port: Int, _ inbox: Inbox, versions: (oldest: TLSVersion, newest: TLSVersion)? = nil
    ) async throws -> any Channel {
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let versions {
            configuration.minimumTLSVersion = versions.oldest
            configuration.maximumTLSVersion = versions.newest
        }
        configuration.trustRoots = .certificates(
            try NIOSSLCertificate.fromPEMBytes(Array(TestCertificate.certificate.utf8)))
        let context = try NIOSSLContext(configuration: configuration)
        return try await ClientBootstrap(group: suite.group).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(
                    NIOSSLClientHandler(context: context, serverHostname: "localhost"))
                try channel.pipeline.syncOperations.addHandler(inbox)
            }
        }.connect(host: "127.0.0.1", port: port).get()
    }

    private func suite(
        _ files: (folder: URL, certificate: String, key: String), handshakeMS: UInt64 = 60_000
    ) async throws -> FakeSuite {
        try await FakeSuite { config in
            for index in config.listeners.indices { config.listeners[index].secure = true }
            config.tls = GatewayTLS(certificatePath: files.certificate, keyPath: files.key)
            config.login.handshakeMS = handshakeMS
        }
    }

    @Test func bothTransportsBehindTLS() async throws {
        let files = try TestCertificate.write()
        defer { try? FileManager.default.removeItem(at: files.folder) }
        let suite = try await suite(files)
        let frames = [LoginScript.hello(), LoginScript.authenticate(try suite.token("alice"))]

        let inbox = Inbox()
        let channel = try await connect(suite, port: suite.tcp, inbox)
        try await channel.writeAndFlush(ByteBuffer(bytes: frames.flatMap { TestClient.encode($0, webSocket: false) }))
        try await inbox.wait { bytes in
            var bytes = bytes
            let first = try? FrameCodec.decodeStream(&bytes, limit: 1 << 20)
            let second = try? FrameCodec.decodeStream(&bytes, limit: 1 << 20)
            return first?.type == .welcome && second?.type == .authenticated
        }

        let webInbox = Inbox()
        let web = try await connect(suite, port: suite.webSocket, webInbox)
        let upgrade =
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        // Frames right behind the upgrade, without waiting for its answer.
        try await web.writeAndFlush(
            ByteBuffer(bytes: Array(upgrade.utf8) + frames.flatMap { TestClient.encode($0, webSocket: true) }))
        try await webInbox.wait { bytes in
            // Behind the answer's empty line: WELCOME and AUTHENTICATED, a binary message each.
            let text = Array(bytes.readableBytesView)
            let ends = text.indices.first { text[$0...].starts(with: Array("\r\n\r\n".utf8)) }
            guard let start = ends.map({ $0 + 4 }), text.count > start + 2, text[start] == 0x82 else { return false }
            let second = start + 2 + Int(text[start + 1])
            return text.count > second + 2 && text[second] == 0x82
                && text[second + 2] == FrameType.authenticated.rawValue
        }
        #expect(try await suite.server.connectionCount() == 2)
        try await suite.server.shutdown()
        try await channel.closeFuture.get()
        try await web.closeFuture.get()
        try await suite.group.shutdownGracefully()
    }

    /// TLS 1.0 and 1.1 are deprecated (RFC 8996): no session, whatever else is right.
    @Test func oldVersionsAreRefused() async throws {
        let files = try TestCertificate.write()
        defer { try? FileManager.default.removeItem(at: files.folder) }
        let suite = try await suite(files)
        let cases: [(TLSVersion, TLSVersion, Bool)] = [
            (.tlsv1, .tlsv1, false), (.tlsv1, .tlsv11, false), (.tlsv1, .tlsv12, true),
        ]
        for (oldest, newest, taken) in cases {
            let inbox = Inbox()
            let channel = try await connect(suite, port: suite.tcp, inbox, versions: (oldest, newest))
            let hello = TestClient.encode(LoginScript.hello(), webSocket: false)
            channel.writeAndFlush(ByteBuffer(bytes: hello), promise: nil)
            if taken {
                try await inbox.wait { $0.readableBytes > 0 }
                try await channel.close()
            } else {
                try await channel.closeFuture.get()
                #expect(inbox.bytes.readableBytes == 0)
            }
        }
        try await suite.stop()
    }

    /// What is no TLS is cut, and a certificate that is not there is said.
    @Test func withoutTLS() async throws {
        let files = try TestCertificate.write()
        defer { try? FileManager.default.removeItem(at: files.folder) }
        let suite = try await suite(files, handshakeMS: 500)
        let plain = try TestClient(port: suite.tcp)
        try plain.send(raw: [UInt8](repeating: 0x41, count: 100))
        #expect(throws: TestClient.Closed.self) { while true { _ = try plain.readHTTP() } }
        // One that never says anything is cut like any other.
        let silent = try TestClient(port: suite.webSocket, webSocket: true, upgrade: false)
        #expect(throws: TestClient.Closed.self) { _ = try silent.readHTTP() }
        try await suite.stop()
        await #expect(throws: GatewayError.self) {
            _ = try await FakeSuite { config in
                config.listeners[0].secure = true
                config.tls = GatewayTLS(certificatePath: "/nowhere/cert.pem", keyPath: "/nowhere/key.pem")
            }
        }
    }
}
