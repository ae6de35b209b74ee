import Machinery
import Testing
import Wire

/// Limits that several services share.
@Suite struct LimitTests {
    @Test func aKeyMayBurstAndThenGoOnAtItsRate() {
        var table = RateTable(perSecond: 200, burst: 10, keys: 64)
        for _ in 0..<10 { #expect(table.take(7, nowMicros: 1_000_000) == nil) }
        #expect(table.take(7, nowMicros: 1_000_000) == 5)
        #expect(table.take(7, nowMicros: 1_003_000) == 2)
        #expect(table.take(8, nowMicros: 1_003_000) == nil, "another key")
        #expect(table.take(7, nowMicros: 1_005_000) == nil)
        #expect(table.take(7, nowMicros: 1_005_000) != nil)
        // Five seconds at its rate: all are taken, and not one more.
        var taken = 0
        for millis in UInt64(0)..<5000 where table.take(7, nowMicros: 1_006_000 + millis * 1000) == nil { taken += 1 }
        #expect((999...1001).contains(taken))
        // After a pause the burst is back, and not two of them.
        for _ in 0..<10 { #expect(table.take(7, nowMicros: 60_000_000) == nil) }
        #expect(table.take(7, nowMicros: 60_000_000) != nil)
    }

    @Test func aHotKeyStaysLimitedAmongMany() {
        var table = RateTable(perSecond: 100, burst: 100, keys: 4096)
        var random = SeededRandom(seed: 5)
        var taken = 0
        for number in UInt64(0)..<100_000 {
            // A second: 50,000 other keys, each once or twice, and the hot one 50,000 times.
            if number % 2 == 0 {
                _ = table.take(random.next(), nowMicros: 1_000_000 + number * 10)
            } else if table.take(42, nowMicros: 1_000_000 + number * 10) == nil {
                taken += 1
            }
        }
        #expect((199...200).contains(taken), "\(taken)")
    }

    @Test func timeForDeletingGoesNoFasterThanTime() {
        let day: UInt64 = 86_400_000
        var clock = PatientClock()
        #expect(clock.nowMS(micros: 5_000_000, wallMS: 10 * day) == 10 * day)
        #expect(clock.nowMS(micros: 6_000_000, wallMS: 10 * day + 1000) == 10 * day + 1000)
        #expect(clock.nowMS(micros: 7_000_000, wallMS: 18 * day) == 10 * day + 2000, "set ahead")
        #expect(clock.nowMS(micros: 8_000_000, wallMS: 9 * day) == 9 * day, "set back")
        #expect(clock.nowMS(micros: 9_000_000, wallMS: 10 * day + 4000) == 10 * day + 4000, "set right again")
    }

    @Test func eventsForManyAreSeveralCalls() {
        func event(_ name: String, _ users: Range<Int>) -> PushEvent {
            .with {
                $0.event.name = name
                $0.users = users.map { number in .with { $0.userID = "\(number)" } }
            }
        }
        #expect(PushEvents.parts([]).isEmpty)
        let parts = PushEvents.parts([event("a", 0..<3), event("b", 0..<25), event("c", 0..<5)], most: 10)
        let sizes = parts.map { $0.events.map(\.users.count) }
        #expect(sizes == [[3], [10], [10], [5, 5]])
        let users = parts.flatMap(\.events).filter { $0.event.name == "b" }.flatMap(\.users).map(\.userID)
        #expect(users == (0..<25).map { "\($0)" })
        let many = PushEvents.parts((0..<5000).map { event("\($0)", 0..<1) })
        #expect(many.map(\.events.count) == [1024, 1024, 1024, 1024, 904])
    }
}
