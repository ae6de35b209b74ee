import Hummingbird
import Logging
import NIOCore
import Synchronization
import Wire

/// What a request knows of its connection and its place.
struct APIContext: Sendable {
    /// The client's address as limits count it; "" when the socket is gone.
    let remoteAddress: String
    /// The request's place among those being answered.
    let slot: Slot
    /// The part of the path that varies, percent-encoded; "" on routes without one.
    var name = ""
}

/// The requests that may be answered at once. A body that is still coming takes no place, so that nobody can fill all
/// of them without having anything to ask.
///
/// Isolation: any thread; one mutex.
final class Slots: Sendable {
    private let free: Mutex<Int>

    init(_ count: Int) { free = Mutex(count) }

    fileprivate func take() -> Bool {
        free.withLock { free in
            guard free > 0 else { return false }
            free -= 1
            return true
        }
    }

    fileprivate func give() { free.withLock { $0 += 1 } }
}

/// One request's place; given back once, whatever happens.
///
/// Isolation: any thread; one mutex.
final class Slot: Sendable {
    private let slots: Slots
    private let held = Mutex(false)

    init(_ slots: Slots) { self.slots = slots }

    /// - Throws: overloaded when all places are taken.
    func take() throws(Failure) {
        guard slots.take() else {
            throw Failure(.overloaded, "this server is answering as many requests as it can; retry", retryAfterMS: 500)
        }
        held.withLock { $0 = true }
    }

    func give() {
        let had = held.withLock { held in
            defer { held = false }
            return held
        }
        if had { slots.give() }
    }
}

/// Turns requests into calls of `APIMethods` and every outcome into an answer of the one shape.
final class APIResponder: Sendable {
    private let methods: APIMethods
    private let logger: Logger
    private let slots: Slots

    init(methods: APIMethods, logger: Logger) {
        self.methods = methods
        self.logger = logger
        self.slots = Slots(methods.config.limits.requestsInFlight)
    }

    func respond(to request: Request, remoteAddress: String) async -> Response {
        let slot = Slot(slots)
        defer { slot.give() }
        do {
            try slot.take()
            return try await methods.route(request, APIContext(remoteAddress: remoteAddress, slot: slot))
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
        case (.patch, let path) where path.hasPrefix("/v1/apps/"):
            var place = context
            place.name = String(path.dropFirst("/v1/apps/".count))
            return try await changeApp(request, place)
        case (.post, "/v1/users"): return try await createUsers(request, context)
        case (.post, "/v1/tokens"): return try await issueToken(request, context)
        case (.post, "/v1/tokens/revoke"): return try await revokeTokens(request, context)
        case (.post, "/v1/messages"): return try await sendMessages(request, context)
        case (.post, "/demo/login"): return try await demoLogin(request, context)
        case (.get, let path), (.head, let path):
            guard let id = Self.conversation(in: path) else { return try web.answer(request, path: path) }
            var place = context
            place.name = id
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
