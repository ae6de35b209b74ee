internal import CMariaDB
import Foundation

/// One connection, ready for our statements. Every call blocks until the server has answered or a time-out has passed.
///
/// Isolation: one thread's.
final class MySQLConnection {
    private let handle: UnsafeMutablePointer<MYSQL>
    private var statements: [String: MySQLStatement] = [:]
    private var order: [String] = []
    private let limit: Int
    /// False once the connection is broken: it answers nothing any more.
    private(set) var isUsable = true
    private let kind: Kind

    /// Whose server it is: how it ends transactions that say nothing is each one's own affair.
    private enum Kind {
        case mariaDB
        case tiDB
        case other

        init(version: String) {
            self = version.contains("MariaDB") ? .mariaDB : version.contains("TiDB") ? .tiDB : .other
        }
    }

    /// mysql_server_init must have run before threads connect; once a process.
    private static let library: Bool = mysql_server_init(0, nil, nil) == 0

    init(_ address: MySQLAddress, _ config: MySQLConfig) throws(MySQLError) {
        guard Self.library, let made = mysql_init(nil) else { throw MySQLError(.other, "out of memory") }
        Self.set(config, on: made)
        let connected = mysql_real_connect(
            made, address.host, config.user, config.password, address.database, UInt32(address.port), nil, 0)
        guard let connected else {
            let error = MySQLError(code: mysql_errno(made), message: String(cString: mysql_error(made)))
            mysql_close(made)
            // Whatever broke here, nothing of ours was sent.
            throw error.kind == .denied ? error : MySQLError(.unreachable, code: error.code, error.message)
        }
        handle = connected
        limit = config.statements
        kind = Kind(version: String(cString: mysql_get_server_info(connected)))
        do throws(MySQLError) { try prepareSession(config) } catch {
            mysql_close(handle)
            throw error
        }
    }

    deinit {
        for statement in statements.values { statement.close() }
        mysql_close(handle)
    }

    private static func set(_ config: MySQLConfig, on handle: UnsafeMutablePointer<MYSQL>) {
        func set(_ option: mysql_option, _ value: UInt32) {
            withUnsafePointer(to: value) { _ = mysql_options(handle, option, $0) }
        }
        func set(_ option: mysql_option, _ value: String?) { if let value { mysql_options(handle, option, value) } }
        func set(_ option: mysql_option, _ value: Bool) {
            withUnsafePointer(to: my_bool(value ? 1 : 0)) { _ = mysql_options(handle, option, $0) }
        }
        // "localhost" would mean a socket file.
        set(MYSQL_OPT_PROTOCOL, MYSQL_PROTOCOL_TCP.rawValue)
        set(MYSQL_OPT_CONNECT_TIMEOUT, config.connectTimeoutS)
        set(MYSQL_OPT_READ_TIMEOUT, config.readTimeoutS)
        set(MYSQL_OPT_WRITE_TIMEOUT, config.writeTimeoutS)
        set(MYSQL_SET_CHARSET_NAME, "utf8mb4")
        guard let tls = config.tls else { return }
        set(MYSQL_OPT_SSL_ENFORCE, true)
        set(MYSQL_OPT_SSL_VERIFY_SERVER_CERT, true)
        set(MYSQL_OPT_SSL_CA, tls.authorities)
        set(MYSQL_OPT_SSL_CERT, tls.certificate)
        set(MYSQL_OPT_SSL_KEY, tls.key)
    }

    /// Values that do not fit are errors, never cut; nobody waits for ever; what others commit is seen by the next
    /// statement.
    private func prepareSession(_ config: MySQLConfig) throws(MySQLError) {
        try run("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'")
        try run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        try run("SET SESSION innodb_lock_wait_timeout = \(config.lockWaitS), lock_wait_timeout = \(config.lockWaitS)")
        try run("SET SESSION wait_timeout = \(config.idleS), time_zone = '+00:00'")
        switch kind {
        case .mariaDB: try run("SET SESSION idle_write_transaction_timeout = \(config.idleTransactionS)")
        case .tiDB: try run("SET SESSION tidb_idle_transaction_timeout = \(config.idleTransactionS)")
        case .other: break
        }
    }

    /// Runs a statement as text; for what has no parameters and answers no rows.
    func run(_ sql: String) throws(MySQLError) {
        if mysql_real_query(handle, sql, UInt(sql.utf8.count)) != 0 {
            throw broken(MySQLError(code: mysql_errno(handle), message: String(cString: mysql_error(handle))))
        }
        guard let result = mysql_store_result(handle) else { return }
        mysql_free_result(result)
    }

    /// Runs a prepared statement that answers no rows; how many it changed.
    @discardableResult
    func execute(_ sql: String, _ values: MySQLValues = MySQLValues()) throws(MySQLError) -> Int {
        let statement = try prepared(sql)
        do throws(MySQLError) { return try statement.execute(values) } catch { throw broken(error) }
    }

    /// Runs a prepared query and looks at each row. The row is gone when `each` returns.
    func query(
        _ sql: String, _ values: MySQLValues = MySQLValues(), _ each: (borrowing MySQLRow) -> Void
    ) throws(MySQLError) {
        let statement = try prepared(sql)
        do throws(MySQLError) { try statement.query(values, each) } catch { throw broken(error) }
    }

    /// The first column of the first row; nil without one.
    func number(_ sql: String, _ values: MySQLValues = MySQLValues()) throws(MySQLError) -> UInt64? {
        var found: UInt64?
        try query(sql, values) { row in if found == nil, !row.isNull(0) { found = row.uint(0) } }
        return found
    }

    private func prepared(_ sql: String) throws(MySQLError) -> MySQLStatement {
        guard isUsable else { throw MySQLError(.lost, "the connection is broken") }
        if let known = statements[sql] { return known }
        if order.count >= limit { statements.removeValue(forKey: order.removeFirst())?.close() }
        do throws(MySQLError) {
            let statement = try MySQLStatement(handle, sql)
            statements[sql] = statement
            order.append(sql)
            return statement
        } catch { throw broken(error) }
    }

    private func broken(_ error: MySQLError) -> MySQLError {
        if error.kind == .lost || error.kind == .unreachable { isUsable = false }
        return error
    }
}
