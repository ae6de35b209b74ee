import Foundation
import Ports

/// Every embedded store of one data folder, opened.
///
/// Each machine below wants a lane of its own (`Lane.thread`); the store behind it is then used on that lane only.
public struct EmbeddedBackends: Sendable {
    public let log: SegmentLog
    /// Log "push": in memory in one process, in the folder when the services are separate processes.
    public let pushLog: any MessageLogStore
    public let recent: SQLiteRecentStore
    public let hot: MemoryHotStore
    public let presence: MemoryPresenceStore
    /// What presence knows of revoked tokens; for a presence that is elsewhere too.
    public let tokens: any TokenEpochs
    public let users: SQLiteUserStore

    /// Where log "push" lives.
    public enum PushLog: Sendable {
        case memory
        case folder
    }

    /// Opens the stores of a data folder, or makes them.
    ///
    /// - Parameters:
    ///   - folder: the data folder; made when absent.
    ///   - files: where everything lies. With `RealFiles()` SQLite takes its own way to the same files, which saves a
    ///     copy per page; with any other layer it goes through that layer.
    ///   - incarnation: what a new log is called; random unless a test says otherwise.
    ///   - wallMS: Unix milliseconds, for the age of log segments.
    /// - Throws: one sentence that says what to do: folder read-only, disk full, in use, damaged, from a newer version.
    public static func open(
        folder: String, files: any FileLayer = RealFiles(), config: EmbeddedConfig = EmbeddedConfig(),
        pushLog: PushLog = .memory, incarnation: UInt64 = UInt64.random(in: 1...UInt64.max),
        wallMS: @escaping @Sendable () -> UInt64
    ) throws(StoreOpenError) -> EmbeddedBackends {
        let log = try SegmentLog.open(
            folder: "\(folder)/log-msg", files: files, config: config, incarnation: incarnation, wallMS: wallMS)
        let push: any MessageLogStore
        switch pushLog {
        case .memory:
            push = MemoryLog(partitions: config.partitions, incarnation: incarnation, limit: config.memoryLogBytes)
        case .folder:
            push = try SegmentLog.open(
                folder: "\(folder)/log-push", files: files, config: config, incarnation: incarnation, wallMS: wallMS)
        }
        let layer: (any FileLayer)? = files is RealFiles ? nil : files
        let tokens = try SQLiteTokenEpochs(path: "\(folder)/tokens.sqlite", config: config, files: layer)
        return EmbeddedBackends(
            log: log, pushLog: push,
            recent: try SQLiteRecentStore(path: "\(folder)/recent.sqlite", config: config, files: layer),
            hot: MemoryHotStore(bytes: config.hotBytes, rows: config.hotRows),
            presence: MemoryPresenceStore(tokens: tokens), tokens: tokens,
            users: try SQLiteUserStore(path: "\(folder)/relational.sqlite", config: config, files: layer))
    }

    /// Port role `log`, serving "msg".
    public func logMachine() -> LogMachine { LogMachine(logs: ["msg": log], writeEveryMS: 2) }
    /// Port role `pushlog`, serving "push".
    public func pushLogMachine() -> PushLogMachine { PushLogMachine(LogMachine(logs: ["push": pushLog])) }
    /// Port role `recent`.
    public func recentMachine() -> RecentMachine<SQLiteRecentStore> { RecentMachine(recent) }
    /// Port role `hot`.
    public func hotMachine() -> HotMachine<MemoryHotStore> { HotMachine(hot) }
    /// Port role `presence`.
    public func presenceMachine() -> PresenceMachine<MemoryPresenceStore> { PresenceMachine(presence) }
    /// Port role `relational`.
    public func userMachine() -> UserStoreMachine<SQLiteUserStore> { UserStoreMachine(users) }
}
