import Foundation
import RedisStore
import TestKit
import Testing
import Wire

/// What a user and a message cost in Redis: the README's figures.
@Suite(.serialized) struct CostServerTests {
    private func used(_ server: RedisServer) throws -> Int {
        let line = try server.cli("INFO", "memory").split(whereSeparator: \.isNewline)
            .first { $0.hasPrefix("used_memory:") }
        return try #require(line.flatMap { Int($0.dropFirst("used_memory:".count)) })
    }

    @Test func bytesPerOnlineUser() throws {
        let server = try RedisServer()
        let store = try DrivenPresence(try TestClient(RedisConfig(server.address)), prefix: "m:")
        store.begin(micros: 0, wallMS: 1_760_000_000_000)
        var lease = LeaseRequest()
        lease.loginID = "login-1"
        _ = store.lease(lease, micros: 0)
        let before = try used(server)
        let count = 10_000
        for start in stride(from: 0, to: count, by: 500) {
            let items = (start..<(start + 500)).map { number in
                var item = PresenceStoreContract.registration(
                    "user-\(number)", "login-1-\(number)-0123456789abcdef", welcomed: 1_760_000_000_000_000)
                item.deviceID = "device-\(number)"
                return item
            }
            #expect(store.register(items, micros: 0).allSatisfy { !$0.hasFailure })
        }
        let bytes = (try used(server) - before) / count
        let key = try #require(
            try server.cli("--scan", "--pattern", "m:p{*}u:demo:user-1*").split(separator: "\n").first)
        let record = try server.cli("MEMORY", "USAGE", String(key)).trimmingCharacters(in: .whitespacesAndNewlines)
        FileHandle.standardError.write(
            Data("summary: \(bytes) bytes an online user, \(record) of them its record\n".utf8))
        #expect(bytes > 100 && bytes < 400)
    }

    @Test(arguments: [(1, 460), (10, 210), (200, 165)]) func bytesPerMessage(rows: Int, most: Int) throws {
        let server = try RedisServer()
        let store = DrivenHot(try TestClient(RedisConfig(server.address)), prefix: "m:")
        let before = try used(server)
        let conversations = 4_000 / rows
        for number in 0..<conversations {
            store.put(
                (1...UInt64(rows)).map { seq in
                    var row = RecentStoreContract.row(
                        "p:user-\(number)|user-\(number + 1)", seq, from: "user-\(number)")
                    row.message = Data((0..<100).map { _ in UInt8.random(in: 0...255) })
                    return row
                })
        }
        let bytes = (try used(server) - before) / (conversations * rows)
        FileHandle.standardError.write(
            Data("summary: \(bytes) bytes a message of 100 bytes, \(rows) in a conversation\n".utf8))
        #expect(bytes > 100 && bytes < most)
    }
}
