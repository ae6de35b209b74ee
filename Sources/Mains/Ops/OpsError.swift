import Ports
import Runtime
import Wire

/// What `martlet ops` could not do, and what to do about it. One line for the user, exit code 1.
public struct OpsError: Error, Equatable, CustomStringConvertible {
    public enum Code: String, Equatable, Sendable {
        /// An option is missing or names nothing.
        case options
        /// A backend is away; the same may work later.
        case unreachable
        /// A backend says no, or is not what it should be.
        case refused
        /// Something was compared and found different.
        case unequal
        /// Nobody said yes.
        case unconfirmed
        /// A file cannot be read or written.
        case file
    }

    public let code: Code
    public let problem: String
    public let cure: String

    public init(_ code: Code, _ problem: String, cure: String) {
        self.code = code
        self.problem = problem
        self.cure = cure
    }

    init(_ error: StartError) { self.init(.options, error.problem, cure: error.cure) }

    init(_ error: StoreOpenError) {
        if error.isAway {
            self.init(.unreachable, error.message, cure: "Start it, or correct its address, and run this again")
        } else {
            self.init(.refused, error.message, cure: "Nothing was changed there")
        }
    }

    /// - Parameter again: what to do when the backend was away.
    init(_ failure: Failure, again: String = "Run this again when it is back") {
        if failure.isCode(.internalError) {
            // BucketMove's word for copies that are not equal.
            self.init(.unequal, failure.message, cure: "Nothing was switched over; find out who else writes there")
        } else if failure.retryable {
            self.init(.unreachable, failure.message, cure: again)
        } else {
            self.init(.refused, failure.message, cure: "Nothing was changed")
        }
    }

    public var description: String { "\(problem). \(cure). [\(code.rawValue)]" }
}
