import Foundation
import MartletClient
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// `POST /demo/login` of the suite's API: a demo user's password for a token. One small request, so one small client.
enum DemoLogin {
    private struct Ask: Encodable {
        var user: String
        var password: String
    }

    private struct Answer: Decodable { var token: String }

    private struct Refusal: Decodable { var message: String }

    /// Largest answer that is read.
    static let largestAnswer = 64 * 1024

    /// - Parameter tls: https when set.
    static func token(
        at server: ServerAddress, user: String, password: String, tls: TLSConfiguration?
    ) async throws -> String {
        let context = try tls.map(context)
        let body = try JSONEncoder().encode(Ask(user: user, password: password))
        let group = MultiThreadedEventLoopGroup.singleton
        let loop = group.next()
        let answered = loop.makePromise(of: (status: Int, body: [UInt8]).self)
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: loop).connectTimeout(.seconds(5)).channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let context {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: context, serverHostname: server.certificateName))
                    }
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(OneAnswer(answered))
                }
            }.connect(host: server.host, port: server.port).get()
        } catch {
            answered.fail(error)
            throw ToolError("cannot reach the API at \(server): \(error)")
        }
        let timeout = loop.scheduleTask(in: .seconds(10)) {
            answered.fail(ToolError("the API at \(server) did not answer in 10 s"))
        }
        defer {
            timeout.cancel()
            channel.close(promise: nil)
        }
        let head = HTTPRequestHead(
            version: .http1_1, method: .POST, uri: "/demo/login",
            headers: [
                "host": "\(server)", "content-type": "application/json", "content-length": "\(body.count)",
                "connection": "close",
            ])
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil)
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        let answer = try await answered.futureResult.get()
        guard (200..<300).contains(answer.status) else {
            let why = try? JSONDecoder().decode(Refusal.self, from: Data(answer.body)).message
            throw ToolError("the API refused the login: \(why ?? "status \(answer.status)")")
        }
        guard let token = try? JSONDecoder().decode(Answer.self, from: Data(answer.body)).token else {
            throw ToolError("the API's answer has no token")
        }
        return token
    }

    private static func context(_ tls: TLSConfiguration) throws -> NIOSSLContext {
        do { return try NIOSSLContext(configuration: tls) } catch {
            throw ToolError("TLS cannot be set up: \(error)")
        }
    }
}

/// Collects one response. Confined to its channel's loop.
private final class OneAnswer: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let answered: EventLoopPromise<(status: Int, body: [UInt8])>
    private var status = 0
    private var body: [UInt8] = []

    init(_ answered: EventLoopPromise<(status: Int, body: [UInt8])>) { self.answered = answered }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): status = Int(head.status.code)
        case .body(let part):
            guard body.count + part.readableBytes <= DemoLogin.largestAnswer else {
                return fail(context, ToolError("the API's answer is too large"))
            }
            body.append(contentsOf: part.readableBytesView)
        case .end: answered.succeed((status, body))
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        answered.fail(ToolError("the API closed the connection"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isTLS = error is NIOSSLError || error is NIOSSLExtraError || error is BoringSSLError
        let words = isTLS ? "the certificate is not trusted for that name, or nobody speaks TLS there" : "\(error)"
        fail(context, ToolError("the API's answer is unreadable: \(words)"))
    }

    private func fail(_ context: ChannelHandlerContext, _ error: ToolError) {
        answered.fail(error)
        context.close(promise: nil)
    }
}
