import Foundation
import Hummingbird
import NIOCore
import Wire

/// The one shape of answers: JSON, and for errors {code, reason, message, retryable, retry_after_ms}.
enum Answer {
    static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let body = try? encoder.encode(value) else {
            return failure(Failure(.internalError, "the answer could not be encoded"))
        }
        var headers = HTTPFields()
        headers[.contentType] = "application/json; charset=utf-8"
        headers[.cacheControl] = "no-store"
        return Response(status: status, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: body)))
    }

    static func failure(_ failure: Failure) -> Response {
        let status = HTTPStatusTable.status(of: failure.code)
        var response = json(ErrorBody(failure), status: status)
        if failure.retryAfterMs > 0 {
            response.headers[.retryAfter] = String((failure.retryAfterMs + 999) / 1000)
        }
        // Not "Basic", though that is what apps send: a browser would open its own dialog over the page.
        if status == .unauthorized { response.headers[.wwwAuthenticate] = "Martlet realm=\"martlet\"" }
        return response
    }
}

/// An error as JSON; the same fields as the wire's Failure.
struct ErrorBody: Encodable, Equatable {
    let code: UInt32
    let reason: String
    let message: String
    let retryable: Bool
    let retry_after_ms: UInt32

    init(_ failure: Failure) {
        code = failure.code
        reason = failure.reason
        message = failure.message
        retryable = failure.retryable
        retry_after_ms = failure.retryAfterMs
    }
}

/// HTTP statuses of error codes. A code without a line of its own gets its hundred's.
enum HTTPStatusTable {
    private static let own: [UInt32: HTTPResponse.Status] = {
        let table: [(ErrorCode, HTTPResponse.Status)] = [
            (.frameTooLarge, .contentTooLarge), (.messageTooLarge, .contentTooLarge),
            (.limitExceeded, .contentTooLarge),
            (.appSuspended, .forbidden), (.forbidden, .forbidden), (.notAMember, .forbidden),
            (.unknownUser, .notFound), (.noSuchUser, .notFound), (.notFound, .notFound), (.noSuchService, .notFound),
            (.noSuchMethod, .notFound), (.alreadyExists, .conflict), (.resendInOrder, .conflict),
            (.rateLimited, .tooManyRequests), (.tooManyInFlight, .tooManyRequests),
            (.serviceUnavailable, .serviceUnavailable), (.retry, .serviceUnavailable),
            (.overloaded, .serviceUnavailable), (.busy, .serviceUnavailable),
            (.deadlineExceeded, .gatewayTimeout), (.internalError, .internalServerError),
        ]
        return Dictionary(uniqueKeysWithValues: table.map { ($0.0.number, $0.1) })
    }()

    static func status(of code: UInt32) -> HTTPResponse.Status {
        if let status = own[code] { return status }
        switch code / 100 {
        case 2: return .unauthorized
        case 5: return .serviceUnavailable
        case 1, 3, 4: return .badRequest
        default: return .badGateway
        }
    }
}

extension Request {
    /// The body as JSON of that shape. While it is coming the request gives its place to others.
    ///
    /// - Throws: `Failure` that names the field at fault, or the limit; overloaded when all places are taken since.
    func json<T: Decodable>(_ type: T.Type, limit: Int, _ context: APIContext) async throws -> T {
        context.slot.give()
        let value = try await decoded(type, limit: limit)
        try context.slot.take()
        return value
    }

    private func decoded<T: Decodable>(_ type: T.Type, limit: Int) async throws -> T {
        let tooLarge = Failure(.limitExceeded, "the body is larger than \(limit) bytes")
        if let announced = headers[.contentLength].flatMap({ Int($0) }), announced > limit { throw tooLarge }
        let buffer: ByteBuffer
        do { buffer = try await body.collect(upTo: limit) } catch is NIOTooManyBytesError { throw tooLarge } catch {
            // Nothing of ours: the client left, or was too slow. Nobody hears the answer, and no log should fill
            // with it.
            throw Failure(.malformedRequest, "the body ended early")
        }
        guard buffer.readableBytes > 0 else {
            throw Failure(.malformedRequest, "the body is empty; send a JSON object")
        }
        do {
            return try JSONDecoder().decode(T.self, from: Data(buffer.readableBytesView))
        } catch let error as DecodingError {
            throw Failure(.malformedRequest, Self.sentence(error))
        }
    }

    private static func sentence(_ error: DecodingError) -> String {
        func place(_ path: [any CodingKey]) -> String {
            if path.isEmpty { return "the top level" }
            return path.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
        }
        switch error {
        case .keyNotFound(let key, let context):
            return "field \"\(key.stringValue)\" is missing at \(place(context.codingPath))"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "\(place(context.codingPath)): \(context.debugDescription)"
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty
                ? "the body is not valid JSON" : "\(place(context.codingPath)): \(context.debugDescription)"
        @unknown default: return "the body does not have the expected shape"
        }
    }
}
