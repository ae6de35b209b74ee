import Foundation
import RPC
import RedisStore
import TestKit
import Testing
import Wire

/// Sentinel, and a cluster whose nodes die and whose slots move.
@Suite(.serialized) struct TopologyServerTests {
    /// The master dies; the sentinel promotes its replica, the client finds it, and presence settles there.
    @Test(arguments: [false, true]) func sentinelFailover(isStopped: Bool) throws {
        let master = try RedisServer()
        let replica = try RedisServer(["--replicaof", "127.0.0.1 \(master.port)", "--repl-ping-replica-period", "1"])
        #expect(try waits { try replica.cli("INFO", "replication").contains("master_link_status:up") })
        let sentinel = try RedisServer(sentinelOf: master, name: "chat")
        #expect(try waits { try sentinel.cli("SENTINEL", "MASTER", "chat").contains("num-slaves\n1") })
        let nobody = RedisAddress(host: "127.0.0.1", port: try RedisServer.freePort())
        let place = RedisShard.Place.sentinel(master: "chat", sentinels: [nobody, sentinel.address])
        var config = RedisConfig(.shards(RedisShard.even([place])))
        config.stallMS = 1500
        let presence = try PresenceLife(config)
        #expect(waits { presence.beat() != nil })
        for number in 0..<40 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        #expect(presence.client.ask(["SET", "a", "1"]) == .reply(.status("OK")))
        #expect(try master.cli("WAIT", "1", "2000").contains("1"))

        // A process that stopped is as good as dead, and its connections stay.
        if isStopped { master.pause() } else { master.kill() }
        let isBack = waits {
            #expect(presence.state("user-7") != .presenceOffline)
            return presence.client.ask(["SET", "a", "2"]) == .reply(.status("OK"))
        }
        #expect(isBack)
        #expect(try replica.cli("GET", "a").contains("2"))
        #expect(presence.settle(beats: 40) != nil)
        for number in 0..<40 { #expect(presence.state("user-\(number)") == .presenceOnline) }
        #expect(presence.state("nobody") == .presenceUnknown, "a promoted replica may lack what was written last")

        // The one that was stopped still takes itself for the master.
        master.resume()
        usleep(500_000)
        #expect(presence.client.ask(["SET", "a", "3"]) == .reply(.status("OK")))
        #expect(try replica.cli("GET", "a").contains("3"))
    }

    /// A sentinel that takes connections and says nothing does not keep the others from being asked.
    @Test func aStoppedSentinelIsPassedOver() throws {
        let master = try RedisServer()
        let sentinels = [
            try RedisServer(sentinelOf: master, name: "chat"), try RedisServer(sentinelOf: master, name: "chat"),
        ]
        sentinels[0].pause()
        defer { sentinels[0].resume() }
        let place = RedisShard.Place.sentinel(master: "chat", sentinels: sentinels.map(\.address))
        var config = RedisConfig(.shards(RedisShard.even([place])))
        config.greetingTimeoutMS = 500
        let client = try TestClient(config)
        #expect(waits(seconds: 5) { client.ask(["SET", "a", "1"]) == .reply(.status("OK")) })
    }

    /// One node of three: its users are unknown, the others' are not; it comes back empty and is filled.
    @Test func aNodeOfAClusterDies() throws {
        let cluster = try RedisCluster(["--cluster-require-full-coverage", "no"])
        let presence = try PresenceLife(cluster.config)
        #expect(waits { presence.beat() != nil })
        let users = (0..<40).map { "user-\($0)" }
        for user in users { _ = presence.register("s-\(user)", user: user) }
        #expect(presence.settle() != nil)
        cluster.nodes[1].kill()
        let states = presence.states(users)
        let online = states.filter { $0 == .presenceOnline }.count
        #expect(states.filter { $0 == .presenceUnknown }.count == 40 - online)
        #expect(online > 10 && online < 40, "\(online) of 40 are elsewhere")
        try cluster.nodes[1].start()
        #expect(waits { presence.beat() != nil })
        #expect(presence.settle(beats: 60) != nil)
        for user in users { #expect(presence.state(user) == .presenceOnline) }
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
