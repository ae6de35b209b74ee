import Foundation
import Logging
import Machinery
import MySQLStore
import Ports
import RPC
import Synchronization
import TestKit
import Testing
import Wire

/// Writers that are paused, answers that are lost, servers that die: what was stored is stored once, and nobody
/// guesses.
@Suite(.serialized) struct FaultServerTests {
    private static let server = Result { try MariaDB() }
    private typealias Contract = RecentStoreContract

    private func store(_ config: MySQLConfig) -> MySQLRecentStore { MySQLRecentStore(config.addresses[0], config) }

    private func rows(_ conversation: String, _ seqs: ClosedRange<UInt64>) -> [StoredRow] {
        seqs.map { Contract.row(conversation, $0, key: UInt8($0)) }
    }

    private func count(_ server: MariaDB, _ config: MySQLConfig) throws -> String {
        let found = try server.sql(
            "SELECT count(*), count(DISTINCT conv, seq), (SELECT count(*) FROM dedup) FROM messages",
            database: config.addresses[0].database)
        return found.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    // MARK: two writers

    /// One is stopped with its COMMIT on the way; the server gives its transaction up; the other claims and stores;
    /// then the first wakes up.
    @Test func aZombieThatWakesUpAfterTheOther() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let relay = try Relay(to: server.port)
        var slow = server.config(config.addresses[0].database, port: relay.port)
        slow.idleTransactionS = 3
        slow.lockWaitS = 1
        var direct = config
        direct.lockWaitS = 1
        let (zombie, other) = (store(slow), store(direct))
        let old = Contract.claim(zombie, 3)
        relay.next(.hold)
        let late = Later { zombie.commit([Contract.commit(3, old.epoch, 0, 2, self.rows("p:a|b", 1...2))]) }
        #expect(waits { relay.holding == 1 })
        // While the transaction holds the bucket nobody gets it, and says so.
        #expect(Contract.claim(other, 3).failure.retryable)
        var new = BucketClaimResult()
        #expect(
            waits {
                new = Contract.claim(other, 3)
                return !new.hasFailure
            })
        #expect(new.epoch == old.epoch + 1 && new.stored == 0)
        let states = other.commit([Contract.commit(3, new.epoch, 0, 3, rows("p:a|b", 1...3))]).map(\.state)
        #expect(states == [.commitDone])
        relay.release()
        #expect(late.value.map(\.state) == [.commitConflict])
        #expect(try count(server, config) == "3\t3\t3")
        // And it stays out: its epoch is over.
        #expect(
            zombie.commit([Contract.commit(3, old.epoch, 0, 2, rows("p:a|b", 1...2))]).map(\.state) == [.commitConflict]
        )
        #expect(try count(server, config) == "3\t3\t3")
    }

    /// It wakes up while the other waits for its row: what it stored is there when the other begins.
    @Test func aZombieThatWakesUpInTime() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let relay = try Relay(to: server.port)
        let (slow, other) = (store(server.config(config.addresses[0].database, port: relay.port)), store(config))
        let old = Contract.claim(slow, 3)
        relay.next(.hold)
        let late = Later { slow.commit([Contract.commit(3, old.epoch, 0, 2, self.rows("p:a|b", 1...2))]) }
        #expect(waits { relay.holding == 1 })
        let claiming = Later { [Contract.claim(other, 3)] }
        usleep(300_000)
        relay.release()
        #expect(late.value.map(\.state) == [.commitDone])
        let new = try #require(claiming.value.first)
        #expect([new.epoch, new.stored] == [old.epoch + 1, 2])
        #expect(
            slow.commit([Contract.commit(3, old.epoch, 2, 3, rows("p:a|b", 3...3))]).map(\.state) == [.commitConflict])
        #expect(
            other.commit([Contract.commit(3, new.epoch, 2, 3, rows("p:a|b", 3...3))]).map(\.state) == [.commitDone])
        #expect(try count(server, config) == "3\t3\t3")
    }

    // MARK: lost answers

    @Test func aCommitWhoseAnswerIsLostIsFoundOut() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let relay = try Relay(to: server.port)
        let store = store(server.config(config.addresses[0].database, port: relay.port))
        let claim = Contract.claim(store, 1)
        let first = Contract.commit(1, claim.epoch, 0, 2, rows("p:a|b", 1...2))
        relay.next(.cutAnswer)
        #expect(store.commit([first]).map(\.state) == [.commitDone], "it was stored, and that can be seen")
        #expect(try count(server, config) == "2\t2\t2")
        let second = Contract.commit(1, claim.epoch, 2, 3, rows("p:a|b", 3...3))
        relay.next(.cutBefore)
        #expect(store.commit([second]).map(\.state) == [.commitUnavailable], "it was not stored, and that can be seen")
        #expect(try count(server, config) == "2\t2\t2")
        #expect(store.commit([second]).map(\.state) == [.commitDone])
        #expect(try count(server, config) == "3\t3\t3")
    }

    /// Nobody can be asked: then the writer has to claim again, which asks.
    @Test func aLostAnswerOfAServerThatStaysAwayEndsTheClaim() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let relay = try Relay(to: server.port)
        let store = store(server.config(config.addresses[0].database, port: relay.port))
        let claim = Contract.claim(store, 1)
        relay.next(.hold)
        let late = Later { store.commit([Contract.commit(1, claim.epoch, 0, 2, self.rows("p:a|b", 1...2))]) }
        #expect(waits { relay.holding == 1 })
        relay.set(down: true)
        #expect(late.value.map(\.state) == [.commitConflict])
        #expect(
            store.commit([Contract.commit(1, claim.epoch, 0, 2, rows("p:a|b", 1...2))]).map(\.state) == [
                .commitUnavailable
            ])
        relay.set(down: false)
        var again = BucketClaimResult()
        #expect(
            waits {
                again = Contract.claim(store, 1)
                return !again.hasFailure
            })
        #expect(again.stored == 0 && again.epoch > claim.epoch)
        #expect(
            store.commit([Contract.commit(1, again.epoch, 0, 2, rows("p:a|b", 1...2))]).map(\.state) == [.commitDone])
        #expect(try count(server, config) == "2\t2\t2")
    }

    @Test func usersWhoseAnswerIsLostAreStoredOnce() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let relay = try Relay(to: server.port)
        let store = MySQLUserStore(
            server.config(config.addresses[0].database, port: relay.port).addresses[0],
            server.config(config.addresses[0].database, port: relay.port))
        var batch = UserBatch()
        batch.changes = [UserStoreContract.change("alice", "p:alice|bob", read: 3)]
        relay.next(.cutAnswer)
        #expect(try store.apply(batch).rows.map(\.version) == [1])
        batch = UserBatch()
        var app = App()
        app.appID = "demo"
        batch.comparedApps = [app]
        relay.next(.cutAnswer)
        #expect(try store.apply(batch).writtenApps == [true], "our own write is not taken for another's")
        #expect(try store.apps(["demo"]).map(\.version) == [1])
        app.version = 1
        batch.comparedApps = [app]
        relay.next(.cutBefore)
        #expect(try store.apply(batch).writtenApps == [true])
        #expect(try store.apps(["demo"]).map(\.version) == [2])
        // Nobody can be asked.
        app.version = 2
        batch.comparedApps = [app]
        relay.next(.hold)
        let last = batch
        let late = Later { () -> [String] in
            do throws(Failure) { return try store.apply(last).writtenApps.map { "\($0)" } } catch {
                return [error.reason]
            }
        }
        #expect(waits { relay.holding == 1 })
        relay.set(down: true)
        #expect(late.value == ["outcome_unknown"])
    }

    // MARK: a server that dies

    /// Ten thousand rows while the server is killed three times; the writer does what MsgWriter does.
    @Test func killedUnderLoadKeepsWhatItHasAcknowledged() throws {
        let server = try MariaDB()
        let config = try server.fresh()
        let store = store(config)
        let progress = Progress()
        let writing = Later { () -> [String] in
            var epoch: UInt64 = 0
            var stored: UInt64 = 0
            var wrong: [String] = []
            let end = ContinuousClock.now + .seconds(120)
            while !progress.isOver.load(ordering: .relaxed) || progress.stored.load(ordering: .relaxed) < 1000 {
                guard ContinuousClock.now < end else { return ["it takes too long"] }
                if epoch == 0 {
                    let claim = Contract.claim(store, 2)
                    guard !claim.hasFailure else {
                        usleep(20_000)
                        continue
                    }
                    if claim.stored < progress.stored.load(ordering: .relaxed) { wrong.append("lost: \(claim.stored)") }
                    (epoch, stored) = (claim.epoch, claim.stored)
                }
                let rows = (stored + 1...stored + 20).map {
                    Contract.row("p:a|b", $0, key: UInt8(truncatingIfNeeded: $0))
                }
                let state = store.commit([Contract.commit(2, epoch, stored, stored + 20, rows)]).first?.state
                switch state {
                case .commitDone:
                    stored += 20
                    progress.stored.store(Int(stored), ordering: .relaxed)
                case .commitConflict: epoch = 0
                default: usleep(20_000)
                }
            }
            return wrong
        }
        for _ in 0..<3 {
            let before = progress.stored.load(ordering: .relaxed)
            #expect(waits { progress.stored.load(ordering: .relaxed) > before + 200 })
            server.kill()
            usleep(200_000)
            try server.start()
        }
        progress.isOver.store(true, ordering: .relaxed)
        #expect(writing.value == [])
        let found = try server.sql(
            "SELECT count(*), max(seq), (SELECT stored FROM buckets), (SELECT seq FROM conversations) FROM messages",
            database: config.addresses[0].database)
        let number = progress.stored.load(ordering: .relaxed)
        #expect(found.split(whereSeparator: \.isWhitespace) == Array(repeating: "\(number)", count: 4).map { $0[...] })
    }

    @Test func aConnectionThatTheServerHasClosedIsRenewed() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let store = store(config)
        let claim = Contract.claim(store, 1)
        let kill = """
            SELECT group_concat(concat('KILL ', id) SEPARATOR ';') FROM information_schema.processlist WHERE db = \
            '\(config.addresses[0].database)'
            """
        try server.sql(try server.sql(kill))
        #expect(
            store.commit([Contract.commit(1, claim.epoch, 0, 1, rows("p:a|b", 1...1))]).map(\.state) == [.commitDone])
        try server.sql(try server.sql(kill))
        #expect(store.rows([Contract.query("p:a|b")]).map(\.rows.count) == [1])
    }

    // MARK: rows that do not fit, deadlocks

    @Test func aBucketWithRowsThatDoNotFitWaitsAlone() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let store = store(config)
        let claims = [1, 2].map { Contract.claim(store, $0) }
        var bad = Contract.row("p:a|b", 1)
        bad.sender = String(repeating: "x", count: 300)
        let results = store.commit([
            Contract.commit(1, claims[0].epoch, 0, 1, [bad]),
            Contract.commit(2, claims[1].epoch, 0, 1, [Contract.row("p:c|d", 1)]),
        ])
        #expect(results.map(\.state) == [.commitUnavailable, .commitDone], "cut short is not stored")
        #expect(results[0].failure.message.contains("sender"))
    }

    /// Batches over the same users in every order, from four connections at once.
    @Test func crossingBatchesOfUsersAllSucceed() throws {
        let server = try Self.server.get()
        let config = try server.fresh()
        let users = (0..<12).map { "user-\($0)" }
        let threads = (0..<4).map { number in
            Later { () -> [String] in
                let store = MySQLUserStore(config.addresses[0], config)
                var random = SeededRandom(seed: UInt64(number))
                var wrong: [String] = []
                for round in 1...40 {
                    var batch = UserBatch()
                    for user in users.shuffled(using: &random).prefix(6) {
                        batch.changes.append(
                            UserStoreContract.change(user, "g:\(number)", read: UInt64(round)))
                    }
                    do throws(Failure) { _ = try store.apply(batch) } catch { wrong.append(error.message) }
                }
                return wrong
            }
        }
        #expect(threads.flatMap(\.value) == [])
        // Every change has a version of its own: none was overwritten.
        let found = try server.sql(
            "SELECT count(*) FROM users u WHERE u.version <> (SELECT max(version) FROM entries e WHERE e.user = u.no) "
                + "OR EXISTS (SELECT 1 FROM entries e WHERE e.user = u.no GROUP BY e.version HAVING count(*) > 1)",
            database: config.addresses[0].database)
        #expect(found.trimmingCharacters(in: .whitespacesAndNewlines) == "0")
    }
}

/// How far a writer is.
final class Progress: Sendable {
    let isOver = Atomic<Bool>(false)
    /// Rows that were acknowledged.
    let stored = Atomic<Int>(0)
}

/// Work on a thread of its own, and what it came to.
final class Later<Value: Sendable>: Sendable {
    private let result = Mutex<Value?>(nil)
    private let done = DispatchSemaphore(value: 0)

    init(_ work: @escaping @Sendable () -> Value) {
        OwnedThread.start(name: "later") {
            let value = work()
            self.result.withLock { $0 = value }
            self.done.signal()
        }
    }

    /// Waits for it.
    var value: Value {
        done.wait()
        done.signal()
        guard let value = result.withLock({ $0 }) else { preconditionFailure("signalled before it was there") }
        return value
    }
}
