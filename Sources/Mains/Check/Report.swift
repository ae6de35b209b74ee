import Foundation

/// The result as others read it: one JSON object, and a few sentences.
struct Report: Encodable, Equatable {
    struct Times: Encodable, Equatable {
        var p50: Double
        var p75: Double
        var p99: Double
        var p999: Double

        init(_ quantiles: Quantiles) {
            let values = quantiles.milliseconds([0.5, 0.75, 0.99, 0.999])
            (p50, p75, p99, p999) = (values[0], values[1], values[2], values[3])
        }
    }

    var acked: Int
    var refused: Int
    var refusals: [String: Int]
    var delivered: Int
    var redelivered: Int
    var lost: Int
    var duplicated: Int
    var outOfOrder: Int
    var unreadMismatches: Int
    var phantom: Int
    var unresolved: Int
    var unaudited: Int
    var disconnected: Int
    var latency: Times
    var ack: Times
    var reconnects: Int
    var stalls: Int
    var kills: Int
    var failedKills: Int
    var seed: UInt64
    var findings: [String]

    enum CodingKeys: String, CodingKey {
        case acked, refused, refusals, delivered, redelivered, lost, duplicated, phantom, unresolved, unaudited
        case disconnected
        case reconnects, stalls, kills, seed, findings
        case outOfOrder = "out_of_order"
        case unreadMismatches = "unread_mismatches"
        case latency = "latency_ms"
        case ack = "ack_ms"
        case failedKills = "failed_kills"
    }

    init(_ outcome: CheckRun.Outcome, seed: UInt64) {
        let (verdict, history) = (outcome.verdict, outcome.history)
        acked = history.acked
        refused = history.refused
        refusals = history.refusals
        delivered = history.delivered
        redelivered = history.redelivered
        lost = verdict.lost
        duplicated = verdict.duplicated
        outOfOrder = verdict.outOfOrder
        unreadMismatches = verdict.unreadMismatches
        phantom = verdict.phantom
        unresolved = verdict.unresolved
        unaudited = verdict.unaudited
        disconnected = verdict.disconnected
        latency = Times(history.latency)
        ack = Times(history.ackLatency)
        reconnects = outcome.reconnects
        stalls = outcome.stalls
        kills = outcome.kills
        failedKills = outcome.failedKills.count
        self.seed = seed
        findings = verdict.findings + outcome.failedKills.prefix(5)
    }

    /// A run in which nothing was accepted has shown nothing, so it is not clean either.
    var isClean: Bool {
        lost + duplicated + outOfOrder + unreadMismatches + phantom + unresolved + unaudited + disconnected
            + failedKills == 0 && acked > 0
    }

    var json: Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)) ?? Data("{}".utf8)
    }

    var words: String {
        var lines = [
            "\(acked) messages accepted, received \(delivered) times by other devices "
                + "(\(redelivered) repeats on the wire).",
            "Send to receipt: median \(latency.p50) ms, p99 \(latency.p99) ms; to the ack: median \(ack.p50) ms, "
                + "p99 \(ack.p99) ms.",
            "\(reconnects) reconnects, \(kills) kills, \(refused) sends refused for good; seed \(seed).",
        ]
        for (reason, count) in refusals.sorted(by: { $0.key < $1.key }) {
            lines.append("Refused: \(count) with \(reason.isEmpty ? "no reason" : reason).")
        }
        if isClean {
            lines.append("Nothing was lost, doubled, reordered or miscounted.")
            return lines.joined(separator: "\n") + "\n"
        }
        let wrong: [(Int, String)] = [
            (lost, "lost"), (duplicated, "duplicated"), (outOfOrder, "out of order"),
            (unreadMismatches, "unread or count mismatches"), (phantom, "stored but never sent, or refused"),
            (unresolved, "sends without an outcome"), (unaudited, "histories that could not be read back"),
            (disconnected, "devices that could not connect again"), (failedKills, "kills that could not be done"),
        ]
        let named = wrong.filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        lines.append("WRONG: " + (acked == 0 ? ["nothing was accepted"] : []).appending(named).joined(separator: ", "))
        return (lines + findings.map { "  " + $0 }).joined(separator: "\n") + "\n"
    }
}

extension [String] {
    fileprivate func appending(_ more: [String]) -> [String] { self + more }
}
