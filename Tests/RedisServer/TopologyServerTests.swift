import Foundation
import RPC
import RedisStore
import TestKit
import Testing
import Wire

/// Passwords, TLS, Sentinel and a cluster whose slots move.
@Suite(.serialized) struct TopologyServerTests {
    @Test func passwords() throws {
        let secret = UUID().uuidString
        let server = try RedisServer(["--requirepass", secret])
        var config = RedisConfig(server.address)
        let without = try TestClient(config)
        guard case .refused(let failure) = without.ask(["GET", "a"]) else {
            Issue.record("let in without a password")
            return
        }
        #expect(failure.isCode(.storeUnavailable))
        config.password = "not \(secret)"
        guard case .refused = try TestClient(config).ask(["GET", "a"]) else {
            Issue.record("let in with another password")
            return
        }
        config.password = secret
        #expect(try TestClient(config).ask(["GET", "a"]) == .reply(.null))
        config.username = "default"
        #expect(try TestClient(config).ask(["GET", "a"]) == .reply(.null))
    }

    @Test func tls() throws {
        let folder = try RedisServer.newFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let said = try RedisServer.run(
            "openssl",
            [
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "\(folder)/key", "-out", "\(folder)/cert",
                "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            ])
        #expect(FileManager.default.fileExists(atPath: "\(folder)/cert"), "\(said)")
        let secret = UUID().uuidString
        let server = try RedisServer(
            [
                "--tls-cert-file", "\(folder)/cert", "--tls-key-file", "\(folder)/key", "--tls-auth-clients", "no",
                "--requirepass", secret,
            ], plain: false)
        var config = RedisConfig(server.address)
        config.password = secret
        config.tls = RedisTLS(authorities: "\(folder)/cert")
        let client = try TestClient(config)
        #expect(waits { client.ask(["SET", "a", "1"]) == .reply(.status("OK")) })
        config.tls = RedisTLS()
        guard case .refused = try TestClient(config).ask(["GET", "a"]) else {
            Issue.record("a certificate of nobody we know was believed")
            return
        }
        config.tls = nil
        guard case .refused = try TestClient(config).ask(["GET", "a"]) else {
            Issue.record("no TLS was spoken")
            return
        }
    }

    /// The master dies; the sentinel promotes its replica, the client finds it, and presence settles there.
    @Test func sentinelFailover() throws {
        let master = try RedisServer()
        let replica = try RedisServer(["--replicaof", "127.0.0.1 \(master.port)", "--repl-ping-replica-period", "1"])
        #expect(try waits { try replica.cli("INFO", "replication").contains("master_link_status:up") })
        let sentinel = try RedisServer(sentinelOf: master, name: "chat")
        #expect(try waits { try sentinel.cli("SENTINEL", "MASTER", "chat").contains("num-slaves\n1") })
        let nobody = RedisAddress(host: "127.0.0.1", port: try RedisServer.freePort())
        let place = RedisShard.Place.sentinel(master: "chat", sentinels: [nobody, sentinel.address])
        let presence = try PresenceLife(RedisConfig(.shards(RedisShard.even([place]))))
        #expect(waits { presence.beat() != nil })
        for number in 0..<40 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        #expect(presence.client.ask(["SET", "a", "1"]) == .reply(.status("OK")))
        #expect(try master.cli("WAIT", "1", "2000").contains("1"))

        master.kill()
        let isBack = waits {
            #expect(presence.state("user-7") != .presenceOffline)
            return presence.client.ask(["SET", "a", "2"]) == .reply(.status("OK"))
        }
        #expect(isBack)
        #expect(try replica.cli("GET", "a").contains("2"))
        #expect(presence.settle(beats: 40) != nil)
        for number in 0..<40 { #expect(presence.state("user-\(number)") == .presenceOnline) }
        #expect(presence.state("nobody") == .presenceUnknown, "a promoted replica may lack what was written last")
    }

    /// Slots move between nodes while they are used: MOVED, ASK and TRYAGAIN are followed.
    @Test func slotsOfAClusterMove() throws {
        let cluster = try RedisCluster()
        let client = try TestClient(cluster.config)
        let store = try DrivenPresence(client, prefix: "x:")
        store.begin(micros: 0, wallMS: 1_760_000_000_000)
        let names = (0..<200).map { "user-\($0)" }
        _ = store.register(names.map { PresenceStoreContract.registration($0, "s-\($0)") }, micros: 0)
        func online() throws -> Int {
            var keys: [UserKey] = []
            for name in names {
                var key = UserKey()
                key.appID = "demo"
                key.userID = name
                keys.append(key)
            }
            return try store.lookup(keys, micros: 0).filter { $0.state == .presenceOnline }.count
        }
        #expect(try online() == 200)

        // A partition of the first node: half moved, so that it answers ASK for what is gone.
        let slot = Int(PartitionTags(count: 64).slots[2])
        let ids = try cluster.nodes.map {
            try $0.cli("CLUSTER", "MYID").trimmingCharacters(in: .whitespacesAndNewlines)
        }
        let (from, to) = (cluster.nodes[0], cluster.nodes[2])
        try to.cli("CLUSTER", "SETSLOT", "\(slot)", "IMPORTING", ids[0])
        try from.cli("CLUSTER", "SETSLOT", "\(slot)", "MIGRATING", ids[2])
        let keys = try from.cli("CLUSTER", "GETKEYSINSLOT", "\(slot)", "1000").split(separator: "\n").map(String.init)
        #expect(keys.count > 3)
        for key in keys { try from.cli("MIGRATE", "127.0.0.1", "\(to.port)", key, "0", "2000") }
        #expect(try online() == 200, "asked where the keys went")
        for node in [to, from, cluster.nodes[1]] { try node.cli("CLUSTER", "SETSLOT", "\(slot)", "NODE", ids[2]) }
        #expect(try online() == 200, "moved")
        let redirects = try from.cli("INFO", "errorstats")
        #expect(redirects.contains("errorstat_ASK") && redirects.contains("errorstat_MOVED"), "\(redirects)")
        #expect(try online() == 200)
    }
}
