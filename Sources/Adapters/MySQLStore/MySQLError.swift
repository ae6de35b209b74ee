internal import CMariaDB
import Ports
import Wire

/// What went wrong between this process and a database, and what that means.
public struct MySQLError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: Equatable, Sendable {
        /// There is no connection, and nothing was sent.
        case unreachable
        /// The connection broke with something under way.
        case lost
        /// Others are in the way: a deadlock, or a row that somebody holds for too long. The same may succeed now.
        case conflict
        /// The rows are the trouble, not the database: it takes others.
        case rows
        /// Wrong user, password or rights, or no such database.
        case denied
        /// Of a version that this program does not know, or not what it should be.
        case refused
        case full
        case readOnly
        case other
    }
    public let kind: Kind
    /// The server's or the library's number; 0 for our own.
    public let code: UInt32
    public let message: String

    public init(_ kind: Kind, code: UInt32 = 0, _ message: String) {
        self.kind = kind
        self.code = code
        self.message = message
    }

    init(code: UInt32, message: String) { self.init(Self.kind(Int32(code)), code: code, message) }

    private static func kind(_ code: Int32) -> Kind {
        switch code {
        case CR_SERVER_GONE_ERROR, CR_SERVER_LOST, CR_SERVER_LOST_EXTENDED, Int32(ER_SERVER_SHUTDOWN),
            Int32(ER_CONNECTION_KILLED):
            .lost
        case CR_CONNECTION_ERROR, CR_CONN_HOST_ERROR, CR_UNKNOWN_HOST, Int32(ER_CON_COUNT_ERROR),
            Int32(ER_TOO_MANY_USER_CONNECTIONS):
            .unreachable
        case Int32(ER_LOCK_DEADLOCK), Int32(ER_LOCK_WAIT_TIMEOUT), Int32(ER_CHECKREAD): .conflict
        case Int32(ER_DUP_ENTRY), Int32(ER_DATA_TOO_LONG), Int32(ER_BAD_NULL_ERROR),
            Int32(ER_TRUNCATED_WRONG_VALUE_FOR_FIELD), Int32(ER_WARN_DATA_OUT_OF_RANGE),
            Int32(ER_NET_PACKET_TOO_LARGE), Int32(ER_NO_PARTITION_FOR_GIVEN_VALUE):
            .rows
        case Int32(ER_ACCESS_DENIED_ERROR), Int32(ER_DBACCESS_DENIED_ERROR), Int32(ER_BAD_DB_ERROR),
            Int32(ER_TABLEACCESS_DENIED_ERROR), Int32(ER_SPECIFIC_ACCESS_DENIED_ERROR):
            .denied
        case Int32(ER_DISK_FULL), Int32(ER_RECORD_FILE_FULL): .full
        case Int32(ER_OPTION_PREVENTS_STATEMENT), Int32(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION): .readOnly
        default: .other
        }
    }

    /// The database is not one of ours, or was never used.
    var isAboutMissingTable: Bool { code == UInt32(ER_NO_SUCH_TABLE) }

    /// For the caller of a port: the same call may succeed later.
    var failure: Failure { Failure(.storeUnavailable, "the database says: \(message)") }

    /// For whoever starts the suite.
    func opening(_ address: MySQLAddress) -> StoreOpenError {
        switch kind {
        case .refused: StoreOpenError(.newerVersion, "\(address): \(message)")
        case .denied: StoreOpenError(.other, "\(address) does not let us in (\(message)); correct user and rights")
        case .full: StoreOpenError(.full, "the disk of \(address) is full; free some space and start again")
        case .readOnly: StoreOpenError(.readOnly, "\(address) takes no writes (\(message)); name the primary")
        case .unreachable, .lost: StoreOpenError(.unreachable, "\(address) cannot be reached: \(message)")
        default: StoreOpenError(.other, "cannot use \(address): \(message)")
        }
    }

    public var description: String { "\(kind) \(code): \(message)" }
}
