import Foundation
import Machinery
import Testing
import Wire

@testable import Simulator

/// The checker can fail: one mistake on purpose at a time, found under its own name.
@Suite struct SuiteMistakeTests {
    struct Mistake: CustomTestStringConvertible, Sendable {
        let name: String
        let kind: Violation.Kind
        /// Whether it takes a storm to matter; then the first of several seeds that shows it is enough.
        var storm = false
        let make: @Sendable (inout SuiteOptions) -> Void
        var testDescription: String { name }

        init(
            _ name: String, _ kind: Violation.Kind, storm: Bool = false,
            _ make: @escaping @Sendable (inout SuiteOptions) -> Void
        ) {
            (self.name, self.kind, self.storm, self.make) = (name, kind, storm, make)
        }
    }

    static let roles: [Mistake] = [
        Mistake("IM drops a message", .lost) { $0.imFault = FaultHook(.dropOne, after: 3) },
        Mistake("IM doubles a message", .duplicated) { $0.imFault = FaultHook(.doubleOne, after: 3) },
        Mistake("IM swaps two messages", .outOfOrder) { $0.imFault = FaultHook(.swapTwo, after: 3) },
        Mistake("IM miscounts a message", .unread) { $0.imFault = FaultHook(.miscountOne, after: 3) },
        Mistake("MsgProxy drops a message", .lost) { $0.proxyFault = FaultHook(.dropOne, after: 3) },
        Mistake("MsgProxy doubles a message", .duplicated) { $0.proxyFault = FaultHook(.doubleOne, after: 3) },
        Mistake("MsgProxy swaps two messages", .outOfOrder) { $0.proxyFault = FaultHook(.swapTwo, after: 3) },
        Mistake("MsgProxy miscounts a message", .unread) { $0.proxyFault = FaultHook(.miscountOne, after: 3) },
        Mistake("MsgWriter drops a message", .lost) { $0.writerFault = FaultHook(.dropOne, after: 3) },
        Mistake("MsgWriter doubles a message", .duplicated) { $0.writerFault = FaultHook(.doubleOne, after: 3) },
        Mistake("MsgWriter swaps two messages", .outOfOrder) { $0.writerFault = FaultHook(.swapTwo, after: 3) },
        Mistake("MsgWriter miscounts a message", .unread) {
            $0.writerFault = FaultHook(.miscountOne, after: 3)
            $0.change = { $0.recent.faults.takesAnyCount = true }
        },
        // The last of a conversation: nothing behind it shows the hole.
        Mistake("Login drops pushes", .notShown) { $0.loginFault = { _, _ in .drop } },
        Mistake("Login pushes another count", .unread) {
            $0.loginFault = { _, message in
                var other = message
                other.n += 1
                return .sendInstead(other)
            }
        },
        Mistake("Login pushes what is not stored", .shownWrong) {
            $0.loginFault = { _, message in
                var other = message
                other.timeMs += 1
                return .sendInstead(other)
            }
        },
    ]

    static let stores: [Mistake] = [
        Mistake("the recent store forgets dedup keys", .duplicated, storm: true) {
            $0.change = { $0.recent.faults.forgetsKeys = true }
        },
        Mistake("the recent store ignores epochs", .deliveredEarly, storm: true) {
            $0.change = { $0.recent.faults.ignoresEpochs = true }
        },
        Mistake("the log does not reach the disk", .lost, storm: true) { $0.change = { $0.log.forgetsUnsaved = true } },
        Mistake("the hot store drops rows", .deliveredEarly) { $0.change = { $0.hot.dropsRows = true } },
        Mistake("presence loses a registration and does not say so", .unregistered) {
            // When everything has been said: nothing else shows it.
            $0.change = { $0.presence.losesOneAtMicros = 1_013_000_000 }
        },
        Mistake("another log is replayed", .replayDiffers, storm: true) {
            var worlds = 0
            $0.change = { stores in
                worlds += 1
                stores.recent.faults.forgetsKeys = worlds > 1
            }
        },
    ]

    static let devices: [Mistake] = [
        Mistake("devices do not sync", .notShown) {
            // One device writes at once, the others come later: nothing that is sent to them shows what they missed.
            $0.messages = 1
            $0.tune = { device in
                device.rules.syncs = false
                let writes = device.device == "ann-phone"
                device.messages = writes ? 1 : 0
                device.firstLoginByMS = writes ? 0 : 5000
                device.writesUntilMS = 500
            }
        },
        Mistake("devices ignore holes", .notShown, storm: true) { $0.tune = { $0.rules.repairsHoles = false } },
        Mistake("devices forget message ids", .invented, storm: true) {
            $0.tune = { $0.rules.keepsMessageIDs = false }
        },
        Mistake("devices show what comes", .shownOutOfOrder, storm: true) {
            $0.tune = { $0.rules.showsDensePrefix = false }
        },
        Mistake("devices show what they have shown", .shownTwice, storm: true) {
            $0.tune = { $0.rules.ignoresKnownSeqs = false }
        },
        Mistake("devices resend in any order", .outOfOrder, storm: true) {
            $0.tune = { $0.rules.resendsInOrder = false }
        },
        Mistake("devices never connect", .stuck) { $0.tune = { $0.firstLoginByMS = .max } },
        Mistake("devices have no token", .shutOut) { $0.tune = { $0.token = "none" } },
    ]

