import Foundation
import MySQLStore
import Ports
import RPC
import TestKit
import Testing
import Wire

/// What a row costs, beside the same rows as multi-row INSERTs by the mariadb client, in one run. Prints; only what the
/// server's CPU does is judged, as this program is not optimized in tests.
@Suite(.serialized) struct CostServerTests {
    private static let rows = 40_000
    private static let perCommit = 500
    private static let conversations = 1000

    private struct Cost {
        var seconds = 0.0
        var server = 0.0
        var own = 0.0
    }

    private func measure(_ server: MariaDB, _ work: () throws -> Void) rethrows -> Cost {
        func own() -> Double {
            var usage = rusage()
            getrusage(__rusage_who_t(truncatingIfNeeded: RUSAGE_SELF.rawValue), &usage)
            var children = rusage()
            getrusage(__rusage_who_t(truncatingIfNeeded: RUSAGE_CHILDREN.rawValue), &children)
            return [usage.ru_utime, usage.ru_stime, children.ru_utime, children.ru_stime].reduce(0) {
                $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6
            }
        }
        let (began, cpu, mine) = (SystemClock.now().micros, server.cpuSeconds(), own())
        try work()
        return Cost(
            seconds: Double(SystemClock.now().micros - began) / 1e6, server: server.cpuSeconds() - cpu,
            own: own() - mine)
    }

    private func message(_ place: Int) -> StoredRow {
        let conversation = place % Self.conversations
        var row = RecentStoreContract.row("g:\(conversation)", UInt64(place / Self.conversations + 1))
        row.message = Data(repeating: UInt8(truncatingIfNeeded: place), count: 130)
        row.dedupKey = withUnsafeBytes(of: UInt64(place).bigEndian) { Data($0) + Data(count: 24) }
        return row
    }

    private func through(_ config: MySQLConfig) throws {
        let store = MySQLRecentStore(config.addresses[0], config)
        let claim = RecentStoreContract.claim(store, 1)
        var stored: UInt64 = 0
        for first in stride(from: 0, to: Self.rows, by: Self.perCommit) {
            let next = stored + UInt64(Self.perCommit)
            let rows = (first..<first + Self.perCommit).map(message)
            let states = store.commit([RecentStoreContract.commit(1, claim.epoch, stored, next, rows)]).map(\.state)
            #expect(states == [.commitDone])
            stored = next
        }
    }

    /// The same rows and commits as text, 100 rows a statement.
    private func script(withDedup: Bool) -> String {
        var text = ""
        for first in stride(from: 0, to: Self.rows, by: Self.perCommit) {
            text += "BEGIN;\n"
            for begin in stride(from: first, to: first + Self.perCommit, by: 100) {
                let rows = (begin..<begin + 100).map { ($0, message($0)) }
                text += "INSERT INTO messages(conv, seq, month, n, time, sender, flags, target, body) VALUES "
                text += rows.map { place, row in
                    "(\(place % Self.conversations),\(row.seq),24309,\(row.n),\(row.timeMs),'alice',0,0,'"
                        + String(repeating: "x", count: 130) + "')"
                }.joined(separator: ",")
                text += ";\n"
                guard withDedup else { continue }
                text += "INSERT INTO dedup(bucket, dkey, conv, seq, time, changed) VALUES "
                text += rows.map { place, row in
                    let key = row.dedupKey.map { String(format: "%02x", $0) }.joined()
                    return "(1,x'\(key)',\(place % Self.conversations),\(row.seq),\(row.timeMs),1)"
                }.joined(separator: ",")
                text += ";\n"
            }
            text += "COMMIT;\n"
        }
        return text
    }

    @Test func besideTheClient() throws {
        let server = try MariaDB(["--skip-log-bin"])
        var lines: [String] = []
        func say(_ name: String, _ cost: Cost) {
            let scale = 1e6 / Double(Self.rows)
            lines.append(
                String(
                    format: "%-34@ %7.0f rows/s, CPU s per million rows: server %5.1f, this side %5.1f",
                    name as NSString,
                    Double(Self.rows) / cost.seconds, cost.server * scale, cost.own * scale))
        }
        var ratios: [Double] = []
        for _ in 0..<2 {
            var costs: [Cost] = []
            for withDedup in [false, true] {
                let config = try server.fresh()
                try MySQLRecentStore(config.addresses[0], config).open()
                let file = "\(server.folder)/script.sql"
                try Data(script(withDedup: withDedup).utf8).write(to: URL(fileURLWithPath: file))
                let cost = try measure(server) {
                    let said = try server.sql("source \(file)", database: config.addresses[0].database)
                    #expect(said == "")
                }
                say(withDedup ? "client, messages and dedup" : "client, messages only", cost)
                costs.append(cost)
            }
            let config = try server.fresh()
            try MySQLRecentStore(config.addresses[0], config).open()
            let cost = try measure(server) { try through(config) }
            say("adapter, all of it, \(Self.perCommit) a commit", cost)
            ratios.append(cost.server / costs[1].server)
        }
        let ratio = ratios.min() ?? 0
        lines.append(String(format: "the server's CPU: %.2f times that of the client's same rows", ratio))
        FileHandle.standardError.write(Data((lines.joined(separator: "\n") + "\n").utf8))
        #expect(ratio < 2)
    }
}
