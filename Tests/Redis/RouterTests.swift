import Testing
import Wire

@testable import RedisStore

/// Which server gets a command, and what an error makes of it, as scripts.
@Suite struct RouterTests {
    private static let ms: UInt64 = 1000
    private static let late: UInt64 = 5_000_000

    private func job(_ id: UInt64, _ slot: UInt16, deadline: UInt64 = late, bytes: Int = 10) -> RedisRouter.Job {
        RedisRouter.Job(id: id, slot: slot, deadline: deadline, bytes: bytes)
    }

    private func say(_ actions: [RedisRouter.Action]) -> [String] {
        actions.map { action in
            switch action {
            case .open(let node, _, let generation): "open \(node).\(generation)"
            case .write(let node, let generation, let items):
                "write \(node).\(generation) "
                    + items.map { "\($0.id)\($0.asking ? "a" : "")\($0.form == .whole ? "w" : "")" }
                    .joined(separator: " ")
            case .close(let node, let generation): "close \(node).\(generation)"
            case .finish(let id, .reply(let reply)): "finish \(id) \(reply)"
            case .finish(let id, .refused(let failure)): "refuse \(id) \(failure.reason)"
            case .finish(let id, .unknown(let failure)): "unknown \(id) \(failure.reason)"
            }
        }
    }

    /// Two shards that are connected.
    private func shards(_ change: (inout RedisConfig) -> Void = { _ in }) -> RedisRouter {
        let places = [1, 2].map { RedisShard.Place.address(RedisAddress(host: "a", port: $0)) }
        var config = RedisConfig(.shards(RedisShard.even(places)))
        change(&config)
        var router = RedisRouter(config: config, seed: 1)
        #expect(say(router.start(0)) == ["open 0.1", "open 1.1"])
        _ = router.opened(0, 1, run: "r0", 0)
        _ = router.opened(1, 1, run: "r1", 0)
        return router
    }

    private func table(_ rows: [(Int64, Int64, Int64)]) -> RedisReply {
        .array(
            rows.map { low, high, port in
                .array([.integer(low), .integer(high), .array([.bytes(Array("a".utf8)), .integer(port)])])
            })
    }

    /// A cluster of two nodes whose table is known: node 0 has the lower half.
    private func cluster() -> RedisRouter {
        var router = RedisRouter(config: RedisConfig(.cluster(seeds: [RedisAddress(host: "a", port: 1)])), seed: 1)
        #expect(say(router.start(0)) == ["open 0.1"])
        #expect(say(router.opened(0, 1, run: "r0", 0)) == ["write 0.1 0"])
        #expect(say(router.received(0, 1, [table([(0, 8191, 1), (8192, 16383, 2)])], 0)) == ["open 1.1"])
        #expect(say(router.submit([job(1, 16383)], 0)) == [])
        #expect(say(router.opened(1, 1, run: "r1", 0)) == ["write 1.1 1"])
        #expect(say(router.received(1, 1, [.null], 0)) == ["finish 1 null"])
        return router
    }

