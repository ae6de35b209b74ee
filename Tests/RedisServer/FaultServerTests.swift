import Foundation
import NIOPosix
import RPC
import RedisStore
import TestKit
import Testing
import Wire

/// What happens when a server is not there, is slow, comes back empty, or is cut off in the middle of an answer.
@Suite(.serialized) struct FaultServerTests {
    private func seconds(_ work: () throws -> Void) rethrows -> Double {
        let from = SystemClock.now().micros
        try work()
        return Double(SystemClock.now().micros - from) / 1_000_000
    }

    private func failure(_ result: RedisResult) -> (isSent: Bool, Failure)? {
        switch result {
        case .refused(let failure): (false, failure)
        case .unknown(let failure): (true, failure)
        case .reply: nil
        }
    }

    @Test func downAtStartThenUp() throws {
        let server = try RedisServer()
        server.kill()
        let client = try TestClient(RedisConfig(server.address))
        let first = failure(client.ask(["GET", "a"]))
        #expect(first.map { !$0.isSent && $0.1.isCode(.storeUnavailable) } == true, "\(String(describing: first))")
        // Later ones are refused at once.
        #expect(seconds { _ = client.ask(["GET", "a"]) } < 0.3)
        try server.start()
        #expect(waits { client.ask(["GET", "a"]) == .reply(.null) }, "it connects by itself")
    }

