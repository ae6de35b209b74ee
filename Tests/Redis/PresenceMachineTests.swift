import EmbeddedStore
import Identity
import Ports
import RPC
import TestKit
import Testing
import Wire

@testable import RedisStore

/// The machines without a server: what is asked, and what an answer that fails in part becomes.
@Suite struct PresenceMachineTests {
    private typealias Script = MachineScript<RedisPresenceMachine>
    private static let down = Failure(.storeUnavailable, "down", retryAfterMS: 1000)

    private func script(partitions: Int = 4) throws -> Script {
        var config = RedisPresenceConfig()
        config.partitions = partitions
        return Script(RedisPresenceMachine(tokens: try SQLiteTokenEpochs(path: ":memory:"), config: config))
    }

    private func request(_ actions: [RoleAction<RedisRequest>]) throws -> RedisRequest {
        guard actions.count == 1, case .output(let request) = actions[0] else {
            throw RedisProtocolError(message: "no request: \(actions)")
        }
        return request
    }

    private func users(_ count: Int) -> [UserKey] {
        (0..<count).map { RedisPresenceMachine.key("demo", "user-\($0)") }
    }

    @Test func oneCommandAPartitionAndItsSlot() throws {
        var script = try script()
        var lookup = LookupRequest()
        lookup.users = users(100)
        let request = try request(script.call(.lookupRequest(lookup)).actions)
        #expect(request.commands.count == 4)
        #expect(Set(request.commands.map(\.slot)) == Set(PartitionTags(count: 4).slots))
        #expect(request.deadline == script.now.micros + 3_500_000)
        for command in request.commands {
            let key = Array(command.arguments.bytes[..<command.arguments.ends[0]])
            #expect(RedisSlot.of(key) == command.slot)
        }
    }

    @Test func usersOfAPartitionThatIsDownAreUnknown() throws {
        var script = try script()
        var lookup = LookupRequest()
        lookup.users = users(100)
        let (id, actions) = script.call(.lookupRequest(lookup))
        let request = try request(actions)
        var results: [RedisResult] = request.commands.map { command in
            let empty = RedisReply.array([.bytes([48]), .array([])])
            return .reply(.array([.integer(0)] + Array(repeating: empty, count: command.arguments.count - 3)))
        }
        results[1] = .refused(Self.down)
        let answer = Script.answer(to: id, in: script.event(.input(RedisResponse(id: request.id, results: results))))
        guard case .answered(.lookupResponse(let found)) = answer else {
            Issue.record("no answer")
            return
        }
        let unknown = found.results.filter { $0.state == .presenceUnknown }.count
        #expect(unknown == request.commands[1].arguments.count - 3 && unknown > 0)
        #expect(found.results.filter { $0.state == .presenceOffline }.count == 100 - unknown)
    }

    @Test func nobodyIsCalledAnythingWhenAllAreDown() throws {
        var script = try script()
        var lookup = LookupRequest()
        lookup.users = users(100)
        let (id, actions) = script.call(.lookupRequest(lookup))
        let request = try request(actions)
        let results: [RedisResult] = request.commands.map { _ in .unknown(Self.down) }
        let answer = Script.answer(to: id, in: script.event(.input(RedisResponse(id: request.id, results: results))))
        #expect(answer == .refused(Self.down))
    }

    @Test func aLeaseWithoutAllPartsIsNotAnswered() throws {
        var script = try script()
        var lease = LeaseRequest()
        lease.loginID = "login-1"
        let (id, actions) = script.call(.leaseRequest(lease))
        let request = try request(actions)
        #expect(request.commands.count == 4)
        let part = RedisReply.array([.bytes([55]), .integer(2), .bytes([]), .array([])])
        var results = [RedisResult](repeating: .reply(part), count: 4)
        results[3] = .unknown(Self.down)
        let answer = Script.answer(to: id, in: script.event(.input(RedisResponse(id: request.id, results: results))))
        #expect(answer == .refused(Self.down), "what is missing would look like lost sessions")
    }

    @Test func aPartThatBeganAnewGivesTheWholeLeaseAnotherLife() throws {
        var script = try script()
        var lease = LeaseRequest()
        lease.loginID = "login-1"
        let (id, actions) = script.call(.leaseRequest(lease))
        let first = try request(actions)
        func part(_ life: UInt8, _ kind: Int64) -> RedisResult {
            .reply(.array([.bytes([life]), .integer(kind), .bytes([]), .array([])]))
        }
        let parts = [part(56, 2), part(57, 0), part(56, 2), part(56, 2)]
        let adopts = try request(script.event(.input(RedisResponse(id: first.id, results: parts))))
        #expect(adopts.commands.count == 4, "all are told the new one")
        let answer = Script.answer(
            to: id,
            in: script.event(
                .input(
                    RedisResponse(id: adopts.id, results: Array(repeating: .reply(.integer(1)), count: 4)))))
        guard case .answered(.leaseResponse(let response)) = answer else {
            Issue.record("no answer: \(String(describing: answer))")
            return
        }
        #expect(response.life == 10)
    }

