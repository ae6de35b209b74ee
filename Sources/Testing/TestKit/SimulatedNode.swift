import Machinery

/// A file of the simulated disk: its bytes as programs see them, and what the platter has of those that were written
/// since the last sync.
struct SimulatedNode: Sendable {
    private static let sectorBytes = SimulatedDisk.sectorBytes

    private(set) var live: [UInt8] = []
    private(set) var syncs = 0
    private var durableSize = 0
    /// The platter's bytes of every sector that was changed since the last sync. All others are the same in `live`.
    private var platter: [Int: [UInt8]] = [:]

    mutating func write(_ bytes: UnsafeRawBufferPointer, at position: Int) {
        guard !bytes.isEmpty else { return }
        let from = min(position, live.count)
        keep(from..<position + bytes.count)
        if position > live.count { live.append(contentsOf: repeatElement(0, count: position - live.count)) }
        let replaced = min(live.count - position, bytes.count)
        live.replaceSubrange(position..<position + replaced, with: bytes)
    }

    mutating func truncate(to size: Int) {
        keep(min(size, live.count)..<max(size, live.count))
        if size < live.count { live.removeLast(live.count - size) }
        if size > live.count { live.append(contentsOf: repeatElement(0, count: size - live.count)) }
    }

    mutating func sync() {
        syncs += 1
        platter.removeAll(keepingCapacity: true)
        durableSize = live.count
    }

    /// Notes what the platter has where the program is about to change something.
    private mutating func keep(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        for sector in range.lowerBound / Self.sectorBytes...(range.upperBound - 1) / Self.sectorBytes {
            guard platter[sector] == nil else { continue }
            let start = sector * Self.sectorBytes
            // Not kept before, so unchanged since the sync, when all durable bytes were live.
            let end = min(start + Self.sectorBytes, durableSize, live.count)
            platter[sector] = end > start ? Array(live[start..<end]) : []
        }
    }

    /// A size between the durable and the live one, and each changed sector old or new. All of it is durable then.
    mutating func cutPower(using random: inout SeededRandom) {
        let (low, high) = (min(durableSize, live.count), max(durableSize, live.count))
        if !platter.isEmpty {
            let size = low + Int(random.next() % UInt64(high - low + 1))
            var after = Array(live.prefix(size))
            after.append(contentsOf: repeatElement(0, count: size - after.count))
            let odds = Double(random.next() % 5) / 4
            for sector in platter.keys.sorted() where sector * Self.sectorBytes < size {
                let start = sector * Self.sectorBytes
                let end = min(start + Self.sectorBytes, size)
                let isWritten = random.chance(odds)
                if isWritten, !random.chance(0.1) { continue }
                // Not written, or the sector under the head when the power went: new up to there, old behind.
                let torn = isWritten ? start + Int(random.next() % UInt64(end - start)) : start
                let old = platter[sector, default: []]
                for place in torn..<end { after[place] = place - start < old.count ? old[place - start] : 0 }
            }
            live = after
        }
        sync()
    }

    mutating func damage(at position: Int) {
        guard position < live.count else { return }
        live[position] ^= 0x5a
        let sector = position / Self.sectorBytes
        let place = position - sector * Self.sectorBytes
        if place < platter[sector]?.count ?? 0 { platter[sector]?[place] ^= 0x5a }
    }
}
