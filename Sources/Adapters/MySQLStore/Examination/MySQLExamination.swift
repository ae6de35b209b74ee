import Ports
import RPC

/// What a database says of itself, and what it lets us do.
struct MySQLFacts: Equatable, Sendable {
    var version = ""
    var maxPacket: UInt64 = 0
    /// innodb_flush_log_at_trx_commit.
    var flush: UInt64 = 1
    var maxConnections: UInt64 = 0
    var binlogFormat = ""
    var hasBinlog = false
    var isReadOnly = false
    var aheadMS: Int64 = 0
    var latencyMicros: [UInt64] = []
    /// The first thing that could not be done, and why; nil: everything could.
    var denied: (step: String, why: String)?

    static func == (one: MySQLFacts, other: MySQLFacts) -> Bool { "\(one)" == "\(other)" }

    /// Connections that one process may open.
    static let connections: UInt64 = 8 * 14
    private static let packet: UInt64 = 16 << 20

    /// Pure.
    func findings(_ subject: String) -> [Finding] {
        var all = [versionFinding(subject), packetFinding(subject), flushFinding(subject)]
        if maxConnections < Self.connections {
            all.append(
                Finding(
                    .warning, "\(subject): max_connections", "\(maxConnections)",
                    cure: "Set it to \(Self.connections) or more: eight for each of fourteen processes"))
        }
        if hasBinlog, binlogFormat == "STATEMENT" {
            all.append(
                Finding(
                    .error, "\(subject): binlog_format", "STATEMENT, which refuses our READ COMMITTED writes",
                    cure: "Set binlog_format to ROW or MIXED"))
        }
        if isReadOnly {
            all.append(
                Finding(
                    .error, "\(subject): read_only", "it takes no writes", cure: "Name the primary, or switch it off"))
        }
        if let denied {
            all.append(
                Finding(
                    .error, "\(subject): rights", "\(denied.step) is refused: \(denied.why)",
                    cure: "GRANT ALL ON the database to the user"))
        } else {
            all.append(Finding(.ok, "\(subject): rights", "tables can be made, changed, written, read and dropped"))
        }
        all.append(Findings.clock(subject, aheadMS: aheadMS))
        if let latency = Findings.latency(subject, latencyMicros) { all.append(latency) }
        return all
    }

    private func versionFinding(_ subject: String) -> Finding {
        let numbers = version.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        let isMariaDB = version.contains("MariaDB")
        let (major, minor) = (numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
        let isKnown = isMariaDB ? (major, minor) >= (10, 6) : major >= 8
        if isKnown { return Finding(.ok, "\(subject): version", version) }
        return Finding(.error, "\(subject): version", version, cure: "Use MariaDB 10.6 or MySQL 8, or later")
    }

    private func packetFinding(_ subject: String) -> Finding {
        let subject = "\(subject): max_allowed_packet"
        if maxPacket >= Self.packet { return Finding(.ok, subject, "\(maxPacket)") }
        return Finding(
            .error, subject, "\(maxPacket): a batch of messages would not fit", cure: "Set it to \(Self.packet) or more"
        )
    }

    private func flushFinding(_ subject: String) -> Finding {
        let subject = "\(subject): innodb_flush_log_at_trx_commit"
        if flush == 1 { return Finding(.ok, subject, "1") }
        return Finding(
            .warning, subject, "\(flush): a power cut loses the last second of what was acknowledged",
            cure: "Set it to 1")
    }
}

/// Looks at a database before it is used. Blocks, for a few seconds at most when nobody answers.
public enum MySQLExamination {
    private static let rounds = 5

    /// - Parameters:
    ///   - subject: what it is for, in front of every finding.
    ///   - wallMS: this machine's clock, Unix milliseconds.
    public static func examine(
        _ address: MySQLAddress, _ config: MySQLConfig, subject: String, wallMS: () -> UInt64
    ) -> [Finding] {
        let connection: MySQLConnection
        do throws(MySQLError) { connection = try MySQLConnection(address, config) } catch {
            let isAway = error.kind == .unreachable
            return [
                Finding(
                    .error, "\(subject): \(isAway ? "reachable" : "login")", error.message,
                    cure: isAway
                        ? "Start it, or correct host and port"
                        : "Make the database and the user, and correct the password's file")
            ]
        }
        do throws(MySQLError) {
            var facts = try settings(connection)
            try time(connection, &facts, wallMS)
            facts.denied = rights(connection)
            return [Finding(.ok, "\(subject): reachable", "it lets us in")] + facts.findings(subject)
                + (try certificate(connection, subject, wallMS))
        } catch {
            return [Finding(.error, "\(subject): reachable", error.message, cure: "Look at the server's log")]
        }
    }