    /// Redis restarts and has forgotten everything: its Logins bring everything back, and nobody is called offline
    /// before they have had the time.
    @Test func restartedEmpty() throws {
        let server = try RedisServer()
        let presence = try PresenceLife(RedisConfig(server.address))
        _ = presence.beat()
        for number in 0..<40 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        #expect(presence.state("user-7") == .presenceOnline)
        let before = presence.epochs
        #expect(before.count == 40)

        server.kill()
        #expect(presence.state("user-7") != .presenceOffline, "a Redis that is down calls nobody offline")
        try server.start()
        let isUnknown = waits {
            let state = presence.state("user-7")
            #expect(state != .presenceOffline)
            return state == .presenceUnknown
        }
        #expect(isUnknown, "an empty one does not know")
        let beats = presence.settle()
        #expect(beats.map { $0 <= 4 } == true, "registered again after \(String(describing: beats)) beats")
        for number in 0..<40 { #expect(presence.state("user-\(number)") == .presenceOnline) }
        #expect(presence.epochs.allSatisfy { $0.value > before[$0.key] ?? .max }, "with new epochs: the sessions sync")
        #expect(presence.state("nobody") == .presenceUnknown, "who has not come back may still")
    }

    /// One of two shards forgets; only its sessions get new epochs.
    @Test func oneShardRestartedEmpty() throws {
        let servers = [try RedisServer(), try RedisServer()]
        let presence = try PresenceLife(RedisConfig(.shards(RedisShard.even(servers.map { .address($0.address) }))))
        _ = presence.beat()
        for number in 0..<40 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        let before = presence.epochs
        servers[1].kill()
        try servers[1].start()
        #expect(presence.settle(beats: 40) != nil)
        let changed = presence.epochs.filter { $0.value != before[$0.key] }.count
        #expect(changed > 5 && changed < 35, "\(changed) of 40 were on the shard that forgot")
        for number in 0..<40 { #expect(presence.state("user-\(number)") == .presenceOnline) }
    }

    /// Registrations that a promoted replica had not heard of yet: the sums show them missing.
    @Test func lostRegistrationsAreFound() throws {
        let server = try RedisServer()
        let presence = try PresenceLife(RedisConfig(server.address))
        _ = presence.beat()
        for number in 0..<40 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        // What the replica had: everything until here.
        try server.cli("SAVE")
        let before = presence.epochs
        for number in 40..<60 { _ = presence.register("s-\(number)", user: "user-\(number)") }
        #expect(presence.settle() != nil)
        let late = presence.epochs
        server.kill()
        try server.start()
        #expect(presence.settle(beats: 40) != nil)
        for number in 0..<60 { #expect(presence.state("user-\(number)") == .presenceOnline) }
        #expect(before.allSatisfy { presence.epochs[$0.key] == $0.value }, "those that were kept go on")
        let again = late.filter { before[$0.key] == nil && presence.epochs[$0.key] ?? 0 > $0.value }
        #expect(again.count == 20, "the others were registered again")
    }

    @Test func slowIsSlowAndNotDown() throws {
        let server = try RedisServer()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        let relay = try Relay(to: server.address, group: group)
        defer { relay.stop() }
        var config = RedisConfig(relay.address)
        config.maxCommands = 100
        let client = try TestClient(config)
        #expect(client.ask(["SET", "a", "1"]) == .reply(.status("OK")))
        relay.set { $0.delayMS = 1000 }
        let many = (0..<150).map { RedisCommand(.plain, slot: 0, RedisArguments("SET", "k\($0)", "v")) }
        var results: [RedisResult] = []
        let took = seconds { results = client.ask(many) }
        #expect(took > 0.9 && took < 3, "all at once, not one after the other: \(took) s")
        #expect(results.filter { $0 == .reply(.status("OK")) }.count == 100)
        #expect(results.suffix(50).allSatisfy { failure($0).map { !$0.isSent && $0.1.isCode(.overloaded) } == true })
        let late = failure(client.ask(many.prefix(1).map { $0 }, timeoutMS: 300)[0])
        #expect(late.map { $0.isSent && $0.1.isCode(.deadlineExceeded) } == true, "sent, so nobody knows")
        #expect(client.ask(["GET", "a"]) == .reply(.bytes([49])), "its answer comes late and is nobody else's")
    }

    /// Two seconds for everything: logging in takes that long, nobody is called offline, and no lease ends.
    @Test func presenceOverAServerThatTakesTwoSeconds() throws {
        let server = try RedisServer()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        let relay = try Relay(to: server.address, group: group)
        defer { relay.stop() }
        relay.set { $0.delayMS = 2000 }
        let presence = try PresenceLife(RedisConfig(relay.address))
        var result: RegisterResult?
        #expect(waits { presence.client.contact() == .ready })
        let took = seconds { result = presence.register("s", user: "user") }
        #expect(result?.hasFailure == false && took > 1.9 && took < 3.5, "\(took) s")
        #expect(presence.settle(beats: 4) != nil, "a lease that is given its life has two calls")
        let epochs = presence.epochs
        for _ in 0..<3 {
            #expect(presence.state("user") == .presenceOnline)
            #expect(presence.beat() == true)
        }
        #expect(presence.epochs == epochs, "nobody was registered again")
    }

    /// Cut at every place of an answer: what was sent is unknown, nothing is mixed up, and the next one works.
    @Test func cutHalfWayThroughAReply() throws {
        let server = try RedisServer()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        let relay = try Relay(to: server.address, group: group)
        defer { relay.stop() }
        let client = try TestClient(RedisConfig(relay.address))
        _ = client.ask(["SET", "long", String(repeating: "x", count: 100)])
        _ = client.ask(["SET", "short", "y"])
        // "$100\r\n" + 100 + "\r\n", then "$1\r\ny\r\n": 115 bytes.
        for cut in [0, 1, 5, 50, 107, 108, 109, 114] {
            relay.set { $0.cutAfter = cut }
            let both = client.ask([
                RedisCommand(.plain, slot: 0, RedisArguments("GET", "long")),
                RedisCommand(.plain, slot: 0, RedisArguments("GET", "short")),
            ])
            let whole = RedisResult.reply(.bytes(Array(repeating: UInt8(ascii: "x"), count: 100)))
            if cut >= 108 {
                #expect(both[0] == whole)
            } else {
                #expect(failure(both[0]).map(\.isSent) == true, "cut after \(cut): \(both[0])")
            }
            #expect(failure(both[1]).map(\.isSent) == true, "cut after \(cut): \(both[1])")
            #expect(client.ask(["GET", "short"]) == .reply(.bytes([UInt8(ascii: "y")])), "after the cut at \(cut)")
        }
    }

    /// Nothing comes back at all, and the connection stays: it is given up.
    @Test func aServerThatStoppedIsGivenUp() throws {
        let server = try RedisServer()
        var config = RedisConfig(server.address)
        config.stallMS = 600
        config.connectTimeoutMS = 300
        let client = try TestClient(config)
        _ = client.ask(["SET", "a", "1"])
        server.pause()
        #expect(
            failure(
                client.ask(
                    [["GET", "a"]].map { RedisCommand(.plain, slot: 0, RedisArguments($0[0], $0[1])) },
                    timeoutMS: 300)[0]
            ).map(\.isSent) == true)
        usleep(1_500_000)
        #expect(failure(client.ask(["GET", "a"])).map(\.isSent) == false, "not sent: the connection was given up")
        server.resume()
        #expect(waits { client.ask(["GET", "a"]) == .reply(.bytes([49])) })
    }

    @Test func scriptsComeBackAfterTheyWereFlushed() throws {
        let server = try RedisServer()
        let client = try TestClient(RedisConfig(server.address))
        let store = try DrivenPresence(client, prefix: "x:")
        store.begin(micros: 0, wallMS: 1_760_000_000_000)
        try server.cli("SCRIPT", "FLUSH")
        let result = store.register([PresenceStoreContract.registration("a", "1")], micros: 0)
        #expect(result.map(\.hasFailure) == [false])
        #expect(try server.cli("INFO", "commandstats").contains("cmdstat_eval:"), "its text was sent")
    }

    /// No memory: writing is refused, reading goes on.
    @Test func fullMemoryRefusesAndReads() throws {
        let server = try RedisServer()
        let hot = DrivenHot(try TestClient(RedisConfig(server.address)), prefix: "x:")
        hot.put([RecentStoreContract.row("g:a", 1)])
        try server.cli("CONFIG", "SET", "maxmemory", "1")
        var put = HotPut()
        put.rows = [RecentStoreContract.row("g:a", 2)]
        guard case .answered(.done(let done)) = hot.ask(.hotPut(put)) else {
            Issue.record("no answer")
            return
        }
        #expect(done.failures.map { $0.isCode(.storeUnavailable) } == [true])
        #expect(hot.rows([RecentStoreContract.query("g:a")]).first?.rows.map(\.seq) == [1])
    }
}
