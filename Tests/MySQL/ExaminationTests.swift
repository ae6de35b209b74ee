import Ports
import Testing

@testable import MySQLStore

/// What is said about a database's settings.
@Suite struct ExaminationTests {
    private func level(_ subject: String, _ change: (inout MySQLFacts) -> Void) -> Finding.Level? {
        var facts = MySQLFacts()
        facts.version = "10.11.6-MariaDB-0+deb12u1"
        facts.maxPacket = 16 << 20
        facts.maxConnections = 151
        facts.latencyMicros = [200]
        change(&facts)
        return facts.findings("db").first { $0.subject == "db: \(subject)" }?.level
    }

    @Test func settings() {
        var good = MySQLFacts()
        good.version = "8.0.36"
        good.maxPacket = 64 << 20
        good.maxConnections = 151
        #expect(good.findings("db").allSatisfy { $0.level == .ok })
        for (version, wanted) in [
            ("10.5.9-MariaDB", Finding.Level.error), ("10.6.0-MariaDB", .ok), ("11.4.2-MariaDB", .ok),
            ("5.7.44", .error),
            ("8.0.11-TiDB-v7.5.0", .ok), ("", .error),
        ] {
            #expect(level("version") { $0.version = version } == wanted, "\(version)")
        }
        #expect(level("max_allowed_packet") { $0.maxPacket -= 1 } == .error)
        #expect(level("innodb_flush_log_at_trx_commit") { $0.flush = 2 } == .warning)
        #expect(level("max_connections") { $0.maxConnections = 100 } == .warning)
        #expect(level("binlog_format") { $0.binlogFormat = "STATEMENT" } == nil)
        #expect(level("read_only") { $0.isReadOnly = true } == .error)
        #expect(level("rights") { $0.denied = ("INSERT", "no") } == .error)
        #expect(level("clock") { $0.aheadMS = 5000 } == .warning)
        let both: (inout MySQLFacts) -> Void = {
            $0.binlogFormat = "STATEMENT"
            $0.hasBinlog = true
        }
        #expect(level("binlog_format", both) == .error)
    }

    @Test func timesOfCertificates() {
        #expect(CertificateTime.seconds("Jan  1 00:00:00 1970 GMT") == 0)
        #expect(CertificateTime.seconds("Feb 29 12:34:56 2028 GMT") == 1_835_440_496)
        #expect(CertificateTime.seconds("Dec 31 23:59:59 2026 GMT") == 1_798_761_599)
        for text in ["", "Foo 1 00:00:00 1970 GMT", "Jan 1 1970 GMT", "Jan 1 00:00 1970 GMT"] {
            #expect(CertificateTime.seconds(text) == nil)
        }
    }
}
