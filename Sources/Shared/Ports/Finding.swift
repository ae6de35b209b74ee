/// One thing that somebody looked at before a deployment is used, and what to do about it.
public struct Finding: Codable, Equatable, Sendable {
    public enum Level: String, Codable, Comparable, Sendable {
        case ok
        /// It works, and something is not as it should be.
        case warning
        /// It does not work, or what was promised would not hold.
        case error

        public static func < (one: Level, other: Level) -> Bool { one.rank < other.rank }

        private var rank: Int {
            switch self {
            case .ok: 0
            case .warning: 1
            case .error: 2
            }
        }
    }

    public var level: Level
    /// What was looked at, for example "presence 127.0.0.1:6379: version".
    public var subject: String
    public var found: String
    /// What to do; nil when nothing has to be done.
    public var cure: String?

    public init(_ level: Level, _ subject: String, _ found: String, cure: String? = nil) {
        self.level = level
        self.subject = subject
        self.found = found
        self.cure = cure
    }
}

/// What is said about things that every backend has. Pure.
public enum Findings {
    /// Half of the time for which an answer may be under way in most of the suite's calls.
    static let slowMicros: UInt64 = 100_000
    static let verySlowMicros: UInt64 = 1_000_000
    /// Clocks decide what is too old and when tokens end.
    static let skewMS: Int64 = 1000
    static let wrongMS: Int64 = 60_000

    public static func latency(_ subject: String, _ micros: [UInt64]) -> Finding? {
        guard !micros.isEmpty else { return nil }
        let median = micros.sorted()[micros.count / 2]
        let found = "\(median) us there and back, the median of \(micros.count)"
        let subject = "\(subject): latency"
        if median < slowMicros { return Finding(.ok, subject, found) }
        let cure = "Put it nearer, or look at what keeps it busy"
        return Finding(median < verySlowMicros ? .warning : .error, subject, found, cure: cure)
    }

    /// - Parameter aheadMS: how far the other clock is ahead of ours.
    public static func clock(_ subject: String, aheadMS: Int64) -> Finding {
        let found = "\(abs(aheadMS)) ms \(aheadMS < 0 ? "behind" : "ahead of") this machine's"
        let subject = "\(subject): clock"
        if abs(aheadMS) < skewMS { return Finding(.ok, subject, found) }
        return Finding(
            abs(aheadMS) < wrongMS ? .warning : .error, subject, found, cure: "Run chrony or ntpd on both machines")
    }

    /// - Parameter seconds: until the certificate ends.
    public static func certificate(_ subject: String, secondsLeft seconds: Int64) -> Finding {
        let subject = "\(subject): certificate"
        let days = seconds / 86_400
        if seconds <= 0 { return Finding(.error, subject, "it has expired", cure: "Renew it") }
        if days < 30 { return Finding(.warning, subject, "\(days) days are left", cure: "Renew it") }
        return Finding(.ok, subject, "\(days) days are left")
    }
}
