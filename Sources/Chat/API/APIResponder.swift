import Hummingbird
import Logging
import NIOCore
import Synchronization
import Wire

/// What a request knows of its connection and its place.
struct APIContext: Sendable {
    /// The peer's address without its port; "" when the socket is gone.
    let remoteAddress: String
    /// The conversation id in the path, percent-encoded; "" on routes without one.
    var conversation = ""
}

/// Turns requests into calls of `APIMethods` and every outcome into an answer of the one shape.
final class APIResponder: Sendable {
    private let methods: APIMethods
    private let logger: Logger
    private let inFlight = Mutex(0)

    init(methods: APIMethods, logger: Logger) {
        self.methods = methods
        self.logger = logger
    }

    func respond(to request: Request, remoteAddress: String) async -> Response {
        let admitted = inFlight.withLock { count in
            guard count < methods.config.limits.requestsInFlight else { return false }
            count += 1
            return true
        }
        guard admitted else {
            return Answer.failure(
                Failure(.overloaded, "this server is answering as many requests as it can; retry", retryAfterMS: 500))
        }
        defer { inFlight.withLock { $0 -= 1 } }
        do {
            return try await methods.route(request, APIContext(remoteAddress: remoteAddress))
        } catch let failure as Failure {
            return Answer.failure(failure)
        } catch {
            logger.error("a request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return Answer.failure(Failure(.internalError, "the request failed inside the server"))
        }
    }
}

extension APIMethods {
    /// Every route, in one place. `Protocols/README.md` describes them.
    func route(_ request: Request, _ context: APIContext) async throws -> Response {
        switch (request.method, request.uri.path) {
        case (.get, "/health"): return await health()
        case (.post, "/v1/apps"): return try await createApp(request, context)
        case (.post, "/v1/users"): return try await createUsers(request, context)
        case (.post, "/v1/tokens"): return try await issueToken(request, context)
        case (.post, "/v1/tokens/revoke"): return try await revokeTokens(request, context)
        case (.post, "/v1/messages"): return try await sendMessages(request, context)
        case (.post, "/demo/login"): return try await demoLogin(request, context)
        case (.get, let path), (.head, let path):
            guard let id = Self.conversation(in: path) else { return try web.answer(request, path: path) }
            var place = context
            place.conversation = id
            return try await history(request, place)
        case (let method, let path): throw Failure(.notFound, "there is no route \(method.rawValue) \(path)")
        }
    }

    /// The id in `/v1/conversations/{id}/messages`; nil for every other path.
    private static func conversation(in path: String) -> String? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "v1", parts[2] == "conversations", parts[4] == "messages"
        else { return nil }
        return String(parts[3])
    }
}
