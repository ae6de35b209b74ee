import Foundation
import RPC

/// A connection that is made when it is needed, renewed when it has been silent, and made again, with waits that grow,
/// when it is lost. While the database is away every call fails at once but for one attempt now and then.
///
/// Isolation: one thread's. Calls block.
final class MySQLSession {
    let address: MySQLAddress
    let config: MySQLConfig
    private let ready: (MySQLConnection) throws(MySQLError) -> Void
    private var connection: MySQLConnection?
    private var reconnect: Reconnect
    private var lastUse: UInt64 = 0
    private var isFresh = false

    /// - Parameter ready: looks at each new connection before it is used, for example whether the tables are there.
    init(
        _ address: MySQLAddress, _ config: MySQLConfig,
        ready: @escaping (MySQLConnection) throws(MySQLError) -> Void = { (_) throws(MySQLError) in }
    ) {
        self.address = address
        self.config = config
        self.ready = ready
        reconnect = Reconnect(
            firstMS: config.reconnectFirstMS, mostMS: config.reconnectMostMS, seed: .random(in: .min ... .max))
    }

    /// A usable connection.
    func connected() throws(MySQLError) -> MySQLConnection {
        let now = SystemClock.now().micros
        defer { lastUse = SystemClock.now().micros }
        if let connection, connection.isUsable, now - lastUse < UInt64(config.idleS) * 500_000 {
            isFresh = false
            return connection
        }
        connection = nil
        guard reconnect.mayTry(now) else { throw MySQLError(.unreachable, reconnect.last.message) }
        do throws(MySQLError) {
            let made = try MySQLConnection(address, config)
            try ready(made)
            reconnect.succeeded()
            connection = made
            isFresh = true
            return made
        } catch {
            reconnect.failed(error, SystemClock.now().micros)
            throw error.kind == .lost ? MySQLError(.unreachable, code: error.code, error.message) : error
        }
    }

    func disconnect() { connection = nil }

    /// Something that changes nothing, or changes the same when it is done twice: done again on another connection when
    /// the first one turns out to be dead.
    func reading<T>(_ work: (MySQLConnection) throws(MySQLError) -> T) throws(MySQLError) -> T {
        var retry = TransactionRetry(attempts: config.attempts)
        while true {
            let connection = try connected()
            do throws(MySQLError) { return try work(connection) } catch {
                guard retry.again(after: error, wasFresh: isFresh) else { throw error }
            }
        }
    }

    /// All of it or nothing, or an honest "unknown". Deadlocks are tried again.
    func transaction<T>(_ work: (MySQLConnection) throws(MySQLError) -> T) -> TransactionEnd<T> {
        var retry = TransactionRetry(attempts: config.attempts)
        while true {
            var last: MySQLError
            do throws(MySQLError) {
                let connection = try connected()
                do throws(MySQLError) {
                    try connection.run("START TRANSACTION")
                    let value = try work(connection)
                    return commit(connection, value)
                } catch {
                    last = error
                    // A connection that cannot roll back is closed, which does.
                    do throws(MySQLError) { try connection.run("ROLLBACK") } catch { self.connection = nil }
                }
            } catch { return .undone(error) }
            guard retry.again(after: last, wasFresh: isFresh) else { return .undone(last) }
            if last.kind == .conflict { usleep(UInt32.random(in: 500...5000)) }
        }
    }

    private func commit<T>(_ connection: MySQLConnection, _ value: T) -> TransactionEnd<T> {
        do throws(MySQLError) {
            try connection.run("COMMIT")
            return .committed(value)
        } catch {
            // An error in the answer is not believed either: which half of a commit it comes from is not said.
            self.connection = nil
            return .unknown(value, error)
        }
    }
}
