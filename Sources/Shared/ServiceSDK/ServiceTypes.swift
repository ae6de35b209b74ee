import Foundation
import Wire

/// One request of a user's device to the service.
public struct ServiceRequest: Sendable, Equatable {
    /// The app that the user belongs to, checked by Martlet: nobody can pretend to be somebody else.
    public var app: String
    public var user: String
    public var device: String
    public var platform: String
    /// The connection that asked; "" when an app server asked through the API.
    public var session: String
    public var method: UInt32
    /// "" for unordered; requests of one (session, key) are in the order in which they were made.
    public var orderKey: String
    public var body: [UInt8]
    /// "" unless the request is traced.
    public var traceID: String

    public init(
        app: String, user: String, device: String = "", platform: String = "", session: String = "", method: UInt32,
        orderKey: String = "", body: [UInt8] = [], traceID: String = ""
    ) {
        self.app = app
        self.user = user
        self.device = device
        self.platform = platform
        self.session = session
        self.method = method
        self.orderKey = orderKey
        self.body = body
        self.traceID = traceID
    }

    init(_ call: ServiceCall) {
        self.init(
            app: call.caller.appID, user: call.caller.userID, device: call.caller.deviceID,
            platform: call.caller.platform, session: call.caller.sessionID, method: call.method,
            orderKey: call.orderKey, body: Array(call.body), traceID: call.traceID)
    }
}

/// What the service says to one request.
public enum ServiceResponse: Sendable, Equatable {
    case success([UInt8])
    case failure(ServiceFailure)

    var reply: ServiceReply {
        var reply = ServiceReply()
        switch self {
        case .success(let body): reply.body = Data(body)
        case .failure(let failure): reply.failure = failure.wire
        }
        return reply
    }
}

/// An error with a stable number and name; codes of Martlet's own table have a static member each.
public struct ServiceFailure: Error, Sendable, Equatable {
    public var code: UInt32
    public var name: String
    public var message: String
    /// The same request may succeed later.
    public var retryable: Bool

    public init(code: UInt32, name: String, message: String, retryable: Bool = false) {
        self.code = code
        self.name = name
        self.message = message
        self.retryable = retryable
    }

    init(_ failure: Failure) {
        self.init(
            code: failure.code, name: failure.reason, message: failure.message, retryable: failure.retryable)
    }

    private init(_ code: ErrorCode, _ message: String) {
        self.init(code: code.number, name: code.name, message: message, retryable: code.retryable)
    }

    public static func noSuchMethod(_ method: UInt32) -> ServiceFailure {
        ServiceFailure(.noSuchMethod, "the service has no method \(method)")
    }
    public static func malformedRequest(_ message: String) -> ServiceFailure { .init(.malformedRequest, message) }
    public static func limitExceeded(_ message: String) -> ServiceFailure { .init(.limitExceeded, message) }
    public static func serviceUnavailable(_ message: String) -> ServiceFailure { .init(.serviceUnavailable, message) }
    public static func overloaded(_ message: String) -> ServiceFailure { .init(.overloaded, message) }
    public static func internalError(_ message: String) -> ServiceFailure { .init(.internalError, message) }

    var wire: Failure {
        var failure = Failure()
        failure.code = code
        failure.reason = name
        failure.message = message
        failure.retryable = retryable
        return failure
    }
}

/// What became of a pushed event on one device.
public enum PushedTo: Sendable, Equatable {
    case delivered
    /// The device was online a moment ago and is gone.
    case notHere
    /// The device does not keep up and did not get it.
    case full

    init(_ hand: Hand) {
        switch hand {
        case .delivered: self = .delivered
        case .full: self = .full
        case .notHere, .UNRECOGNIZED: self = .notHere
        }
    }
}

/// What became of one user's notice.
public enum NotifyOutcome: Sendable, Equatable {
    /// Durable: the user gets it now or when next online.
    case accepted
    /// Certainly not stored.
    case refused(ServiceFailure)
    /// Stored or not; the same notice id again is safe and tells.
    case unknown(ServiceFailure)
}
