import Foundation
import RPC
import Testing
import Wire

@testable import MsgReaderRole
@testable import UserRole

/// Many callers at once: their questions go out in calls that the stores take and can answer in one frame.
@Suite struct MergedReadTests {
    typealias Reader = Script<MsgReaderMachine>
    typealias User = Script<UserMachine>

    static func heads(_ names: Range<Int>, marks: String = "") -> Payload {
        .readHeads(
            .with {
                $0.shardMarks = Data(marks.utf8)
                $0.queries = names.map { number in .with { $0.conversation = "g:\(number)" } }
            })
    }

    static func names(_ asked: Asked) -> [String] {
        switch asked.payload {
        case .readHeads(let request): request.queries.map(\.conversation)
        case .readRows(let request): request.queries.map(\.conversation)
        default: []
        }
    }

    /// The first `most` of the heads asked for.
    static func answer(_ asked: Asked, most: Int = .max) -> Payload {
        .headsRead(
            .with {
                $0.heads = names(asked).prefix(most).map { name in .with { $0.last.conversation = name } }
                $0.shardMarks = Data("m".utf8)
            })
    }

    static func read(_ payload: Payload?) -> [String]? {
        guard case .headsRead(let read)? = payload else { return nil }
        return read.heads.map(\.last.conversation)
    }

    @Test func aReconnectStormIsManyCalls() throws {
        var reader = Reader(MsgReaderMachine(instance: "m1"))
        let callers = (0..<30).map { reader.take(Self.heads($0 * 200..<$0 * 200 + 200)).id }
        let asked = reader.flush().asked
        #expect(asked.allSatisfy { $0.address == .any(.recentStore) && Self.names($0).count <= 500 })
        #expect(asked.flatMap(Self.names) == (0..<6000).map { "g:\($0)" })
        var done: [RoleAction<Never>] = []
        for call in asked { done += reader.answer(call, Self.answer(call)) }
        for (number, id) in callers.enumerated() {
            #expect(Self.read(done.reply(id)) == (number * 200..<number * 200 + 200).map { "g:\($0)" })
        }
    }

    @Test func aStoreThatFailsFailsFew() throws {
        var reader = Reader(MsgReaderMachine(instance: "m1"))
        let callers = (0..<4).map { reader.take(Self.heads($0 * 250..<$0 * 250 + 250)).id }
        let asked = reader.flush().asked
        #expect(asked.count == 2)
        let done = reader.answer(asked[0], refused) + reader.answer(asked[1], Self.answer(asked[1]))
        #expect(callers.map { done.refusal($0) != nil } == [true, true, false, false])
    }

    @Test func headsThatDidNotFitAreAskedForAgain() throws {
        var reader = Reader(MsgReaderMachine(instance: "m1"))
        let one = reader.take(Self.heads(0..<3)).id
        let two = reader.take(Self.heads(3..<6)).id
        let three = reader.take(Self.heads(6..<9)).id
        let asked = try reader.flush().first()
        let done = reader.answer(asked, Self.answer(asked, most: 4))
        #expect(Self.read(done.reply(one)) == ["g:0", "g:1", "g:2"])
        #expect(Self.read(done.reply(two)) == ["g:3"], "what came of it")
        #expect(done.reply(three) == nil)
        let again = try done.first()
        #expect(Self.names(again) == ["g:6", "g:7", "g:8"])
        #expect(Self.read(reader.answer(again, Self.answer(again)).reply(three)) == ["g:6", "g:7", "g:8"])
        #expect(reader.machine.headsWaiting == 0)
        // An answer without any head would be asked for again for ever.
        let four = reader.call(Self.heads(0..<2))
        #expect(reader.answer(try four.actions.first(), .headsRead(HeadsRead())).refusal(four.id) != nil)
    }

