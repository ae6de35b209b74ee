import Testing

@testable import MartletBench

@Suite struct HistogramTests {
    @Test func bucketsCoverEveryValueWithoutGaps() {
        #expect(Histogram.last(of: 0) == 0)
        var previous: UInt64 = 0
        for bucket in 1..<(57 * 128) {
            let last = Histogram.last(of: bucket)
            #expect(last > previous)
            // The bucket begins where the one before it ends, and both ends are in it.
            #expect(Histogram.bucket(previous + 1) == bucket)
            #expect(Histogram.bucket(last) == bucket)
            if previous >= 256 { #expect(Double(last - previous) / Double(previous) < 0.01) }
            previous = last
        }
        #expect(Histogram.last(of: Histogram.bucket(.max)) == .max)
    }

    @Test func percentilesOfAThousandValues() {
        var histogram = Histogram()
        for value in (1...1000).reversed() { histogram.record(UInt64(value) * 100) }
        for (fraction, exact) in [(0.5, 50_000.0), (0.75, 75_000), (0.99, 99_000), (0.999, 99_900)] {
            let found = Double(histogram.percentile(fraction))
            #expect(found >= exact && found <= exact * 1.01, "\(fraction): \(found)")
        }
        #expect(histogram.percentile(1) == 100_000)
        #expect(histogram.max == 100_000)
        #expect(histogram.count == 1000)
    }

    @Test func aSingleSlowOneIsTheMaximumOnly() {
        var histogram = Histogram()
        for _ in 0..<9999 { histogram.record(200) }
        histogram.record(3_000_000)
        let percentiles = Percentiles(histogram)
        #expect(percentiles.p50 == 0.2 && percentiles.p999 == 0.2 && percentiles.max == 3000)
    }

    @Test func emptyIsZero() { #expect(Histogram().percentile(0.99) == 0) }
}

@Suite struct PacerTests {
    @Test func theScheduleDoesNotWait() {
        var pacer = Pacer(startMicros: 1_000_000, perSecond: 4000)
        #expect(pacer.next(now: 999_999) == nil)
        var due: [UInt64] = []
        // Nobody asked for a whole second: all that was due is handed out with the moment it was due.
        while let next = pacer.next(now: 2_000_000) { due.append(next.dueMicros) }
        #expect(due.count == 4001)
        #expect(due.first == 1_000_000 && due[1] == 1_000_250 && due.last == 2_000_000)
    }

    @Test func noDriftAtARateThatDoesNotDivide() {
        var pacer = Pacer(startMicros: 0, perSecond: 7)
        var last: UInt64 = 0
        while let next = pacer.next(now: 10_000_000) { last = next.dueMicros }
        #expect(pacer.issued == 71)
        #expect(last == 10_000_000)
    }
}
