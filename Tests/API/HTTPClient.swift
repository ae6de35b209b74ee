import APIRole
import Foundation
import Logging
import NIOCore
import NIOPosix
import RPC
import Testing

/// An answer as it came over the socket.
struct HTTPAnswer: Sendable {
    var status = 0
    var headers: [String: String] = [:]
    var body = Data()

    var json: [String: Any] { (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] ?? [:] }
    var text: String { String(decoding: body, as: UTF8.self) }
    var reason: String? { json["reason"] as? String }

    init(parsing bytes: Data) {
        guard let end = bytes.range(of: Data("\r\n\r\n".utf8)) else { return }
        let head = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        status = head.first.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0
        for line in head.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces) }
        }
        body = Data(bytes[end.upperBound...])
    }
}

/// One request per connection, with exactly the bytes that a test wants on the wire.
struct HTTPClient: Sendable {
    let port: Int
    /// The address that requests come from: any of 127.0.0.0/8.
    var source = "127.0.0.1"

    func from(_ source: String) -> HTTPClient { HTTPClient(port: port, source: source) }

    func send(
        _ method: String, _ path: String, _ body: String? = nil, headers: [String: String] = [:]
    ) async throws -> HTTPAnswer {
        var lines = ["\(method) \(path) HTTP/1.1", "Host: chat.example:\(port)", "Connection: close"]
        for (name, value) in headers { lines.append("\(name): \(value)") }
        if let body { lines.append("Content-Length: \(body.utf8.count)") }
        let text = lines.joined(separator: "\r\n") + "\r\n\r\n" + (body ?? "")
        return HTTPAnswer(parsing: try await raw(text))
    }

    func post(_ path: String, _ body: String, basic: String? = nil, bearer: String? = nil) async throws -> HTTPAnswer {
        var headers: [String: String] = [:]
        if let basic { headers["Authorization"] = "Basic " + Data(basic.utf8).base64EncodedString() }
        if let bearer { headers["Authorization"] = "Bearer " + bearer }
        return try await send("POST", path, body, headers: headers)
    }

    func get(_ path: String, basic: String? = nil, headers: [String: String] = [:]) async throws -> HTTPAnswer {
        var headers = headers
        if let basic { headers["Authorization"] = "Basic " + Data(basic.utf8).base64EncodedString() }
        return try await send("GET", path, headers: headers)
    }

    /// Everything that the server says until it closes.
    func raw(_ request: String) async throws -> Data {
        let (channel, said) = try await open()
        channel.writeAndFlush(ByteBuffer(string: request), promise: nil)
        return try await said.get()
    }

    /// A connection, and everything that the server will have said on it when it closes it.
    func open(reading: Bool = true) async throws -> (any Channel, EventLoopFuture<Data>) {
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let promise = loop.makePromise(of: Data.self)
        let connected = ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Collector(promise))
                }
            }
            .channelOption(.autoRead, value: reading)
            .bind(to: try SocketAddress(ipAddress: source, port: 0))
            .connect(host: "127.0.0.1", port: port)
        connected.cascadeFailure(to: promise)
        return (try await connected.get(), promise.futureResult)
    }

    /// Isolation: its channel's loop.
    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let promise: EventLoopPromise<Data>
        private var bytes = Data()

        init(_ promise: EventLoopPromise<Data>) { self.promise = promise }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            bytes.append(contentsOf: unwrapInboundIn(data).readableBytesView)
        }

        func channelInactive(context: ChannelHandlerContext) { promise.succeed(bytes) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

/// Starts a server over fake roles with one app, "demo", whose key is "demo.k1" and whose secret is "s3cret".
func withAPI(
    _ configure: @Sendable (inout APIConfig) throws -> Void = { _ in },
    _ body: @Sendable @escaping (HTTPClient, FakeRoles) async throws -> Void
) async throws {
    let roles = FakeRoles()
    roles.state.withLock {
        $0.apps["demo"] = .with {
            $0.appID = "demo"
            $0.exists = true
            $0.version = 1
            $0.keys = [
                .with {
                    $0.keyID = "demo.k0"
                    $0.secret = Data("old".utf8)
                    $0.retired = true
                },
                .with {
                    $0.keyID = "demo.k1"
                    $0.secret = Data("s3cret".utf8)
                },
            ]
        }
    }
    for user in ["a", "b", "bob"] { roles.state.withLock { $0.users["demo/" + user] = .with { $0.exists = true } } }
    let directory = Directory()
    roles.join(directory)
    let lane = Lane(name: "test", loop: MultiThreadedEventLoopGroup.singleton.any())
    var config = APIConfig(adminKey: "admin-key", demo: DemoLogin(appID: "demo", passwords: ["alice": "pässword"]))
    try configure(&config)
    let logger = Logger(label: "test")
    try await APIServer.start(config: config, directory: directory, lane: lane, logger: logger) { server in
        try await body(HTTPClient(port: server.port), roles)
    }
}
