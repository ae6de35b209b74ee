import Logging
import MartletSuite
import MySQLStore
import NIOPosix
import Ports
import RedisStore
import Wire

/// A tier that has some of what the recent store has: named in a list, so that another one is an element more.
protocol ComparedTier: Sendable {
    /// Its name in what is told.
    var name: String { get }
    /// All that it has of each conversation that the recent store has as well, ascending; nothing is fine.
    func rows(of conversations: [ConversationFigures]) async throws -> [TierRows]
    /// Closes its connections.
    func stop() async
}

/// What a tier has of one conversation.
struct TierRows: Sendable {
    var rows: [StoredRow] = []
    /// Places from the beginning whose bytes are no row.
    var unreadable: [Int] = []
}

/// The hot store in Redis.
struct HotTier: ComparedTier {
    let name = "hot"
    private let group: MultiThreadedEventLoopGroup
    private let client: RedisClient
    private let survey: HotSurvey
    private static let withinMS: UInt64 = 10_000

    /// - Throws: `options` when the certificates cannot be used, `refused` when the server will not do.
    init(_ config: RedisConfig) async throws {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
        client = try RedisClient(config: config, scripts: [], loop: group.next(), logger: silent)
        survey = HotSurvey(client: client)
        if case .unfit(let server, let why) = await client.contact(withinMS: Self.withinMS) {
            throw OpsError(.refused, "Redis at \(server) cannot be used: \(why)", cure: "Change its settings or --hot")
        }
    }

    func rows(of conversations: [ConversationFigures]) async throws -> [TierRows] {
        let names = conversations.map { (app: $0.app, conversation: $0.conversation) }
        return try await survey.holdings(of: names, withinMS: Self.withinMS).map {
            TierRows(rows: $0.rows, unreadable: $0.unreadable)
        }
    }

    func stop() async {
        await client.stop()
        try? await group.shutdownGracefully()
    }
}