    @Test func pagesOfManyAreSeveralCallsAndFullAnswersGoOn() throws {
        var reader = Reader(MsgReaderMachine(instance: "m1"))
        func rows(_ names: Range<Int>) -> Payload {
            .readRows(
                .with {
                    $0.queries = names.map { number in
                        .with {
                            $0.conversation = "g:\(number)"
                            $0.limit = 1
                        }
                    }
                })
        }
        func pages(_ asked: Asked, most: Int = .max) -> Payload {
            .rowsRead(
                .with {
                    $0.pages = Self.names(asked).enumerated().map { index, name in
                        .with {
                            if index >= most {
                                $0.failure = Failure(.overloaded, "too much for one answer")
                            } else {
                                $0.head.seq = 1
                                $0.rows = [
                                    .with {
                                        $0.seq = 1
                                        $0.conversation = name
                                    }
                                ]
                            }
                        }
                    }
                })
        }
        let calls = (0..<82).map { reader.take(rows($0 * 50..<$0 * 50 + 50)).id }
        let hot = reader.flush().asked
        #expect(hot.count == 9 && hot.allSatisfy { Self.names($0).count <= 500 })
        var recent: [Asked] = []
        for call in hot { recent += reader.answer(call, refused).asked(.any(.recentStore)) }
        #expect(recent.count == 9 && recent.allSatisfy { Self.names($0).count <= 500 })
        var done: [RoleAction<Never>] = []
        while !recent.isEmpty {
            let call = recent.removeFirst()
            let came = reader.answer(call, pages(call, most: 300))
            done += came
            recent += came.asked(.any(.recentStore))
        }
        for (number, id) in calls.enumerated() {
            guard case .rowsRead(let read)? = done.reply(id) else {
                Issue.record("no answer")
                continue
            }
            #expect(read.pages.map(\.hasFailure).contains(true) == false)
            #expect(
                read.pages.compactMap(\.rows.first?.conversation) == (number * 50..<number * 50 + 50).map { "g:\($0)" })
        }
    }

    // MARK: sync

    static func rows(_ count: Int, version: UInt64 = 1) -> [IndexRow] {
        (0..<count).map { SyncTests.row("g:\($0)", version) }
    }

    @Test func syncsOfManyUsersAskInParts() throws {
        var user = User(UserMachine(instance: "u1"))
        for number in 0..<21 { _ = user.take(SyncTests.sync(session: "s\(number)")) }
        let loads = user.flush().asked(.any(.userStore))
        #expect(loads.allSatisfy { SyncTests.queries($0).count <= 4 }, "2,000 rows a call")
        #expect(loads.flatMap(SyncTests.queries).count == 21)
        var asked: [Asked] = []
        for load in loads {
            let page = IndexPage.with {
                $0.rows = Self.rows(200)
                $0.version = 1
            }
            let pages = Payload.indexLoaded(.with { $0.pages = SyncTests.queries(load).map { _ in page } })
            asked += user.answer(load, pages).asked(.any(.msgReader))
        }
        #expect(asked.allSatisfy { SyncTests.headRequest($0).queries.count <= 500 })
        #expect(asked.reduce(0) { $0 + SyncTests.headRequest($1).queries.count } == 4200)
    }

    @Test func aSyncGoesOnBehindTheHeadsThatCame() throws {
        var user = User(UserMachine(instance: "u1"))
        let one = user.take(SyncTests.sync(session: "s1")).id
        let two = user.take(SyncTests.sync(session: "s2")).id
        let load = try user.flush().first()
        let page = IndexPage.with {
            $0.rows = Self.rows(3)
            $0.version = 1
        }
        let ask = try user.answer(load, .indexLoaded(.with { $0.pages = [page, page] })).first()
        #expect(SyncTests.headRequest(ask).queries.count == 6)
        let came = user.answer(ask, SyncTests.heads([SyncTests.head(1), SyncTests.head(2)], marks: "m"))
        // The first one reads on behind its second conversation, the other asks for its heads again.
        let next = try #require(came.asked(.any(.userStore)).first)
        #expect(SyncTests.queries(next).map(\.after) == ["g:1"])
        let again = try #require(came.asked(.any(.msgReader)).first)
        #expect(SyncTests.headRequest(again).queries.count == 3)
        var rest = user.answer(next, SyncTests.page(Array(Self.rows(3)[2...]), version: 1))
        rest = user.answer(
            try #require(rest.asked(.any(.msgReader)).first), SyncTests.heads([SyncTests.head(3)], marks: "m"))
        let first = try body(rest.serviceReplies(one)?.first, SyncResponse.self)
        #expect(first.entries.map(\.headSeq) == [1, 2, 3] && !first.more)
        let heads = (4...6).map { SyncTests.head(UInt64($0)) }
        let second = user.answer(again, SyncTests.heads(heads, marks: "m"))
        #expect(try body(second.serviceReplies(two)?.first, SyncResponse.self).entries.map(\.headSeq) == [4, 5, 6])
    }

    // MARK: answers that fit a frame

    @Test func pagesOfSyncFitAFrameWhateverTheirEntries() throws {
        var user = User(UserMachine(instance: "u1"))
        let name = String(repeating: "x", count: 60)
        for bytes in [1, 60, 171, 500] {
            let sent = user.call(SyncTests.sync(limit: 500))
            let rows = (100..<600).map { number in
                var row = SyncTests.row("g:\(number)\(bytes > 100 ? "" : name)", 1 << 40, read: 1 << 50)
                row.deliveredSeq = 1 << 50
                row.clearedSeq = 1 << 49
                return row
            }
            let ask = try user.answer(try sent.actions.first(), SyncTests.page(rows, version: 1)).first()
            let heads = rows.map { row in
                var head = SyncTests.head(1 << 50, unread: 1 << 40, bytes: bytes)
                head.timeMs = 1 << 50
                head.last.n = 1 << 50
                head.last.timeMs = 1 << 50
                return head
            }
            let done = user.answer(ask, SyncTests.heads(heads, marks: "m"))
            let reply = try #require(done.serviceReplies(sent.id)?.first)
            #expect(reply.body.count <= FrameLimits.afterLoginBytes - 5, "\(reply.body.count)")
            #expect(try body(reply, SyncResponse.self).entries.count > 100)
        }
    }

    @Test func profilesComeAsManyAsFitAFrame() throws {
        var user = User(UserMachine(instance: "u1"))
        let ids = (10..<110).map { "user-\($0)" }
        let sent = user.call(serviceCalls(serviceCall(4, 3, body: ProfilesRequest.with { $0.userIds = ids })))
        let rows = ids.map { id in
            UserRow.with {
                $0.version = 1
                $0.profile.exists = true
                $0.profile.nickname = String(repeating: "n", count: 256)
                $0.profile.avatarURL = String(repeating: "a", count: 1024)
                $0.profile.custom = Data(repeating: 1, count: 4096)
            }
        }
        let done = user.answer(try sent.actions.first(), .userLoaded(.with { $0.users = rows }))
        let reply = try #require(done.serviceReplies(sent.id)?.first)
        #expect(reply.body.count <= 96 * 1024)
        let profiles = try body(reply, ProfilesResponse.self).profiles
        #expect(profiles.count == 18 && profiles.map(\.userID) == Array(ids.prefix(18)))
    }
}
