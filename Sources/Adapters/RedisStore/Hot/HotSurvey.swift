import Identity
import Ports
import RPC
import Wire

/// What the hot store has, row by row and without judging it: for whoever compares it with other tiers.
///
/// Isolation: any thread.
public struct HotSurvey: Sendable {
    /// What is kept of one conversation.
    public struct Holding: Sendable, Equatable {
        /// As they are kept, oldest first.
        public var rows: [StoredRow] = []
        /// Places in the list, from 0, whose bytes are no row.
        public var unreadable: [Int] = []
    }
    private let client: RedisClient
    private let config: RedisHotConfig
    private let tags: PartitionTags

    public init(client: RedisClient, config: RedisHotConfig = RedisHotConfig()) {
        self.client = client
        self.config = config
        tags = PartitionTags(count: config.partitions)
    }

    /// All rows of each conversation; none for one that it does not have.
    ///
    /// - Throws: the failure of the first command that was not answered within the milliseconds.
    public func holdings(
        of conversations: [(app: String, conversation: String)], withinMS: UInt64
    ) async throws(Failure) -> [Holding] {
        let commands = conversations.map { name in
            let partition = Int(
                truncatingIfNeeded: StableHash.of(name.app, name.conversation) % UInt64(tags.count))
            let key = "\(config.prefix)h{\(tags.tags[partition])}:\(name.app):\(name.conversation)"
            return RedisCommand(
                .plain, slot: tags.slots[partition], RedisArguments("LRANGE", key, "0", "-1"))
        }
        let request = RedisRequest(id: 0, commands: commands, deadline: SystemClock.now().micros + withinMS * 1000)
        let response = await withCheckedContinuation { waiting in
            client.send(request) { waiting.resume(returning: $0) }
        }
        var holdings: [Holding] = []
        for (name, result) in zip(conversations, response.results) {
            switch result {
            case .reply(.array(let elements)): holdings.append(Self.holding(elements, name.app, name.conversation))
            case .reply(let reply): throw Failure(.storeUnavailable, "Redis says: \(reply)")
            case .refused(let failure), .unknown(let failure): throw failure
            }
        }
        return holdings
    }

    private static func holding(_ elements: [RedisReply], _ app: String, _ conversation: String) -> Holding {
        var holding = Holding()
        for (place, element) in elements.enumerated() {
            if case .bytes(let bytes) = element,
                let row = HotRow.decode(bytes, app: app, conversation: conversation)
            {
                holding.rows.append(row)
            } else {
                holding.unreadable.append(place)
            }
        }
        return holding
    }
}
