/// Counts of microsecond values in buckets of under 1 % width: exact below 256, then 128 per doubling. Fixed size.
struct Histogram {
    private static let subBits = 7
    private var counts = [UInt64](repeating: 0, count: (65 - subBits) << subBits)
    private(set) var count: UInt64 = 0
    private(set) var max: UInt64 = 0

    mutating func record(_ value: UInt64) {
        counts[Self.bucket(value)] += 1
        count += 1
        if value > max { max = value }
    }

    /// The value that the fraction (0 to 1) of all values does not exceed; 0 when there are none. At most 1 % too high.
    func percentile(_ fraction: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = Swift.max(1, UInt64((Double(count) * fraction).rounded(.up)))
        var seen: UInt64 = 0
        for (index, bucketCount) in counts.enumerated() where bucketCount > 0 {
            seen += bucketCount
            if seen >= rank { return min(Self.last(of: index), max) }
        }
        return max
    }

    static func bucket(_ value: UInt64) -> Int {
        let bits = 64 - value.leadingZeroBitCount
        guard bits > subBits + 1 else { return Int(value) }
        let shift = bits - subBits - 1
        return shift << subBits + Int(value >> UInt64(shift))
    }

    /// The largest value of a bucket.
    static func last(of bucket: Int) -> UInt64 {
        guard bucket >= 2 << subBits else { return UInt64(bucket) }
        let shift = bucket >> subBits - 1
        let leading = UInt64(bucket - shift << subBits)
        // Not (leading + 1) << shift - 1: that overflows in the last bucket.
        return leading << UInt64(shift) | (1 << UInt64(shift) - 1)
    }
}

/// A histogram's percentiles, in milliseconds.
struct Percentiles: Encodable, Equatable {
    var p50: Double
    var p75: Double
    var p99: Double
    var p999: Double
    var max: Double

    init(_ histogram: Histogram) {
        func milliseconds(_ micros: UInt64) -> Double { rounded(Double(micros) / 1000) }
        p50 = milliseconds(histogram.percentile(0.5))
        p75 = milliseconds(histogram.percentile(0.75))
        p99 = milliseconds(histogram.percentile(0.99))
        p999 = milliseconds(histogram.percentile(0.999))
        max = milliseconds(histogram.max)
    }
}