    @Test func slotsHaveTheirShards() {
        var router = shards()
        #expect(
            say(router.submit([job(1, 0), job(2, 16383), job(3, 8191), job(4, 8192)], 0))
                == ["write 0.1 1 3", "write 1.1 2 4"])
        #expect(
            say(router.received(1, 1, [.integer(2), .integer(4)], 0)) == ["finish 2 integer(2)", "finish 4 integer(4)"])
        #expect(router.openCommands == 2)
    }

    @Test func aShardThatIsDownRefusesAndTheOtherWorks() {
        var router = shards()
        _ = router.submit([job(1, 0)], 0)
        #expect(say(router.closed(0, 1, "cut", 0)) == ["unknown 1 store_unavailable"])
        #expect(say(router.submit([job(2, 0), job(3, 9000)], 1 * Self.ms)) == ["write 1.1 3"])
        #expect(say(router.tick(500 * Self.ms)) == ["open 0.2", "refuse 2 store_unavailable"])
        #expect(say(router.closed(0, 2, "refused", 501 * Self.ms)) == [])
        #expect(say(router.submit([job(4, 0)], 502 * Self.ms)) == ["refuse 4 store_unavailable"])
    }

    @Test func tooMuchIsRefused() {
        var router = shards {
            $0.maxCommands = 3
            $0.maxBytes = 100
        }
        #expect(
            say(router.submit([job(1, 0, bytes: 60), job(2, 0, bytes: 41), job(3, 0), job(4, 0), job(5, 0)], 0))
                == ["refuse 2 overloaded", "refuse 5 overloaded", "write 0.1 1 3 4"])
        _ = router.received(0, 1, [.null], 0)
        #expect(say(router.submit([job(6, 0, bytes: 80)], 0)) == ["write 0.1 6"], "what is answered weighs nothing")
    }

    @Test func aScriptThatIsNotThereIsSentWhole() {
        var router = shards()
        _ = router.submit([job(1, 0), job(2, 0)], 0)
        #expect(
            say(router.received(0, 1, [.error("NOSCRIPT No matching script."), .integer(2)], 0))
                == ["write 0.1 1w", "finish 2 integer(2)"])
        #expect(
            say(router.received(0, 1, [.error("NOSCRIPT No matching script.")], 0))
                == ["finish 1 error(\"NOSCRIPT No matching script.\")"], "no second time")
    }

    @Test func aReplicaIsLeft() {
        var router = shards()
        _ = router.submit([job(1, 0), job(2, 0)], 0)
        #expect(
            say(router.received(0, 1, [.error("READONLY You can't write against a read only replica.")], 0))
                == ["refuse 1 store_unavailable", "close 0.1", "unknown 2 store_unavailable"])
        #expect(say(router.tick(100 * Self.ms)) == ["open 0.2"])
    }

    @Test func aShardOfAClusterIsAMistake() {
        var router = shards()
        _ = router.submit([job(1, 0)], 0)
        #expect(say(router.received(0, 1, [.error("MOVED 0 a:2")], 0)) == ["refuse 1 internal_error"])
    }

    @Test func commandsWaitForTheTable() {
        var router = RedisRouter(config: RedisConfig(.cluster(seeds: [RedisAddress(host: "a", port: 1)])), seed: 1)
        #expect(say(router.submit([job(1, 0), job(2, 9000)], 0)) == ["open 0.1"])
        #expect(say(router.opened(0, 1, run: "r", 0)) == ["write 0.1 0"])
        #expect(
            say(router.received(0, 1, [table([(0, 8191, 1), (8192, 16383, 2)])], 10 * Self.ms))
                == ["open 1.1", "write 0.1 1"])
        #expect(say(router.opened(1, 1, run: "r", 20 * Self.ms)) == ["write 1.1 2"])
    }

    @Test func movedIsFollowedAndTheTableRenewed() {
        var router = cluster()
        _ = router.submit([job(2, 5), job(3, 6)], 200 * Self.ms)
        #expect(
            say(router.received(0, 1, [.error("MOVED 5 a:2"), .integer(3)], 200 * Self.ms))
                == ["write 1.1 2", "write 0.1 0", "finish 3 integer(3)"])
        #expect(say(router.submit([job(4, 5)], 201 * Self.ms)) == ["write 1.1 4"], "the slot is known to be there")
        #expect(
            say(router.received(1, 1, [.integer(2), .integer(4)], 202 * Self.ms)) == [
                "finish 2 integer(2)", "finish 4 integer(4)",
            ])
        _ = router.received(0, 1, [table([(0, 4, 1), (5, 16383, 2)])], 203 * Self.ms)
        #expect(say(router.submit([job(5, 4), job(6, 7)], 204 * Self.ms)) == ["write 0.1 5", "write 1.1 6"])
    }

    @Test func askIsFollowedOnceAndTheTableStays() {
        var router = cluster()
        _ = router.submit([job(2, 5)], 200 * Self.ms)
        #expect(say(router.received(0, 1, [.error("ASK 5 a:2")], 200 * Self.ms)) == ["write 1.1 2a"])
        #expect(say(router.received(1, 1, [.status("OK"), .integer(1)], 200 * Self.ms)) == ["finish 2 integer(1)"])
        #expect(say(router.submit([job(3, 5)], 200 * Self.ms)) == ["write 0.1 3"])
    }

    @Test func circlesEnd() {
        var router = cluster()
        _ = router.submit([job(2, 5)], 200 * Self.ms)
        var node = 0
        var said: [String] = []
        for _ in 0..<20 {
            said += say(router.received(node, 1, [.error("ASK 5 a:\(2 - node)")], 200 * Self.ms))
            if said.last?.hasPrefix("refuse") == true { break }
            node = 1 - node
            _ = router.received(node, 1, [.status("OK")], 200 * Self.ms)
        }
        #expect(said.count == 9 && said.last == "refuse 2 store_unavailable", "\(said)")
    }

    @Test func tryAgainIsTriedAgainUntilTheDeadline() {
        var router = cluster()
        _ = router.submit([job(2, 5, deadline: 500 * Self.ms)], 200 * Self.ms)
        #expect(say(router.received(0, 1, [.error("TRYAGAIN x")], 200 * Self.ms)) == ["write 0.1 0"])
        let same = table([(0, 8191, 1), (8192, 16383, 2)])
        #expect(say(router.received(0, 1, [same], 201 * Self.ms)) == ["write 0.1 2"])
        #expect(say(router.received(0, 1, [.error("TRYAGAIN x")], 210 * Self.ms)) == [], "not faster than that")
        #expect(say(router.tick(300 * Self.ms)) == ["write 1.1 0"])
        #expect(say(router.tick(310 * Self.ms)) == ["write 0.1 2"])
        #expect(say(router.received(0, 1, [.error("CLUSTERDOWN x")], 420 * Self.ms)) == ["refuse 2 store_unavailable"])
        #expect(router.openCommands == 0)
    }

    /// A node has died: its commands go to whoever the table names in its place.
    @Test func anotherNodeTakesOver() {
        var router = cluster()
        #expect(say(router.closed(1, 1, "cut", 200 * Self.ms)) == ["write 0.1 0"])
        #expect(say(router.submit([job(2, 9000)], 201 * Self.ms)) == [])
        _ = router.received(0, 1, [table([(0, 8191, 1), (8192, 16383, 2)])], 202 * Self.ms)
        var said: [String] = []
        for step in 0..<40 {
            let now = (220 + UInt64(step) * 20) * Self.ms
            for action in router.tick(now) {
                switch action {
                case .open(let node, _, let generation): _ = router.closed(node, generation, "refused", now)
                case .write(0, _, _): _ = router.received(0, 1, [table([(0, 16383, 1)])], now)
                default: break
                }
                said += say([action])
            }
        }
        #expect(said.contains("write 0.1 2"), "\(said)")
    }

    // MARK: contact

    @Test func contactIsKnownWhenAllHaveBeenTried() {
        var router = shards()
        #expect(router.contact == .ready)
        _ = router.closed(1, 1, "cut", 0)
        #expect(router.contact == .away(server: "a:2", why: "cut"))
        _ = router.tick(200 * Self.ms)
        #expect(router.contact == nil, "it is tried again")
        _ = router.closed(1, 2, "refused", 201 * Self.ms)
        _ = router.closed(0, 1, "cut", 201 * Self.ms)
        _ = router.tick(400 * Self.ms)
        _ = router.closed(0, 2, "its policy", unfit: true, 401 * Self.ms)
        #expect(router.contact == .unfit(server: "a:1", why: "its policy"), "the mistake comes before the outage")
        _ = router.tick(600 * Self.ms)
        _ = router.opened(0, 3, run: "r", 601 * Self.ms)
        #expect(router.contact != .unfit(server: "a:1", why: "its policy"), "somebody has mended it")
    }

    @Test func contactWithAClusterIsContactWithItsMasters() {
        let seeds = [1, 9].map { RedisAddress(host: "a", port: $0) }
        var router = RedisRouter(config: RedisConfig(.cluster(seeds: seeds)), seed: 1)
        #expect(router.contact == nil)
        #expect(say(router.start(0)) == ["open 0.1"])
        _ = router.opened(0, 1, run: "r0", 0)
        #expect(router.contact == nil, "its table is not known")
        #expect(say(router.received(0, 1, [table([(0, 8191, 1), (8192, 16383, 2)])], 0)) == ["open 2.1"])
        #expect(router.contact == nil, "its other master is not known")
        _ = router.opened(2, 1, run: "r2", 0)
        #expect(router.contact == .ready, "the other seed is nobody's master")
    }

    @Test func aClusterOfWhichNobodyAnswersIsAway() {
        var router = RedisRouter(
            config: RedisConfig(.cluster(seeds: [1, 2].map { RedisAddress(host: "a", port: $0) })), seed: 1)
        var actions = router.start(0)
        for step in 1...40 where router.contact == nil {
            for case .open(let node, _, let generation) in actions {
                _ = router.closed(node, generation, "refused", UInt64(step) * 20 * Self.ms)
            }
            actions = router.tick(UInt64(step) * 20 * Self.ms)
        }
        #expect(router.contact == .away(server: "a:1", why: "refused"))
    }
}
