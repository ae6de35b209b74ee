import Foundation
import Identity
import Testing
import Wire

@testable import MartletCheck

@Suite struct PartsTests {
    static let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

    private func file(_ text: String) throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-check-\(UUID()).json").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    /// Signature computed with Python's hmac over the same two parts.
    @Test func tokenIsAnHS256JWT() throws {
        let path = try file(#"{"app":"demo","key_id":"k-1","secret":"\#(Self.secret)","users":{"a":"b"}}"#)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let access = try AccessFile.load(path)
        let token = try DevToken.make(access, user: "alice", nowSeconds: 1000, lifeSeconds: 600)
        #expect(
            token == "eyJhbGciOiJIUzI1NiIsImtpZCI6ImstMSIsInR5cCI6IkpXVCJ9."
                + "eyJhcHAiOiJkZW1vIiwiZXhwIjoxNjAwLCJpYXQiOjEwMDAsInN1YiI6ImFsaWNlIn0."
                + "IUDdJkQfiQQ72_WGRBqNvsCyHqXmGk7Pt75Ydx0WxF8")
    }

    @Test func aBadAccessFileIsOneClearLine() throws {
        let path = try file(#"{"app":"demo"}"#)
        defer { try? FileManager.default.removeItem(atPath: path) }
        for bad in [path, path + ".missing"] {
            #expect {
                try AccessFile.load(bad)
            } throws: { error in
                guard case CheckError.cannotStart(let words) = error else { return false }
                return words.contains(bad) && !words.contains("\n")
            }
        }
    }

    @Test func theSameSeedGivesTheSameWork() {
        func orders(_ seed: UInt64) -> [Workload.Order] {
            let roster = Roster(users: 20, devicesPerUser: 2, partners: 2, seed: seed, tag: "c1")
            var workload = Workload(roster: roster, config: CheckConfig(), rate: 10, seed: seed)
            return (0..<300).flatMap { _ in workload.step(micros: 10_000) }
        }
        let one = orders(5)
        #expect(one == orders(5))
        #expect(one != orders(6))
        var sent = 0
        for case .send(_, _, let count) in one { sent += count }
        // Three seconds of 200 a second.
        #expect((590...610).contains(sent))
        #expect(one.contains { if case .disconnect = $0 { true } else { false } })
        #expect(one.contains { if case .read = $0 { true } else { false } })
    }

    @Test func everyUserHasAPartnerAndNobodyIsTheirOwn() {
        let roster = Roster(users: 30, devicesPerUser: 2, partners: 2, seed: 4, tag: "c1")
        #expect(roster.conversationsOf.allSatisfy { !$0.isEmpty })
        for conversation in roster.conversations {
            #expect(conversation.members[0] != conversation.members[1])
            let named = ConversationName(conversation.name)?.members.sorted()
            #expect(named == conversation.members.map { roster.users[$0] }.sorted())
        }
        #expect(Set(roster.devicesOf[3].map { roster.devices[$0].platform }).count == 2)
    }

    @Test func aMessageIsRecognizedOnlyWhenAllOfItFits() throws {
        let roster = Roster(users: 3, devicesPerUser: 1, partners: 1, seed: 4, tag: "c1")
        var message = ChatMessage()
        message.sender = roster.users[1]
        message.device = "d0"
        message.content = Data(roster.text(70_001).utf8)
        message.clientMsgID = Roster.messageID(70_001, timeMS: 5, random: 99)
        func row(_ message: ChatMessage) throws -> Row {
            var pushed = PushedMessage()
            pushed.message = try message.serializedData()
            return roster.row(pushed)
        }
        let known = try row(message)
        #expect(known.number == 70_001)
        #expect(known.device == 1)
        #expect(MessageID.timeMS(Array(message.clientMsgID)) == 5)
        var other = message
        other.content = Data(roster.text(70_002).utf8)
        #expect(try row(other).number == nil)
        other = message
        other.content.append(0x6c)
        #expect(try row(other).number == nil)
        other = message
        other.device = "d1"
        #expect(try row(other).number == nil)
    }

    @Test func quantilesAreExact() {
        var times = Quantiles()
        for value in (1...1000).shuffled() { times.add(UInt64(value) * 1000) }
        #expect(times.milliseconds([0.5, 0.75, 0.99, 0.999]) == [500, 750, 990, 999])
        #expect(Quantiles().milliseconds([0.5]) == [0])
    }

    @Test func seqSetKnowsHoles() {
        var set = SeqSet()
        for seq in [UInt64(1), 2, 5, 4] {
            let isNew = set.insert(seq)
            #expect(isNew)
        }
        #expect(set.dense == 2)
        let repeated = set.insert(5)
        let filled = set.insert(3)
        #expect(!repeated && filled)
        #expect(set.dense == 5 && set.ahead.isEmpty)
        #expect(!set.contains(6) && set.contains(1))
    }

    @Test func killsAreSpreadAndOnlyListedProcessesDie() throws {
        let child = Process()
        child.executableURL = URL(fileURLWithPath: "/bin/sleep")
        child.arguments = ["60"]
        try child.run()
        let path = try file(#"{"login": [\#(child.processIdentifier)], "init": [1]}"#)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var killer = Killer(
            services: ["login", "init", "ghost"], pidFile: path, count: 3, runMicros: 40_000_000,
            patience: 5_000_000)
        killer.tick(elapsed: 9_900_000)
        #expect(killer.kills == 0)
        killer.tick(elapsed: 10_000_000)
        #expect(killer.kills == 1)
        child.waitUntilExit()
        #expect(child.terminationStatus == SIGKILL)
        killer.tick(elapsed: 20_000_000)
        #expect(killer.failures.isEmpty)
        killer.tick(elapsed: 25_000_000)
        #expect(killer.kills == 1)
        #expect(killer.failures.count == 1)
        killer.end()
        #expect(killer.failures.count == 2)
    }

    @Test func addressesAreParsedOrRefused() throws {
        let two = try CheckCommand.parse(["--server", "127.0.0.1:1,localhost:65535"])
        #expect(two.servers.map(\.port) == [1, 65_535])
        for bad in ["", "host", "host:", ":80", "host:0", "host:70000", "a:1,b"] {
            #expect(throws: (any Error).self, "\(bad)") { try CheckCommand.parse(["--server", bad]) }
        }
        for bad in [["--users", "1"], ["--devices", "3"], ["--kill", "login"], ["--kills", "2"], ["--rate", "0"]] {
            #expect(throws: (any Error).self, "\(bad)") { try CheckCommand.parse(bad) }
        }
    }
}
