import EmbeddedStore
import Ports
import RPC
import TestKit
import Testing

/// Every port's suite against every embedded adapter.
@Suite struct ContractSuites {
    private var config: EmbeddedConfig {
        var config = EmbeddedConfig()
        config.partitions = 4
        return config
    }

    private func segmentLog(_ change: (inout EmbeddedConfig) -> Void = { _ in }) throws -> SegmentLog {
        var config = config
        change(&config)
        return try SegmentLog.open(
            folder: "data", files: SimulatedDisk(), config: config, incarnation: 7, wallMS: { 1_760_000_000_000 })
    }

    @Test(arguments: MessageLogContract.cases) func segmentLog(_ contract: MessageLogContract.Case) throws {
        try contract.run(try segmentLog())
    }

    /// The same promises when nothing is in memory and every batch has a segment of its own.
    @Test(arguments: MessageLogContract.cases) func segmentLogFromDisk(_ contract: MessageLogContract.Case) throws {
        try contract.run(
            try segmentLog {
                $0.segmentBytes = 2000
                $0.tailBytes = 0
                $0.indexBlockBytes = 100
                $0.openSegments = 2
            })
    }

    @Test(arguments: MessageLogContract.cases) func memoryLog(_ contract: MessageLogContract.Case) throws {
        try contract.run(MemoryLog(partitions: 4, incarnation: 7, limit: 1 << 20))
    }

    @Test(arguments: RecentStoreContract.cases) func sqliteRecent(_ contract: RecentStoreContract.Case) throws {
        try contract.run(try SQLiteRecentStore(path: ":memory:"))
    }

    /// The same promises through a file layer that is not this machine's.
    @Test(arguments: RecentStoreContract.cases) func sqliteRecentOnALayer(_ contract: RecentStoreContract.Case) throws {
        var config = config
        config.checkpointPages = 5
        try contract.run(try SQLiteRecentStore(path: "recent.sqlite", config: config, files: SimulatedDisk()))
    }

    @Test(arguments: UserStoreContract.cases) func sqliteUsersOnALayer(_ contract: UserStoreContract.Case) throws {
        try contract.run(try SQLiteUserStore(path: "users.sqlite", files: SimulatedDisk()))
    }

    /// The same promises when heads are not cached.
    @Test(arguments: RecentStoreContract.cases) func sqliteRecentUncached(_ contract: RecentStoreContract.Case) throws {
        var config = EmbeddedConfig()
        config.cachedHeads = 2
        try contract.run(try SQLiteRecentStore(path: ":memory:", config: config))
    }

    @Test(arguments: HotStoreContract.cases) func memoryHot(_ contract: HotStoreContract.Case) throws {
        try contract.run(MemoryHotStore(bytes: 1 << 20, rows: 200))
    }

    @Test(arguments: PresenceStoreContract.cases) func memoryPresence(_ contract: PresenceStoreContract.Case) throws {
        try contract.run(MemoryPresenceStore(tokens: try SQLiteTokenEpochs(path: ":memory:")))
    }

    @Test(arguments: UserStoreContract.cases) func sqliteUsers(_ contract: UserStoreContract.Case) throws {
        try contract.run(try SQLiteUserStore(path: ":memory:"))
    }
}
