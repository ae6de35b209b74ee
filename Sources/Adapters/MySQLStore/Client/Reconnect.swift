import Machinery

/// When a lost connection may be tried again. Times in microseconds of a monotonic clock.
struct Reconnect: Sendable {
    private var backoff: Backoff
    private var random: SeededRandom
    private var notBefore: UInt64 = 0
    /// Why the last attempt failed.
    private(set) var last = MySQLError(.unreachable, "never tried")

    init(firstMS: UInt64, mostMS: UInt64, seed: UInt64) {
        backoff = Backoff(firstMS: firstMS, mostMS: mostMS)
        random = SeededRandom(seed: seed)
    }

    func mayTry(_ now: UInt64) -> Bool { now >= notBefore }

    mutating func failed(_ error: MySQLError, _ now: UInt64) {
        last = error
        notBefore = now + backoff.nextMS(using: &random) * 1000
    }

    mutating func succeeded() {
        backoff.reset()
        notBefore = 0
    }
}

/// How a transaction ended.
enum TransactionEnd<Value> {
    case committed(Value)
    /// Certainly nothing of it is there.
    case undone(MySQLError)
    /// COMMIT was sent and its answer never came.
    case unknown(Value, MySQLError)
}

/// Whether a transaction that failed is worth another attempt at once.
struct TransactionRetry {
    let attempts: Int
    private var made = 0

    init(attempts: Int) { self.attempts = max(1, attempts) }

    /// - Parameter wasFresh: the connection was made for this attempt. One that was open before may have been closed by
    ///   the server long ago.
    mutating func again(after error: MySQLError, wasFresh: Bool) -> Bool {
        made += 1
        guard made < attempts else { return false }
        switch error.kind {
        // A row that somebody held for as long as we may wait is not free a moment later.
        case .conflict: return error.code != Self.lockWait
        case .lost: return !wasFresh
        default: return false
        }
    }

    private static let lockWait: UInt32 = 1205
}