    @Test func nothingIsFoundWithoutAMistake() {
        let outcome = Self.calm { _ in }.run()
        #expect(outcome.violations == [])
        #expect(outcome.warnings == [])
    }

    @Test(arguments: roles + stores + devices) func isFound(_ mistake: Mistake) {
        var found: Set<Violation.Kind> = []
        for seed: UInt64 in mistake.storm ? 1...20 : 11...11 where !found.contains(mistake.kind) {
            var scenario = Self.calm(mistake.make)
            scenario.storm = mistake.storm
            scenario.seed = seed
            scenario.options.seed = seed
            found.formUnion(scenario.run().violations.map(\.kind))
        }
        #expect(found.contains(mistake.kind), "only \(found.map(\.rawValue).sorted())")
    }

    /// One frame or call is dropped on purpose and nothing is sent behind it: repeats and retries heal it.
    @Test(arguments: ["pushproxy", "pushserver", "pushworker", "login"]) func lastMessageArrives(
        droppedAt place: String
    ) {
        let outcome = Self.calm { options in
            // One message in each conversation, by one device.
            options.users = ["ann", "bob"]
            options.latecomers = 0
            options.tune = { if $0.device != "ann-phone" { $0.messages = 0 } }
            options.messages = 1
            switch place {
            case "pushproxy": options.pushProxyDrop = 1
            case "pushserver": options.pushServerDrop = 1
            case "pushworker": options.pushWorkerDrop = 1
            default: options.loginFault = { number, _ in number == 1 ? .skipFirstWrite : .none }
            }
        }.run()
        #expect(outcome.violations == [])
        #expect(outcome.accepted == 1 && outcome.rows == 1)
        #expect(outcome.shown["push"] ?? 0 >= 2)
    }

    /// Every kind of violation is shown by some test.
    @Test func everyKindCanBeFound() {
        let here = (Self.roles + Self.stores + Self.devices).map(\.kind)
        let below: [Violation.Kind] = [.notDense, .storedThoughRefused, .leftOver]
        #expect(Set(here + below) == Set(Violation.Kind.allCases))
    }

    // MARK: Rows that no role can be made to write

    private func check(_ change: (inout [StoredRow], inout OwnMessage) -> Void) -> [Violation.Kind] {
        var item = SendItem()
        item.kind = .contentText
        item.clientMsgID = Data(repeating: 5, count: 16)
        var own = OwnMessage(item: item)
        own.state = .accepted
        var message = ChatMessage()
        message.sender = "ann"
        message.device = "ann-phone"
        message.clientMsgID = item.clientMsgID
        var row = StoredRow()
        row.seq = 1
        row.n = 1
        row.timeMs = 1000
        row.message = (try? message.serializedBytes() as Data) ?? Data()
        var rows = [row]
        change(&rows, &own)
        let name = SimulatedRecentStore.Name("app", "ann:bob")
        let lane = SentLane(name: name, user: "ann", device: "ann-phone", messages: [own], isSettled: true)
        var promises = RowPromises(lanes: [lane], rows: [name: rows])
        return promises.check().map(\.kind)
    }

    @Test func rowsThatNobodyCanWriteAreFoundToo() {
        #expect(check { _, _ in } == [])
        #expect(check { rows, _ in rows[0].seq = 2 } == [.notDense])
        #expect(check { _, own in own.state = .refused("no") } == [.storedThoughRefused])
        #expect(check { rows, _ in rows[0].message = Data() } == [.lost, .invented])
    }

    @Test func leftOversAreFound() {
        struct PushWorkerMachine { var lanes = [1, 2] }
        let found = LeftOvers.check(["pushworker/1": Footprint(of: PushWorkerMachine())])
        #expect(found.map(\.kind) == [.leftOver])
        #expect(LeftOvers.check(["pushworker/1": Footprint(of: PushWorkerMachine(lanes: []))]) == [])
    }

    /// A suite on a good day, at its usual limits.
    private static func calm(_ make: (inout SuiteOptions) -> Void) -> SuiteScenario {
        var scenario = SuiteScenario(seed: 11)
        scenario.storm = false
        scenario.options = SuiteOptions(seed: 11)
        make(&scenario.options)
        return scenario
    }
}
