import Foundation
import RPC
import RedisStore
import TestKit
import Testing
import Wire

/// Who may come in, and to which servers: passwords, users with few rights, TLS, and settings that will not do.
@Suite(.serialized) struct AccessServerTests {
    /// The line of Docs/failures.md: all that Martlet's user needs.
    private static let rights = [
        "~m:*", "+role", "+info", "+script|load", "+eval", "+evalsha", "+ping", "+time", "+get", "+set", "+del",
        "+getrange", "+setrange", "+hget", "+hset", "+hmget", "+hdel", "+hgetall", "+zadd", "+zrem", "+zrangebyscore",
        "+rpush", "+lpop", "+lindex", "+llen", "+lrange", "+ltrim", "+pexpire",
    ]

    private func refusal(_ result: RedisResult) -> String {
        if case .refused(let failure) = result, failure.isCode(.storeUnavailable) { return failure.message }
        return "not refused: \(result)"
    }

    @Test func passwords() throws {
        let secret = UUID().uuidString
        let server = try RedisServer(["--requirepass", secret])
        var config = RedisConfig(server.address)
        let without = try TestClient(config)
        #expect(refusal(without.ask(["GET", "a"])).contains("NOAUTH"))
        guard case .unfit(_, let why) = without.contact() else {
            Issue.record("let in without a password")
            return
        }
        #expect(why.contains("it does not let us in: NOAUTH"))
        config.password = "not \(secret)"
        #expect(refusal(try TestClient(config).ask(["GET", "a"])).contains("WRONGPASS"))
        config.password = secret
        #expect(try TestClient(config).contact() == .ready)
        config.username = "default"
        #expect(try TestClient(config).ask(["GET", "a"]) == .reply(.null))
        let open = try RedisServer()
        config = RedisConfig(open.address)
        config.password = secret
        guard case .unfit = try TestClient(config).contact() else {
            Issue.record("a server without passwords took one")
            return
        }
    }

    /// On every connection, the first as those after restarts, the password comes before the scripts: nothing is
    /// refused for want of it, and no script has to be sent twice.
    @Test func passwordsComeFirstOnEveryConnection() throws {
        let secret = UUID().uuidString
        let server = try RedisServer(["--requirepass", secret])
        var config = RedisConfig(server.address)
        config.password = secret
        let presence = try PresenceLife(config)
        for life in 1...3 {
            #expect(waits { presence.beat() != nil }, "life \(life)")
            #expect(presence.register("s", user: "user")?.hasFailure == false)
            #expect(presence.settle() != nil)
            #expect(presence.state("user") == .presenceOnline)
            let errors = try server.cli("-a", secret, "INFO", "errorstats")
            // What the test itself asked to learn whether the server is up.
            let ours = try server.cli("-a", secret, "INFO", "commandstats")
            #expect(ours.contains("cmdstat_evalsha:") && !ours.contains("cmdstat_eval:"), "\(ours)")
            #expect(ours.contains("cmdstat_script|load:"))
            for name in ["script|load", "evalsha", "role", "info", "auth"] {
                let line = ours.split(whereSeparator: \.isNewline).first { $0.hasPrefix("cmdstat_\(name):") }
                #expect(line.map { $0.contains("rejected_calls=0,failed_calls=0") } != false, "\(name): \(errors)")
            }
            server.kill()
            try server.start()
        }
    }

    /// A user who may do what the docs say, and nothing else, is enough for everything; over TLS with a certificate of
    /// our own.
    @Test func aUserWithFewRights() throws {
        let folder = try RedisServer.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let files = try Certificates(folder)
        let secret = UUID().uuidString
        // The cases empty the server, which nobody else may.
        let more = ["+flushall"]
        let users = (["user martlet on >\(secret) resetkeys resetchannels -@all"] + Self.rights + more)
            .joined(separator: " ")
        try Data("\(users)\nuser default on nopass ~* &* +@all\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/acl"))
        let server = try RedisServer(
            files.options + ["--tls-ca-cert-file", files.authority, "--tls-auth-clients", "yes"]
                + ["--aclfile", "\(folder)/acl"], plain: false)
        var config = RedisConfig(server.address)
        config.username = "martlet"
        config.password = secret
        config.tls = RedisTLS(authorities: files.authority)
        #expect(try TestClient(config).contact() != .ready, "it wants a certificate")
        config.tls?.certificate = files.certificate
        config.tls?.key = files.key
        let client = try TestClient(config)
        #expect(waits { client.contact() == .ready })

