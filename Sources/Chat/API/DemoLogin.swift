import Foundation
import Hummingbird
import Identity
import Wire

extension APIMethods {
    private struct DemoRequest: Decodable {
        let user: String
        let password: String
    }

    private struct DemoAnswer: Encodable {
        let token: String
        let app_id: String
        let user_id: String
        let expires_at: UInt64
        let ws_url: String
    }

    /// POST /demo/login: a password for a token, for the demo app alone.
    func demoLogin(_ request: Request, _ context: APIContext) async throws -> Response {
        guard let demo = config.demo else { throw Failure(.notFound, "this server has no demo login") }
        let body = try await request.json(DemoRequest.self, limit: config.limits.strangerBodyBytes, context)
        // An unknown user costs the same comparison as a known one.
        let password = demo.passwords[body.user]
        let same = ConstantTime.equal(Array(body.password.utf8), Array((password ?? "").utf8))
        _ = try judged("demo/" + body.user, context, password != nil && same ? true : nil)
        guard let app = try await app(demo.appID), let key = app.keys.first(where: { !$0.retired }) else {
            throw Failure(.tokenUnknownApp, "the demo app \(demo.appID) does not exist or has no key")
        }
        let issued = try await token(
            ProvenApp(app: app, key: key), body.user, lifetime: UInt64(config.limits.tokenDefaultSeconds))
        return Answer.json(
            DemoAnswer(
                token: issued.token, app_id: issued.app_id, user_id: issued.user_id, expires_at: issued.expires_at,
                ws_url: WebSocketURL.make(config.webSocket, host: request.head.authority)))
    }
}

/// The address that a browser is sent to.
enum WebSocketURL {
    /// - Parameter host: the request's Host header; it only comes back to the browser that sent it.
    static func make(_ address: WebSocketAddress, host: String?) -> String {
        let host = host.flatMap { $0.isEmpty ? nil : $0 } ?? "127.0.0.1"
        switch address {
        case .url(let url): return url
        case .samePort: return "ws://\(host)/ws"
        case .port(let port, let tls): return "\(tls ? "wss" : "ws")://\(withoutPort(host)):\(port)/ws"
        }
    }

    private static func withoutPort(_ host: String) -> String {
        // An IPv6 address keeps its colons inside brackets.
        if let bracket = host.firstIndex(of: "]") { return String(host[...bracket]) }
        return String(host.prefix { $0 != ":" })
    }
}
