/// Every error a client or service can be told, with its stable number and name (Protocols/README.md has the table).
/// 1xx: the connection. 2xx: identity. 3xx: a request. 4xx: messages. 5xx: the server's own trouble.
public struct ErrorCode: Hashable, Sendable {
    public let number: UInt32
    public let name: String
    public let retryable: Bool

    init(_ number: UInt32, _ name: String, retryable: Bool = false) {
        self.number = number
        self.name = name
        self.retryable = retryable
    }

    public static let malformedFrame = ErrorCode(100, "malformed_frame")
    public static let frameTooLarge = ErrorCode(101, "frame_too_large")
    public static let unexpectedFrame = ErrorCode(102, "unexpected_frame")
    public static let unsupportedVersion = ErrorCode(103, "unsupported_version")
    public static let handshakeTimeout = ErrorCode(104, "handshake_timeout")
    public static let heartbeatTimeout = ErrorCode(105, "heartbeat_timeout")
    public static let slowConsumer = ErrorCode(106, "slow_consumer")
    public static let tooManyConnections = ErrorCode(107, "too_many_connections", retryable: true)
    public static let goingAway = ErrorCode(108, "going_away", retryable: true)
    public static let pushAckTimeout = ErrorCode(109, "push_ack_timeout", retryable: true)
    public static let superseded = ErrorCode(110, "superseded", retryable: true)

    public static let tokenMalformed = ErrorCode(200, "token_malformed")
    public static let tokenUnknownApp = ErrorCode(201, "token_unknown_app")
    public static let tokenBadSignature = ErrorCode(202, "token_bad_signature")
    public static let tokenExpired = ErrorCode(203, "token_expired")
    public static let tokenNotYetValid = ErrorCode(204, "token_not_yet_valid")
    public static let tokenRevoked = ErrorCode(205, "token_revoked")
    public static let appSuspended = ErrorCode(206, "app_suspended")
    public static let badDevice = ErrorCode(207, "bad_device")
    public static let displaced = ErrorCode(208, "displaced_by_newer_login")
    public static let unknownUser = ErrorCode(209, "unknown_user")
    public static let badCredentials = ErrorCode(210, "bad_credentials")
    public static let tokenWrongAlgorithm = ErrorCode(211, "token_wrong_algorithm")
    public static let tokenUnknownKey = ErrorCode(212, "token_unknown_key")

    public static let malformedRequest = ErrorCode(300, "malformed_request")
    public static let noSuchService = ErrorCode(301, "no_such_service")
    public static let noSuchMethod = ErrorCode(302, "no_such_method")
    public static let serviceUnavailable = ErrorCode(303, "service_unavailable", retryable: true)
    public static let retry = ErrorCode(304, "retry", retryable: true)
    public static let overloaded = ErrorCode(305, "overloaded", retryable: true)
    public static let deadlineExceeded = ErrorCode(306, "deadline_exceeded", retryable: true)
    public static let forbidden = ErrorCode(307, "forbidden")
    public static let tooManyInFlight = ErrorCode(308, "too_many_in_flight", retryable: true)
    public static let limitExceeded = ErrorCode(309, "limit_exceeded")
    public static let notFound = ErrorCode(310, "not_found")
    public static let alreadyExists = ErrorCode(311, "already_exists")

    public static let badConversation = ErrorCode(400, "bad_conversation")
    public static let notAMember = ErrorCode(401, "not_a_member")
    public static let messageTooLarge = ErrorCode(402, "message_too_large")
    public static let badMessageID = ErrorCode(403, "bad_client_msg_id")
    public static let resendExpired = ErrorCode(404, "resend_expired")
    public static let resendInOrder = ErrorCode(405, "resend_in_order", retryable: true)
    public static let rateLimited = ErrorCode(406, "rate_limited", retryable: true)
    public static let busy = ErrorCode(407, "busy", retryable: true)
    public static let noSuchUser = ErrorCode(408, "no_such_user")
    public static let badContent = ErrorCode(409, "bad_content")

    public static let outcomeUnknown = ErrorCode(500, "outcome_unknown", retryable: true)
    public static let storeUnavailable = ErrorCode(501, "store_unavailable", retryable: true)
    public static let historyUnavailable = ErrorCode(502, "history_unavailable", retryable: true)
    public static let internalError = ErrorCode(503, "internal_error", retryable: true)

    /// All of them, for the table's test.
    public static let all: [ErrorCode] = [
        malformedFrame, frameTooLarge, unexpectedFrame, unsupportedVersion, handshakeTimeout, heartbeatTimeout,
        slowConsumer, tooManyConnections, goingAway, pushAckTimeout, superseded,
        tokenMalformed, tokenUnknownApp, tokenBadSignature, tokenExpired, tokenNotYetValid, tokenRevoked, appSuspended,
        badDevice, displaced, unknownUser, badCredentials, tokenWrongAlgorithm, tokenUnknownKey,
        malformedRequest, noSuchService, noSuchMethod, serviceUnavailable, retry, overloaded, deadlineExceeded,
        forbidden, tooManyInFlight, limitExceeded, notFound, alreadyExists,
        badConversation, notAMember, messageTooLarge, badMessageID, resendExpired, resendInOrder, rateLimited, busy,
        noSuchUser, badContent,
        outcomeUnknown, storeUnavailable, historyUnavailable, internalError,
    ]
}

extension Failure: Error {
    /// A failure with its code's number, name and retryability.
    public init(_ code: ErrorCode, _ message: String, retryAfterMS: UInt32 = 0) {
        self.init()
        self.code = code.number
        self.reason = code.name
        self.message = message
        self.retryable = code.retryable
        self.retryAfterMs = retryAfterMS
    }

    /// Whether this is that code.
    public func isCode(_ other: ErrorCode) -> Bool { code == other.number }
}
