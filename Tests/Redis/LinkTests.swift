import Testing
import Wire

@testable import RedisStore

/// One connection as a script: events in, actions out. Times in microseconds.
@Suite struct LinkTests {
    private static let ms: UInt64 = 1000

    private func link(_ change: (inout RedisConfig) -> Void = { _ in }) -> RedisLink {
        var config = RedisConfig(RedisAddress(host: "a", port: 1))
        config.maxInFlight = 3
        change(&config)
        return RedisLink(name: "a:1", config: config, openingMS: 100, seed: 1)
    }

    private func item(_ id: UInt64, deadline: UInt64 = 1_000_000_000) -> RedisLink.Item {
        RedisLink.Item(id: id, deadline: deadline)
    }

    private func ids(_ actions: [RedisLink.Action]) -> [String] {
        actions.map { action in
            switch action {
            case .open(let generation): "open \(generation)"
            case .write(let generation, let items): "write \(generation) \(items.map(\.id))"
            case .close(let generation): "close \(generation)"
            case .answered(let item, let reply): "answered \(item.id) \(reply)"
            case .unsent(let item, let failure): "unsent \(item.id) \(failure.reason)"
            case .lost(let item, let failure): "lost \(item.id) \(failure.reason)"
            }
        }
    }

    @Test func commandsArePipelinedAndAnswersFollowTheirOrder() {
        var link = link()
        #expect(ids(link.send([item(1), item(2)], 0)) == ["open 1"])
        #expect(ids(link.opened(1, run: "r", 10)) == ["write 1 [1, 2]"])
        #expect(link.run == "r")
        #expect(ids(link.send([item(3), item(4), item(5)], 20)) == ["write 1 [3]"], "three are under way at most")
        #expect(
            ids(link.received(1, [.integer(7), .error("ERR x")], 30))
                == ["answered 1 integer(7)", "answered 2 error(\"ERR x\")", "write 1 [4, 5]"])
        #expect(
            ids(link.received(1, [.null, .null, .null], 40)) == [
                "answered 3 null", "answered 4 null", "answered 5 null",
            ])
        #expect(!link.isBusy)
    }

    @Test func askingHasAnAnswerOfItsOwn() {
        var link = link()
        _ = link.send([], 0)
        _ = link.opened(1, run: "r", 0)
        var asking = item(1)
        asking.asking = true
        #expect(link.send([asking], 0) == [.write(generation: 1, [asking])])
        #expect(ids(link.received(1, [.status("OK")], 0)) == [])
        #expect(ids(link.received(1, [.integer(1)], 0)) == ["answered 1 integer(1)"])
    }

    @Test func whatWasSentIsUnknownAndWhatWasNotWaits() {
        var link = link()
        _ = link.send([item(1), item(2), item(3), item(4)], 0)
        #expect(ids(link.opened(1, run: "r", 0)) == ["write 1 [1, 2, 3]"])
        _ = link.received(1, [.null], 0)
        #expect(
            ids(link.closed(1, "cut", 100 * Self.ms)) == [
                "lost 2 store_unavailable", "lost 3 store_unavailable", "lost 4 store_unavailable",
            ])
        #expect(ids(link.send([item(5)], 101 * Self.ms)) == [], "the grace lasts")
        #expect(ids(link.tick(200 * Self.ms)) == ["open 2"])
        #expect(ids(link.received(1, [.null], 201 * Self.ms)) == [], "an old connection's answer is nobody's")
        #expect(ids(link.opened(1, run: "r", 202 * Self.ms)) == ["close 1"], "nor is an old connection wanted")
        #expect(ids(link.opened(2, run: "s", 203 * Self.ms)) == ["write 2 [5]"])
    }

    @Test func afterTheGraceCommandsAreRefusedAtOnce() {
        var link = link()
        #expect(ids(link.send([item(1)], 0)) == ["open 1"])
        #expect(ids(link.closed(1, "refused", 1 * Self.ms)) == [])
        var opened = 0
        var unsent: [String] = []
        for time in stride(from: 0, to: 600, by: 20) {
            for action in link.tick(UInt64(time) * Self.ms) {
                if case .open(let generation) = action {
                    opened += 1
                    unsent += ids(link.closed(generation, "refused", UInt64(time) * Self.ms))
                } else {
                    unsent += ids([action])
                }
            }
        }
        #expect(unsent == ["unsent 1 store_unavailable"])
        #expect(opened >= 2 && opened <= 8, "attempts with growing waits: \(opened)")
        #expect(ids(link.send([item(2)], 600 * Self.ms)) == ["unsent 2 store_unavailable"])
    }

    @Test func waitsGrowAndEnd() {
        var link = link()
        _ = link.send([], 0)
        var now: UInt64 = 0
        var waits: [UInt64] = []
        for generation in 1...12 {
            #expect(ids(link.closed(UInt64(generation), "refused", now)) == [])
            let from = now
            while ids(link.tick(now)) == [] { now += Self.ms }
            waits.append((now - from) / Self.ms)
        }
        #expect(waits[0] >= 25 && waits[0] <= 51)
        #expect(waits.suffix(3).allSatisfy { $0 >= 1000 && $0 <= 2001 }, "\(waits)")
        #expect(ids(link.opened(13, run: "r", now)) == [])
        _ = link.closed(13, "cut", now)
        let from = now
        while ids(link.tick(now)) == [] { now += Self.ms }
        #expect(now - from <= 52 * Self.ms, "after a success the waits begin anew")
    }

    @Test func deadlinesAreKept() {
        var link = link()
        _ = link.send([], 0)
        _ = link.opened(1, run: "r", 0)
        _ = link.send([item(1, deadline: 50), item(2, deadline: 90), item(3), item(4, deadline: 60)], 0)
        #expect(ids(link.tick(49)) == [])
        #expect(ids(link.tick(60)) == ["lost 1 deadline_exceeded", "unsent 4 store_unavailable"])
        #expect(ids(link.received(1, [.integer(1), .integer(2)], 70)) == ["answered 2 integer(2)"], "1 has been told")
    }

    @Test func aConnectionThatStallsIsGivenUp() {
        var link = link { $0.stallMS = 100 }
        _ = link.send([], 0)
        _ = link.opened(1, run: "r", 0)
        _ = link.send([item(1, deadline: 50 * Self.ms)], 0)
        #expect(ids(link.tick(60 * Self.ms)) == ["lost 1 deadline_exceeded"])
        #expect(ids(link.tick(99 * Self.ms)) == [])
        #expect(ids(link.tick(100 * Self.ms)) == ["close 1"])
        #expect(ids(link.closed(1, "closed", 101 * Self.ms)) == [])
        #expect(ids(link.tick(200 * Self.ms)) == ["open 2"])
    }

    @Test func aConnectionThatDoesNotComeIsGivenUp() {
        var link = link()
        #expect(ids(link.wake(0)) == ["open 1"])
        #expect(ids(link.tick(99 * Self.ms)) == [])
        #expect(ids(link.tick(100 * Self.ms)) == ["close 1"])
        #expect(ids(link.opened(1, run: "r", 101 * Self.ms)) == ["close 1"])
    }

    @Test func anAnswerThatNobodyAskedForEndsTheConnection() {
        var link = link()
        _ = link.send([], 0)
        _ = link.opened(1, run: "r", 0)
        #expect(ids(link.received(1, [.null], 0)) == ["close 1"])
    }
}
