/// What `martlet bench chat` found; the property names, in snake case, are the JSON's.
struct ChatReport: BenchReport, Encodable {
    var bench = "chat"
    /// "martlet", "mqtt" or "xmpp".
    var `protocol`: String
    var pairs: Int
    var bytes: Int
    var depth: Int
    var seconds: Int
    /// Finished in the first phase's span.
    var messages: Int
    var messagesPerS: Double
    /// The second phase's schedule.
    var pacedPerS: Double
    /// Messages whose receipt is in `latencyMs`.
    var pacedMessages: Int
    /// Due until received by the other client, in the second phase.
    var latencyMs: Percentiles
    /// Due until the server acknowledged it, in the second phase: Martlet as stored, others as their protocol has it.
    var ackLatencyMs: Percentiles
    /// In the first phase; absent without --pid.
    var serverCpuSPerMillion: Double?
    var generatorCpuSPerMillion: Double
    /// Sends repeated because the server asked for it: no errors.
    var resent: Int
    var errors: Int
    var errorCounts: [String: Int]

    var words: String {
        let server = serverCpuSPerMillion.map { "\($0) CPU s per million in the server, " } ?? ""
        return """
            \(Int(messagesPerS)) messages/s acknowledged and received; \
            \(server)\(generatorCpuSPerMillion) in the generator
            at \(Int(pacedPerS))/s: received after \(latencyMs.p50) ms (p50), \(latencyMs.p99) (p99), \
            \(latencyMs.p999) (p99.9); acknowledged after \(ackLatencyMs.p50) ms (p50), \(ackLatencyMs.p99) (p99)
            errors: \(errors)\(errorCounts.isEmpty ? "" : " \(errorCounts)"); sent again: \(resent)
            """
    }
}
