/// A rate limit for each of very many keys, in a table of fixed size: no allocation, no dictionary, one cache line per
/// question. A key is a 64-bit hash; two keys with one hash share a limit.
///
/// A key that has not been seen for `burst / perSecond` seconds needs no place, so only keys near their limit hold one.
/// When all four places of a key are held by others, the one nearest to being forgotten is: the table errs on the side
/// of letting through.
public struct RateTable: Sendable {
    private struct Place: Sendable {
        var key: UInt64 = 0
        /// When the key has its whole burst again.
        var full: UInt64 = 0
    }

    private static let ways = 4

    /// Microseconds that one unit and the whole burst take to come back.
    private let unitMicros: UInt64
    private let burstMicros: UInt64
    private let mask: UInt64
    private var places: [Place]

    /// - Parameters:
    ///   - perSecond: units a second of one key, 1 to 1,000,000.
    ///   - burst: units at once, at least 1.
    ///   - keys: about how many keys near their limit it tells apart; 16 bytes each.
    public init(perSecond: Int, burst: Int, keys: Int) {
        unitMicros = UInt64(1_000_000 / min(max(1, perSecond), 1_000_000))
        burstMicros = unitMicros * UInt64(max(1, burst))
        var sets = 1
        while sets * Self.ways < keys { sets *= 2 }
        mask = UInt64(sets - 1)
        places = Array(repeating: Place(), count: sets * Self.ways)
    }

    /// Takes units of the key, at least 1; more than the burst are never there. Nil: taken. Otherwise how long to wait
    /// for them, in milliseconds, at least 1.
    public mutating func take(_ key: UInt64, units: UInt64 = 1, nowMicros: UInt64) -> UInt32? {
        let start = Int(key & mask) * Self.ways
        var chosen = start
        for index in start..<start + Self.ways {
            if places[index].key == key {
                chosen = index
                break
            }
            if places[index].full < places[chosen].full { chosen = index }
        }
        let known = places[chosen].key == key
        let full = max(known ? places[chosen].full : 0, nowMicros) + unitMicros * units
        guard full <= nowMicros + burstMicros else {
            return UInt32(clamping: (full - nowMicros - burstMicros + 999) / 1000)
        }
        places[chosen] = Place(key: key, full: full)
        return nil
    }
}
