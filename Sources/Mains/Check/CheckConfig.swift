/// The named limits of a check. Times are microseconds of the run's own clock, unless the name says otherwise.
struct CheckConfig: Sendable, Equatable {
    /// Sends of one conversation in flight at once on a connection: what the pipelining promise is tested with.
    var pipelined = 8
    /// Requests in flight on a connection, all kinds: Login allows 64; the rest is left for history, sync and state.
    var requestsInFlight = 48
    /// Items of one request, at most.
    var itemsPerRequest = 3
    /// Unresolved sends of one conversation on one device; the workload offers it no more beyond this.
    var outboxLimit = 32
    /// The wait before a resend on the same connection; it doubles up to the most until something is accepted, and a
    /// random part of up to a quarter comes on top (Protocols/README.md, section 8).
    var resendFirst: UInt64 = 300_000
    var resendMost: UInt64 = 5_000_000
    /// The wait before asking for a gap, and the random part on top: most gaps fill themselves.
    var gapPause: UInt64 = 300_000
    var gapJitter: UInt64 = 200_000
    /// The wait after a failed sync, history or state request, and the random part on top.
    var retryPause: UInt64 = 300_000
    var retryJitter: UInt64 = 500_000
    /// A request without an answer for so long closes the connection.
    var requestTimeout: UInt64 = 10_000_000
    var handshakeTimeout: UInt64 = 10_000_000
    /// Clients sync this often without being asked.
    var syncEvery: UInt64 = 600_000_000
    /// How often a machine looks at its timers; deadlines towards the server are kept this much earlier.
    var tick: UInt64 = 50_000
    var reconnectFirstMS: UInt64 = 300
    var reconnectMostMS: UInt64 = 5000
    /// Rows of a history page.
    var page: UInt32 = 200
    /// Mean time between the disconnects that the workload makes on one device.
    var disconnectEvery: UInt64 = 20_000_000
    /// Mean time between moves of a device's read cursors.
    var readEvery: UInt64 = 2_000_000
    /// Conversations that each user opens; the others' come on top.
    var partners = 2
    /// Every user must have logged in within this time.
    var connectLimit: UInt64 = 60_000_000
    /// Nobody at all logged in within this time: there is no server.
    var firstLoginLimit: UInt64 = 10_000_000
    /// Time for the last sends to find their outcome, for receipts to settle, for the audit.
    var drainLimit: UInt64 = 60_000_000
    var settleLimit: UInt64 = 20_000_000
    var auditLimit: UInt64 = 120_000_000
    /// Unread counts move a moment after the message; an audit that disagrees asks so often again, so far apart.
    var unreadRetries = 12
    var unreadRetryPause: UInt64 = 500_000
    /// A history that ends before what devices were shown is read again so often before it counts as it is.
    var behindRetries = 10
    /// Users audited at once.
    var auditors = 32
    /// A listed process that cannot be killed (it is being restarted) is tried again for so long.
    var killPatience: UInt64 = 10_000_000
}
