import Testing

@testable import RedisStore

/// hiredis behind its door, and what replies mean.
@Suite struct ReplyTests {
    private func wire(_ arguments: RedisArguments) -> String? {
        Hiredis.format(arguments) { String(decoding: $0, as: UTF8.self) }
    }

    @Test func commandsAreWritten() {
        #expect(wire(RedisArguments("GET", "a b")) == "*2\r\n$3\r\nGET\r\n$3\r\na b\r\n")
        #expect(wire(RedisArguments("SET", "", "\u{0}é")) == "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\n\u{0}é\r\n")
    }

    @Test func scriptsHaveTheirKeyAndTheServersRun() {
        let script = RedisScript("s", "return 1")
        let command = RedisCommand(.script(script, withRun: true), slot: 0, RedisArguments("key", "a"))
        #expect(command.wire(.short, run: "r1") == RedisArguments("EVALSHA", script.sha, "1", "key", "r1", "a"))
        #expect(command.wire(.whole, run: "r1") == RedisArguments("EVAL", "return 1", "1", "key", "r1", "a"))
        let plain = RedisCommand(.plain, slot: 0, RedisArguments("GET", "a"))
        #expect(plain.wire(.short, run: "r1") == RedisArguments("GET", "a"))
        // As `SCRIPT LOAD "return 1"` of a server names it.
        #expect(script.sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db")
    }

    private static let stream = "+OK\r\n:-5\r\n$3\r\na\u{0}b\r\n$-1\r\n*3\r\n$1\r\nx\r\n*1\r\n:7\r\n*0\r\n-ERR no\r\n"
    private static let replies: [RedisReply] = [
        .status("OK"), .integer(-5), .bytes([97, 0, 98]), .null,
        .array([.bytes([120]), .array([.integer(7)]), .array([])]), .error("ERR no"),
    ]

    /// However the bytes are cut, the replies are the same.
    @Test func repliesComeInParts() throws {
        let bytes = Array(Self.stream.utf8)
        for step in 1...bytes.count {
            let parser = try #require(ReplyParser())
            var found: [RedisReply] = []
            var start = 0
            while start < bytes.count {
                let part = bytes[start..<min(bytes.count, start + step)]
                found += try part.withUnsafeBytes { try parser.feed($0) }
                start += step
            }
            #expect(found == Self.replies)
        }
    }

    @Test func whatIsNoRedisIsAnError() throws {
        let parser = try #require(ReplyParser())
        #expect(throws: RedisProtocolError.self) {
            _ = try Array("HTTP/1.1 400 Bad Request\r\n".utf8).withUnsafeBytes { try parser.feed($0) }
        }
    }

    @Test func errorsAreUnderstood() {
        let here = RedisAddress(host: "10.0.0.1", port: 7000)
        func read(_ text: String) -> ErrorReply { ErrorReply(text, from: here) }
        #expect(read("MOVED 3999 127.0.0.1:6381") == .moved(slot: 3999, RedisAddress(host: "127.0.0.1", port: 6381)))
        #expect(read("MOVED 1 ::1:6381") == .moved(slot: 1, RedisAddress(host: "::1", port: 6381)))
        #expect(read("ASK 3999 :6381") == .ask(slot: 3999, RedisAddress(host: "10.0.0.1", port: 6381)))
        #expect(read("MOVED 99999 127.0.0.1:6381") == .broken("MOVED 99999 127.0.0.1:6381"))
        #expect(read("TRYAGAIN Multiple keys") == .later("TRYAGAIN Multiple keys"))
        #expect(read("CLUSTERDOWN Hash slot not served") == .later("CLUSTERDOWN Hash slot not served"))
        #expect(read("NOSCRIPT No matching script.") == .noScript)
        #expect(read("READONLY You can't write against a read only replica.") == .notMaster)
        #expect(read("ERR unknown") == .broken("ERR unknown"))
        for text in ["OOM command not allowed when used memory > 'maxmemory'.", "LOADING", "NOAUTH", "BUSY"] {
            guard case .refused(let failure) = read(text) else {
                Issue.record("\(text) is not refused")
                continue
            }
            #expect(failure.isCode(.storeUnavailable))
        }
    }

    @Test func tablesAreRead() {
        let here = RedisAddress(host: "10.0.0.1", port: 7000)
        func node(_ host: RedisReply, _ port: Int64) -> RedisReply { .array([host, .integer(port), .bytes([])]) }
        let reply = RedisReply.array([
            .array([.integer(0), .integer(99), node(.bytes(Array("a".utf8)), 1), node(.bytes(Array("b".utf8)), 2)]),
            .array([.integer(100), .integer(16383), node(.null, 3)]),
        ])
        #expect(
            ClusterTable.parse(reply, from: here) == [
                .init(slots: 0...99, address: RedisAddress(host: "a", port: 1)),
                .init(slots: 100...16383, address: RedisAddress(host: "10.0.0.1", port: 3)),
            ])
        #expect(ClusterTable.parse(.error("ERR This instance has cluster support disabled"), from: here) == nil)
        #expect(ClusterTable.parse(.array([.array([.integer(5), .integer(4), .array([])])]), from: here) == nil)
    }

    @Test func urlsSayWhereServersAre() throws {
        let one = try #require(RedisConfig(url: "redis://127.0.0.1:7000"))
        #expect(one.topology == .shards(RedisShard.even([.address(RedisAddress(host: "127.0.0.1", port: 7000))])))
        #expect(one.password == nil && one.tls == nil)
        let two = try #require(RedisConfig(url: "rediss://u%40:p%3a%2F@a,[::1]:7001"))
        guard case .shards(let shards) = two.topology else { throw RedisProtocolError(message: "no shards") }
        #expect(shards.map(\.slots) == [0...8191, 8192...16383])
        #expect(shards[1].place == .address(RedisAddress(host: "::1", port: 7001)))
        #expect(two.username == "u@" && two.password == "p:/" && two.tls == RedisTLS())
        #expect(
            RedisConfig(url: "redis+cluster://a:1,b:2")?.topology
                == .cluster(seeds: [RedisAddress(host: "a", port: 1), RedisAddress(host: "b", port: 2)]))
        let sentinels = [RedisAddress(host: "a", port: 26379), RedisAddress(host: "b", port: 5)]
        #expect(
            RedisConfig(url: "redis+sentinel://:pw@a,b:5/one,two")?.topology
                == .shards(
                    RedisShard.even([
                        .sentinel(master: "one", sentinels: sentinels), .sentinel(master: "two", sentinels: sentinels),
                    ])))
        let named = try #require(RedisConfig(url: "redis://martlet@a"))
        #expect(named.username == "martlet" && named.password == nil, "the password is in a file")
        for bad in [
            "http://a", "redis://%zz@a", "redis://", "redis://a:0", "redis://a/0", "redis+x://a", "redis+sentinel://a",
            "a:1",
        ] {
            #expect(RedisConfig(url: bad) == nil, "\(bad)")
        }
    }
}
