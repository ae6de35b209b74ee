import Machinery

/// What the users do, from the seed: bursts of messages in random conversations, cut connections, moved read cursors.
/// Pure: the same seed and the same steps give the same orders.
struct Workload {
    enum Order: Equatable {
        case send(device: Int, conversation: Int, count: Int)
        case disconnect(device: Int)
        case read(device: Int, conversation: Int)
    }

    private let roster: Roster
    private let config: CheckConfig
    private let perSecond: Double
    private var random: SeededRandom
    /// Messages, disconnects and reads that are due, with fractions.
    private var messages = 0.0
    private var cuts = 0.0
    private var reads = 0.0

    /// `rate`: messages a second per user.
    init(roster: Roster, config: CheckConfig, rate: Double, seed: UInt64) {
        self.roster = roster
        self.config = config
        perSecond = rate * Double(roster.users.count)
        random = SeededRandom(seed: seed)
    }

    /// What is to be done after `micros` more microseconds.
    mutating func step(micros: UInt64) -> [Order] {
        let devices = Double(roster.devices.count)
        // After a hiccup of this program at most half a second of work is made up for.
        messages = min(messages + perSecond * Double(micros) / 1_000_000, max(8, perSecond / 2))
        cuts += devices * Double(micros) / Double(config.disconnectEvery)
        reads += devices * Double(micros) / Double(config.readEvery)
        var orders: [Order] = []
        while messages >= 1 {
            let count = Int.random(in: 1...config.pipelined, using: &random)
            guard let (device, conversation) = pick() else { return orders }
            orders.append(.send(device: device, conversation: conversation, count: count))
            messages -= Double(count)
        }
        while reads >= 1 {
            reads -= 1
            if let (device, conversation) = pick() {
                orders.append(.read(device: device, conversation: conversation))
            }
        }
        while cuts >= 1 {
            cuts -= 1
            orders.append(.disconnect(device: Int.random(in: 0..<roster.devices.count, using: &random)))
        }
        return orders
    }

    private mutating func pick() -> (device: Int, conversation: Int)? {
        let device = Int.random(in: 0..<roster.devices.count, using: &random)
        guard let one = roster.conversationsOf[roster.devices[device].user].randomElement(using: &random) else {
            return nil
        }
        return (device, one)
    }
}
