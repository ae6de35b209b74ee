import Foundation
@testable import MySQLStore
import Ports
import Synchronization
import Testing
import Wire

/// Token epochs in a real MariaDB: what a revoked token stands and falls with.
@Suite(.serialized) struct TokenServerTests {
    private static let server = Result { try MariaDB() }

    private func user(_ name: String) -> UserKey {
        var key = UserKey()
        key.appID = "app"
        key.userID = name
        return key
    }

    private func revoking(_ name: String, _ epoch: UInt64) -> RevokeItem {
        var item = RevokeItem()
        item.appID = "app"
        item.userID = name
        item.tokenEpoch = epoch
        return item
    }

    /// Somebody's view of the epochs, with a clock that stands still until it is told.
    private final class Clock: Sendable {
        let micros = Mutex<UInt64>(1)
        func pass() { micros.withLock { $0 += MySQLTokenEpochs.freshMicros } }
    }

    private func tokens(_ config: MySQLConfig, _ clock: Clock = Clock()) -> MySQLTokenEpochs {
        MySQLTokenEpochs(config.addresses[0], config, clock: { clock.micros.withLock { $0 } })
    }

    @Test func epochsOnlyGrowAndLast() throws {
        let config = try Self.server.get().fresh()
        let store = tokens(config)
        #expect(try store.epochs([user("a"), user("b")]) == [0, 0])
        try store.raise([revoking("a", 3), revoking("b", 1), revoking("a", 2)])
        #expect(try store.epochs([user("b"), user("a"), user("a"), user("c")]) == [1, 3, 3, 0])
        try store.raise([revoking("a", 2)])
        try store.raise([])
        #expect(try store.epochs([user("a")]) == [3])
        // Names are bytes: another accent or case is another user.
        #expect(try store.epochs([user("A"), user("á")]) == [0, 0])
        #expect(try tokens(config).epochs([user("a"), user("b")]) == [3, 1])
    }

    @Test func othersSeeItWithinASecond() throws {
        let config = try Self.server.get().fresh()
        let clock = Clock()
        let (one, other) = (tokens(config), tokens(config, clock))
        #expect(try other.epochs([user("a")]) == [0])
        try one.raise([revoking("a", 5)])
        #expect(try other.epochs([user("a")]) == [0])
        clock.pass()
        #expect(other.known([user("a"), user("b")]) == [0, 0])
        #expect(try other.epochs([user("a")]) == [5])
        #expect(other.known([user("a")]) == [5])
    }

    /// Revoking writes the user's row first, and presence may have had its epochs elsewhere until now.
    @Test func theUsersRowsCount() throws {
        let config = try Self.server.get().fresh()
        let users = MySQLUserStore(config.addresses[0], config)
        var put = UserPut()
        put.appID = "app"
        put.profile.userID = "a"
        put.profile.exists = true
        put.tokenEpoch = 7
        var batch = UserBatch()
        batch.users = [put]
        _ = try users.apply(batch)
        #expect(try tokens(config).epochs([user("a")]) == [7])
        try tokens(config).raise([revoking("a", 6)])
        #expect(try tokens(config).epochs([user("a")]) == [7])
        try tokens(config).raise([revoking("a", 8)])
        #expect(try tokens(config).epochs([user("a")]) == [8])
    }

    @Test func manyAtOnceNeitherBlockNorLoseEachOther() throws {
        let config = try Self.server.get().fresh()
        let names = (0..<50).map { "u\($0)" }
        let all = (1...4).map { writer in
            Later { () -> [String] in
                let store = MySQLTokenEpochs(config.addresses[0], config)
                do {
                    for epoch in 1...10 as ClosedRange<UInt64> {
                        let items = names.map { revoking($0, epoch * 4 + UInt64(writer)) }
                        try store.raise(writer % 2 == 0 ? items : items.reversed())
                    }
                    return []
                } catch { return ["\(error)"] }
            }
        }
        #expect(all.flatMap(\.value) == [])
        #expect(try tokens(config).epochs(names.map(user)) == Array(repeating: 44, count: 50))
    }

    @Test func whileTheDatabaseIsAwayNothingIsGuessed() throws {
        let server = try MariaDB()
        let config = try server.fresh()
        let clock = Clock()
        let store = tokens(config, clock)
        try store.raise([revoking("a", 2)])
        #expect(try store.epochs([user("a")]) == [2])
        server.kill()
        clock.pass()
        let began = ContinuousClock.now
        #expect(throws: Failure.self) { try store.epochs([user("a")]) }
        #expect(throws: Failure.self) { try store.epochs([user("b")]) }
        #expect(store.known([user("a"), user("b")]) == [2, 0])
        // Whether it was raised is not known, so what was read before is not believed any more.
        #expect(throws: Failure.self) { try store.raise([revoking("a", 3)]) }
        #expect(store.known([user("a")]) == [0])
        #expect(ContinuousClock.now - began < .seconds(5))
        try server.start()
        var found: [UInt64] = []
        for _ in 0..<100 where found.isEmpty {
            found = (try? store.epochs([user("a"), user("b")])) ?? []
            if found.isEmpty { usleep(50_000) }
        }
        #expect(found == [2, 0])
    }
}