        for (number, contract) in PresenceStoreContract.cases.enumerated() {
            do { try contract.run(try DrivenPresence(client, prefix: "m:\(number):")) } catch {
                Issue.record("\(contract.name): \(error)")
            }
        }
        for (number, contract) in HotStoreContract.cases.enumerated() {
            do { try contract.run(DrivenHot(client, prefix: "m:\(number):")) } catch {
                Issue.record("\(contract.name): \(error)")
            }
        }
        #expect(refusal(client.ask(["GET", "another's"])).contains("NOPERM"))
        #expect(refusal(client.ask(["CONFIG", "GET", "*"], slot: 0)).contains("NOPERM"))
        // The two above are all that was ever denied.
        let log = try server.cli(tls: files, "ACL", "LOG")
        #expect(log.components(separatedBy: "reason").count == 3, "\(log)")

        try server.cli(tls: files, "ACL", "SETUSER", "martlet", "-info")
        guard case .unfit(_, let why) = try TestClient(config).contact() else {
            Issue.record("let in without the right to look")
            return
        }
        #expect(why.contains("NOPERM") && why.contains("info"))
    }

    @Test func theSameUserInACluster() throws {
        let cluster = try RedisCluster()
        let secret = UUID().uuidString
        for node in cluster.nodes {
            let words = ["ACL", "SETUSER", "martlet", "on", ">\(secret)", "resetkeys", "-@all"]
            try node.cli(words + Self.rights + ["+cluster|slots", "+asking"])
        }
        var config = cluster.config
        config.username = "martlet"
        config.password = secret
        let presence = try PresenceLife(config)
        #expect(presence.client.contact() == .ready)
        #expect(waits { presence.beat() != nil })
        for number in 0..<20 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        #expect(Set(presence.states((0..<20).map { "user-\($0)" })) == [.presenceOnline])
        for node in cluster.nodes { #expect(try node.cli("ACL", "LOG").split(separator: "\n").isEmpty) }
    }

    @Test func tls() throws {
        let folder = try RedisServer.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let files = try Certificates(folder)
        let secret = UUID().uuidString
        let server = try RedisServer(
            files.options + ["--tls-auth-clients", "no", "--requirepass", secret], plain: false)
        var config = RedisConfig(server.address)
        config.password = secret
        config.tls = RedisTLS(authorities: files.authority)
        let client = try TestClient(config)
        #expect(waits { client.ask(["SET", "a", "1"]) == .reply(.status("OK")) })
        server.kill()
        try server.start(isPlain: false)
        #expect(waits { client.ask(["SET", "a", "1"]) == .reply(.status("OK")) }, "after a restart as before")
        config.tls = RedisTLS()
        #expect(refusal(try TestClient(config).ask(["GET", "a"])).contains("CERTIFICATE_VERIFY_FAILED"))
        config.tls = nil
        #expect(refusal(try TestClient(config).ask(["GET", "a"])).contains("not reachable"), "no TLS was spoken")
    }

    /// Presence must not be evicted; a server whose setting is mended is used without anybody starting anything again.
    @Test func policies() throws {
        let server = try RedisServer(["--maxmemory-policy", "allkeys-lru"])
        var config = RedisConfig(server.address)
        let presence = try TestClient(config)
        let why = "its maxmemory-policy is allkeys-lru, and who is online must not be evicted: set noeviction"
        #expect(presence.contact() == .unfit(server: "\(server.address)", why: why))
        let said = refusal(presence.ask(["GET", "a"]))
        #expect(said == "Redis at \(server.address) cannot be used: \(why)")
        config.mayEvict = true
        #expect(try TestClient(config).contact() == .ready)
        try server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        #expect(waits { presence.ask(["GET", "a"]) == .reply(.null) })
        #expect(presence.contact() == .ready)
    }

    @Test func serversOfAnotherKind() throws {
        let cluster = try RedisCluster()
        guard case .unfit(_, let one) = try TestClient(RedisConfig(cluster.nodes[0].address)).contact(),
            one.contains("redis+cluster://")
        else {
            Issue.record("a node of a cluster was taken for a server of its own")
            return
        }
        let server = try RedisServer()
        guard case .unfit(_, let two) = try TestClient(RedisConfig(.cluster(seeds: [server.address]))).contact(),
            two.contains("not part of a cluster")
        else {
            Issue.record("a server of its own was taken for a cluster")
            return
        }
        let sentinel = try RedisServer(sentinelOf: server, name: "chat")
        guard case .unfit(_, let three) = try TestClient(RedisConfig(sentinel.address)).contact(),
            three.contains("redis+sentinel://")
        else {
            Issue.record("a sentinel was taken for a server")
            return
        }
    }

    /// What is in the way is known at once, and who is away is not taken for a mistake.
    @Test func contactWithWhoIsAway() throws {
        let server = try RedisServer()
        server.kill()
        let client = try TestClient(RedisConfig(server.address))
        guard case .away = client.contact() else {
            Issue.record("nobody is there")
            return
        }
        try server.start()
        #expect(waits { client.contact() == .ready })
    }
}
