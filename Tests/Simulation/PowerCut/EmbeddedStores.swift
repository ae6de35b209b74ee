import EmbeddedStore
import Foundation
import Machinery
import Ports
import RPC
import Simulator
import TestKit
import Wire

/// The embedded stores of one data folder on a simulated disk, through power cuts.
///
/// Isolation: none; belongs to one history.
final class EmbeddedStores {
    static let app = "app"
    let disk = SimulatedDisk()
    let config: EmbeddedConfig
    private(set) var backends: EmbeddedBackends
    /// What revoking was told is durable.
    private var tokenEpoch: UInt64 = 0

    init(config: EmbeddedConfig, faults: SimulatedDisk.Faults) throws {
        self.config = config
        disk.setFaults { $0 = faults }
        backends = try Self.open(disk, config)
    }

    private static func open(_ disk: SimulatedDisk, _ config: EmbeddedConfig) throws -> EmbeddedBackends {
        try EmbeddedBackends.open(
            folder: "data", files: disk.mount(), config: config, incarnation: 7,
            wallMS: { Simulation.epochWallMS })
    }

    /// Everybody who may send; durable on return.
    func addUsers(_ users: [String]) throws {
        var batch = UserBatch()
        batch.users = users.map { user in
            var put = UserPut()
            put.appID = Self.app
            put.profile.userID = user
            put.profile.exists = true
            return put
        }
        _ = try backends.users.apply(batch)
    }

    /// What the power left, opened again. While that goes on the power may go once more.
    func powerCut(using random: inout SeededRandom) throws {
        disk.cutPower(using: &random)
        if random.chance(0.3) {
            disk.setFaults { $0.stepsToPowerLoss = Int.random(in: 1...60, using: &random) }
            do {
                backends = try Self.open(disk, config)
            } catch {
                guard disk.hasLostPower else { throw error }
            }
            disk.cutPower(using: &random)
        }
        backends = try Self.open(disk, config)
    }

    func kill() throws {
        disk.killProcess()
        backends = try Self.open(disk, config)
    }

    /// A part of what waits in memory goes to the recent store's file at a moment that no timer would choose.
    func flush(rows: Int) {
        // On a full or dead disk it fails, and everything stays in memory.
        try? backends.recent.flush(rows: rows)
    }

    // MARK: what must be durable

    func revoke() {
        var item = RevokeItem()
        item.appID = Self.app
        item.userID = "revoked"
        item.tokenEpoch = tokenEpoch + 1
        do throws(Failure) {
            try backends.presence.revoke([item])
            tokenEpoch += 1
        } catch {
            // Not promised, so not expected.
        }
    }

    /// The token epoch that was promised is there.
    func tokenViolations() -> [Violation] {
        var item = Registration()
        item.appID = Self.app
        item.userID = "revoked"
        item.sessionID = "s"
        item.loginID = "login"
        item.tokenEpoch = tokenEpoch
        backends.presence.begin(micros: 0, wallMS: 0)
        guard tokenEpoch > 0 else { return [] }
        item.tokenEpoch = tokenEpoch - 1
        let result = backends.presence.register([item], micros: 0).first ?? RegisterResult()
        if result.failure.isCode(.tokenRevoked) { return [] }
        return [Violation(.lost, "token epoch \(tokenEpoch) was forgotten")]
    }

    /// Rows of all conversations, ascending, by name.
    func rows(_ conversations: [String]) -> [SimulatedRecentStore.Name: [StoredRow]] {
        var found: [SimulatedRecentStore.Name: [StoredRow]] = [:]
        for conversation in conversations {
            var query = RowsQuery()
            query.appID = Self.app
            query.conversation = conversation
            query.fromSeq = 1
            query.limit = UInt32(RowLimits.pageRows)
            let page = backends.recent.rows([query]).first
            // The dense dedup keys stay inside; the checker goes by what the message says.
            found[SimulatedRecentStore.Name(Self.app, conversation)] = page?.rows ?? []
        }
        return found
    }

    /// Whether the writer has passed everything that the log holds.
    var isDelivered: Bool {
        let committed = backends.log.committed("msgwriter")
        return (0..<backends.log.partitions).allSatisfy { partition in
            (committed[partition] ?? 0) == backends.log.range(of: partition).end
        }
    }

    /// Every member of a conversation with rows has an index entry, and a sender has read what it sent.
    func indexViolations(_ rows: [SimulatedRecentStore.Name: [StoredRow]], members: [String: [String]]) -> [Violation] {
        var found: [Violation] = []
        for (conversation, users) in members.sorted(by: { $0.key < $1.key }) {
            let all = rows[SimulatedRecentStore.Name(Self.app, conversation)] ?? []
            for user in users where !all.isEmpty {
                var query = IndexQuery()
                query.appID = Self.app
                query.userID = user
                query.conversation = conversation
                let pages = try? backends.users.index([query])
                let sent = all.last { $0.sender == user }?.seq ?? 0
                guard let entry = pages?.first?.rows.first, entry.readSeq >= sent else {
                    found.append(Violation(.lost, "the index entry of \(user) for \(conversation), read to \(sent)"))
                    continue
                }
            }
        }
        return found
    }
}