    @Test(
        arguments: [
            ([(7, 2), (7, 2)], 7, []),
            ([(7, 0), (9, 0)], 9, [0, 1]),
            ([(7, 1), (9, 0)], 7, [0, 1]),
            ([(7, 1), (8, 1), (9, 0)], 8, [0, 1, 2]),
            ([(7, 2), (9, 0)], 10, [0, 1]),
            ([(7, 2), (3, 0)], 8, [0, 1]),
            ([(7, 2), (9, 1)], 10, [0, 1]),
            ([(7, 2), (8, 2)], 9, [0, 1]),
        ] as [([(UInt64, UInt64)], UInt64, [Int])])
    func lives(parts: [(UInt64, UInt64)], life: UInt64, adopt: [Int]) throws {
        let parts = try parts.map { LeaseLives.Part(life: $0.0, kind: try #require(.init(rawValue: $0.1))) }
        #expect(LeaseLives.judge(parts) == LeaseLives.Verdict(life: life, adopt: adopt))
    }

    @Test func sumsOfPartsAreAdded() {
        var sums = [UInt64](repeating: 0, count: 3)
        RedisPresenceMachine.add([0, 0, 0, 0, 0, 0, 0, 5, 255, 255, 255, 255, 255, 255, 255, 255], to: &sums)
        RedisPresenceMachine.add([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2], to: &sums)
        #expect(sums == [(1 << 56) + 6, 1, 0])
    }
}

@Suite struct HotMachineTests {
    private typealias Script = MachineScript<RedisHotMachine>

    private func row(_ name: String, _ seq: UInt64) -> StoredRow { RecentStoreContract.row(name, seq) }

    @Test func rowsComeBackAsTheyWere() throws {
        var row = row("p:alice|bob", 7)
        row.sender = "é"
        row.targetSeq = 3
        row.control = true
        row.lost = true
        row.n = HotRow.largest
        let bytes = try #require(HotRow.encode(row))
        #expect(HotRow.decode(bytes, app: "demo", conversation: "p:alice|bob") == row)
        for count in 0..<(bytes.count - row.message.count) {
            #expect(HotRow.decode(Array(bytes[..<count]), app: "demo", conversation: "c") == nil)
        }
        row.seq = 0
        #expect(HotRow.encode(row) == nil)
        row.seq = HotRow.largest + 1
        #expect(HotRow.encode(row) == nil)
    }

    @Test func aPutThatFailsInPartNamesItsRows() throws {
        var script = Script(RedisHotMachine())
        var put = HotPut()
        put.rows = [row("g:a", 1), row("g:b", 1), row("g:a", 2)]
        let (id, actions) = script.call(.hotPut(put))
        guard case .output(let request)? = actions.first else {
            Issue.record("no request")
            return
        }
        #expect(request.commands.count == 2)
        let down = Failure(.storeUnavailable, "down")
        let response = RedisResponse(id: request.id, results: [.reply(.integer(1)), .refused(down)])
        guard case .answered(.done(let done)) = Script.answer(to: id, in: script.event(.input(response))) else {
            Issue.record("no answer")
            return
        }
        #expect(done.failures.map(\.code) == [0, down.code, 0])
    }

    @Test func claimsTravelWithTheirRows() throws {
        var script = Script(RedisHotMachine())
        var put = HotPut()
        put.rows = [row("g:a", 1), row("g:a", 2), row("g:a", 3), row("g:a", 4)]
        put.fences = ([(3, 5, 1), (3, 6, 2)] as [(UInt32, UInt64, UInt32)]).map { bucket, epoch, rows in
            HotFence.with {
                $0.bucket = bucket
                $0.epoch = epoch
                $0.rows = rows
            }
        }
        guard case .output(let request)? = script.call(.hotPut(put)).actions.first else {
            Issue.record("no request")
            return
        }
        let words = request.commands.map { command -> [String] in
            var start = 0
            return command.arguments.ends.map { end in
                defer { start = end }
                return String(decoding: command.arguments.bytes[start..<end], as: UTF8.self)
            }
        }
        #expect(words.map { Array($0[1...2]) } == [["3", "5"], ["3", "6"], ["", "0"]])
        #expect(words.map { $0[8] } == ["1", "2", "1"])
    }

    @Test func pagesThatAreNotDenseAreMisses() throws {
        var script = Script(RedisHotMachine())
        var read = ReadRows()
        read.queries = [RecentStoreContract.query("g:a"), RecentStoreContract.query("g:a")]
        let (id, actions) = script.call(.readRows(read))
        guard case .output(let request)? = actions.first else {
            Issue.record("no request")
            return
        }
        #expect(request.commands.count == 1)
        let rows = [1, 2, 4].compactMap { HotRow.encode(row("g:a", $0)) }
        func page(_ rows: [[UInt8]]) -> RedisReply {
            .array([.bytes(Array((rows.last ?? [])[..<HotRow.headBytes])), .array(rows.map { .bytes($0) }), .array([])])
        }
        let response = RedisResponse(id: request.id, results: [.reply(.array([page(rows), page(Array(rows[..<2]))]))])
        guard case .answered(.rowsRead(let answer)) = Script.answer(to: id, in: script.event(.input(response))) else {
            Issue.record("no answer")
            return
        }
        #expect(answer.pages.map(\.hasFailure) == [true, false])
        #expect(answer.pages[1].rows.map(\.seq) == [1, 2])
    }
}
