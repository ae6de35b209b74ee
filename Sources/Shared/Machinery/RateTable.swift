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

    /// Takes one unit of the key. Nil: taken. Otherwise how long to wait for it, in milliseconds, at least 1.
    public mutating func take(_ key: UInt64, nowMicros: UInt64) -> UInt32? {
        let (place, full) = find(key, nowMicros)
        guard full + unitMicros <= nowMicros + burstMicros else {
            return UInt32(clamping: (full + unitMicros - nowMicros - burstMicros + 999) / 1000)
        }
        places[place] = Place(key: key, full: full + unitMicros)
        return nil
    }

    /// Nil when the key has anything left; otherwise how long until it does, in milliseconds, at least 1.
    public func wait(_ key: UInt64, nowMicros: UInt64) -> UInt32? {
        let (_, full) = find(key, nowMicros)
        guard full >= nowMicros + burstMicros else { return nil }
        return UInt32(clamping: (full - nowMicros - burstMicros) / 1000 + 1)
    }

    /// Takes units that need not be there: what is overdrawn has to come back first.
    public mutating func charge(_ key: UInt64, units: UInt64, nowMicros: UInt64) {
        let (place, full) = find(key, nowMicros)
        places[place] = Place(key: key, full: full + unitMicros * units)
    }

    /// The place of the key, or the one that it would take, and when it has its whole burst again.
    private func find(_ key: UInt64, _ nowMicros: UInt64) -> (place: Int, full: UInt64) {
        let start = Int(key & mask) * Self.ways
        var chosen = start
        for index in start..<start + Self.ways {
            if places[index].key == key {
                chosen = index
                break
            }
            if places[index].full < places[chosen].full { chosen = index }
        }
        return (chosen, max(places[chosen].key == key ? places[chosen].full : 0, nowMicros))
    }
}
