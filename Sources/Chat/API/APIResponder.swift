import Hummingbird
import Logging
import NIOCore
import Synchronization
import Wire

/// What a request knows of its connection.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The peer's address without its port; "" when the socket is gone.
    let remoteAddress: String

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        remoteAddress = source.channel.remoteAddress?.ipAddress ?? ""
    }
}

/// Turns requests into calls of `APIMethods` and every outcome into an answer of the one shape.
final class APIResponder: Sendable {
    private let methods: APIMethods
    private let logger: Logger
    private let router: RouterResponder<APIContext>
    private let inFlight = Mutex(0)

    init(methods: APIMethods, logger: Logger) {
        self.methods = methods
        self.logger = logger
        self.router = methods.router().buildResponder()
    }

    func respond(to request: Request, context: APIContext) async -> Response {
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
            return try await router.respond(to: request, context: context)
        } catch let failure as Failure {
            return Answer.failure(failure)
        } catch is HTTPError {
            // The router throws these for a path or method it does not have.
            return Answer.failure(Failure(.notFound, "no route \(request.method.rawValue) \(request.uri.path)"))
        } catch {
            logger.error("a request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return Answer.failure(Failure(.internalError, "the request failed inside the server"))
        }
    }
}

extension APIMethods {
    /// Every route, in one place. `Protocols/README.md` describes them.
    func router() -> Router<APIContext> {
        let router = Router(context: APIContext.self)
        router.get("health") { _, _ in await self.health() }
        router.post("v1/apps") { try await self.createApp($0, $1) }
        router.post("v1/users") { try await self.createUsers($0, $1) }
        router.post("v1/tokens") { try await self.issueToken($0, $1) }
        router.post("v1/tokens/revoke") { try await self.revokeTokens($0, $1) }
        router.post("v1/messages") { try await self.sendMessages($0, $1) }
        router.get("v1/conversations/:id/messages") { try await self.history($0, $1) }
        router.post("demo/login") { try await self.demoLogin($0, $1) }
        router.get("/") { request, _ in try self.web.answer(request, path: "/") }
        router.get("**") { request, _ in try self.web.answer(request, path: request.uri.path) }
        router.head("**") { request, _ in try self.web.answer(request, path: request.uri.path) }
        return router
    }
}
