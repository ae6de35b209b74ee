import Foundation
@testable import MySQLStore
import Ports
import Testing

/// Connections that nobody can listen to, and servers that are who they say.
@Suite(.serialized) struct TLSServerTests {
    private func certificate(_ folder: String, _ name: String) throws -> String {
        _ = try MariaDB.run(
            "openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "\(folder)/\(name).key",
                "-out",
                "\(folder)/\(name).pem",
            ])
        return "\(folder)/\(name).pem"
    }

    @Test func onlyTheRightServerIsSpokenTo() throws {
        let folder = NSTemporaryDirectory() + "martlet-mysql-tls-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let ours = try certificate(folder, "server")
        let strange = try certificate(folder, "strange")
        let server = try MariaDB([
            "--ssl-cert=\(ours)", "--ssl-key=\(folder)/server.key", "--require-secure-transport=ON",
        ])
        var config = try server.fresh()
        func open(_ host: String, _ tls: MySQLTLS?) throws {
            config.addresses[0].host = host
            config.tls = tls
            try MySQLRecentStore(config.addresses[0], config).open()
        }
        try open("localhost", MySQLTLS(authorities: ours))
        var cipher = ""
        try MySQLConnection(config.addresses[0], config).query("SHOW STATUS LIKE 'Ssl_cipher'") { cipher = $0.text(1) }
        #expect(!cipher.isEmpty)
        #expect(throws: StoreOpenError.self, "another authority") {
            try open("localhost", MySQLTLS(authorities: strange))
        }
        #expect(throws: StoreOpenError.self, "another name") { try open("127.0.0.1", MySQLTLS(authorities: ours)) }
        #expect(throws: StoreOpenError.self, "no TLS") { try open("127.0.0.1", nil) }
    }
}