    private static func settings(_ connection: MySQLConnection) throws(MySQLError) -> MySQLFacts {
        var facts = MySQLFacts()
        try connection.query("SELECT version()") { facts.version = $0.text(0) }
        func value(_ name: String) -> String? {
            var found: String?
            // What a server does not have, it need not have.
            try? connection.query("SELECT CAST(@@global.\(name) AS CHAR)") { found = $0.text(0) }
            return found
        }
        facts.maxPacket = value("max_allowed_packet").flatMap(UInt64.init) ?? 0
        facts.flush = value("innodb_flush_log_at_trx_commit").flatMap(UInt64.init) ?? 1
        facts.maxConnections = value("max_connections").flatMap(UInt64.init) ?? .max
        facts.binlogFormat = value("binlog_format") ?? ""
        // Some servers count, some speak.
        let on = ["1", "ON"]
        facts.hasBinlog = value("log_bin").map(on.contains) ?? false
        facts.isReadOnly = value("read_only").map(on.contains) ?? false
        return facts
    }

    private static func time(
        _ connection: MySQLConnection, _ facts: inout MySQLFacts, _ wallMS: () -> UInt64
    ) throws(MySQLError) {
        for _ in 0..<rounds {
            let began = SystemClock.now().micros
            let before = wallMS()
            let there = try connection.number("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)") ?? 0
            facts.aheadMS = Int64(there) - Int64((before + wallMS()) / 2)
            facts.latencyMicros.append(SystemClock.now().micros - began)
        }
    }

    private static func rights(_ connection: MySQLConnection) -> (step: String, why: String)? {
        let table = "martlet_doctor_\(UInt64.random(in: 0 ... .max))"
        let steps = [
            ("CREATE TABLE", "CREATE TABLE \(table)(a INT NOT NULL PRIMARY KEY) ENGINE=InnoDB"),
            ("INSERT", "INSERT INTO \(table) VALUES(1)"), ("SELECT", "SELECT a FROM \(table)"),
            ("UPDATE", "UPDATE \(table) SET a = 2"), ("DELETE", "DELETE FROM \(table)"),
            ("ALTER TABLE", "ALTER TABLE \(table) ADD COLUMN b INT"),
            ("CREATE INDEX", "ALTER TABLE \(table) ADD INDEX by_b(b)"), ("DROP TABLE", "DROP TABLE \(table)"),
        ]
        for (step, sql) in steps {
            do throws(MySQLError) { try connection.run(sql) } catch {
                if step != "DROP TABLE" { try? connection.run("DROP TABLE IF EXISTS \(table)") }
                return (step, error.message)
            }
        }
        return nil
    }

    private static func certificate(
        _ connection: MySQLConnection, _ subject: String, _ wallMS: () -> UInt64
    ) throws(MySQLError) -> [Finding] {
        var text = ""
        try connection.query("SHOW STATUS LIKE 'Ssl_server_not_after'") { text = $0.text(1) }
        guard let ends = CertificateTime.seconds(text) else { return [] }
        return [Findings.certificate(subject, secondsLeft: ends - Int64(wallMS() / 1000))]
    }
}

/// Times as OpenSSL prints them, "Nov 21 12:00:00 2027 GMT". Pure.
enum CertificateTime {
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// Unix seconds; nil: that is no such time.
    static func seconds(_ text: String) -> Int64? {
        let parts = text.split(separator: " ")
        guard parts.count == 5, parts[4] == "GMT", let month = months.firstIndex(of: String(parts[0])),
            let day = Int64(parts[1]), let year = Int64(parts[3])
        else { return nil }
        let clock = parts[2].split(separator: ":").compactMap { Int64($0) }
        guard clock.count == 3 else { return nil }
        // Days since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
        let early: Int64 = month < 2 ? 1 : 0
        let shifted = Int64(month < 2 ? month + 10 : month - 2)
        let era = (year - early) / 400
        let yearOfEra = year - early - era * 400
        let dayOfYear = (153 * shifted + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        return days * 86_400 + clock[0] * 3600 + clock[1] * 60 + clock[2]
    }
}
