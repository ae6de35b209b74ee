import Wire

/// When pushes are acknowledged: cumulatively, after `every` of them or `delayMicros` after the first unacknowledged.
/// Links that wait for their time are in a wheel of ticks, so that a turn looks only at those that are due.
struct PushAcks {
    static let tickMS: Int32 = 20
    private static let tickMicros = UInt64(tickMS) * 1000
    private static let slots: UInt64 = 64

    var every: UInt32 = 32
    /// Times beyond the wheel's turn (1.2 s) are cut to it.
    var delayMicros: UInt64 = 200_000
    private var wheel = [[Link]](repeating: [], count: Int(slots))
    private var listed = 0
    private var tick: UInt64 = 0

    var isEmpty: Bool { listed == 0 }

    enum Arrival { case fresh, again, gap }

    /// Takes a push id. `again`: it was here before; `gap`: one before it was not, so this one will be repeated.
    mutating func arrived(_ id: UInt32, on link: Link, now: UInt64) -> Arrival {
        guard id > link.pushID else {
            // The server repeats what it thinks unacknowledged: tell it again.
            wait(for: link, now: now)
            return .again
        }
        guard id == link.pushID + 1 else { return .gap }
        link.pushID = id
        wait(for: link, now: now)
        return .fresh
    }

    private mutating func wait(for link: Link, now: UInt64) {
        if link.unackedPushes == 0 { link.firstUnackedMicros = now }
        link.unackedPushes += 1
        guard !link.ackListed else { return }
        link.ackListed = true
        list(link, now: now)
    }

    private mutating func list(_ link: Link, now: UInt64) {
        if listed == 0 { tick = now / Self.tickMicros }
        let due = link.firstUnackedMicros + min(delayMicros, (Self.slots - 4) * Self.tickMicros)
        // Rounded down: rather a tick early than late.
        let slot = max(tick + 1, due / Self.tickMicros)
        wheel[Int(slot % Self.slots)].append(link)
        listed += 1
    }

    /// Whether so many pushes are unacknowledged that it is time, whatever the clock says.
    func full(_ link: Link) -> Bool { link.unackedPushes >= every }

    /// Hands out the links whose time has come.
    mutating func due(_ now: UInt64, _ acknowledge: (Link) -> Void) {
        let last = now / Self.tickMicros
        while listed > 0, tick < last {
            tick += 1
            let slot = Int(tick % Self.slots)
            let links = wheel[slot]
            wheel[slot] = []
            listed -= links.count
            for link in links {
                if link.unackedPushes == 0 || link.socket < 0 {
                    link.ackListed = false
                } else if link.firstUnackedMicros + delayMicros >= (tick + 1) * Self.tickMicros {
                    list(link, now: now)
                } else {
                    link.ackListed = false
                    acknowledge(link)
                }
            }
        }
    }
}
