import Foundation
import RPC
import Testing
import Wire

@testable import UserRole

@Suite struct SyncTests {
    typealias User = Script<UserMachine>

    static func sync(_ token: Data = Data(), limit: UInt32 = 0, session: String = "s1") -> Payload {
        serviceCalls(
            serviceCall(
                4, 1, session: session,
                body: SyncRequest.with {
                    $0.token = token
                    $0.limit = limit
                }))
    }

    static func page(_ rows: [IndexRow], version: UInt64, more: Bool = false) -> Payload {
        .indexLoaded(
            .with {
                $0.pages = [
                    .with {
                        $0.rows = rows
                        $0.version = version
                        $0.more = more
                    }
                ]
            })
    }

    static func row(_ conversation: String, _ version: UInt64, read: UInt64 = 0) -> IndexRow {
        .with {
            $0.conversation = conversation
            $0.version = version
            $0.readSeq = read
            $0.joinedSeq = 1
        }
    }

    static func head(_ seq: UInt64, unread: UInt64 = 0, changed: Bool = true, bytes: Int = 3) -> HeadState {
        .with {
            $0.changed = changed
            $0.seq = seq
            $0.n = seq
            $0.timeMs = 5
            $0.unread = unread
            $0.last = .with {
                $0.seq = seq
                $0.message = Data(repeating: 7, count: bytes)
            }
        }
    }

    static func heads(_ heads: [HeadState], marks: String) -> Payload {
        .headsRead(
            .with {
                $0.heads = heads
                $0.shardMarks = Data(marks.utf8)
            })
    }

    static func queries(_ asked: Asked?) -> [IndexQuery] {
        guard case .indexLoad(let load)? = asked?.payload else { return [] }
        return load.queries
    }

    static func headRequest(_ asked: Asked?) -> ReadHeads {
        guard case .readHeads(let request)? = asked?.payload else { return ReadHeads() }
        return request
    }

    @Test func emptyTokenGivesEverythingWithUnreadAndPeer() throws {
        var user = User(UserMachine(instance: "u1"))
        let sent = user.call(Self.sync())
        let load = try sent.actions.first()
        #expect(Self.queries(load).map(\.limit) == [500])
        let rows = [Self.row("g:team", 2), Self.row("p:alice|bob", 3, read: 4)]
        let ask = try #require(user.answer(load, Self.page(rows, version: 3)).asked(.any(.msgReader)).first)
        #expect(Self.headRequest(ask).shardMarks.isEmpty)
        #expect(Self.headRequest(ask).queries.map(\.readSeq) == [0, 4])
        #expect(Self.headRequest(ask).queries.allSatisfy { $0.always })
        let both = [Self.head(0, changed: false), Self.head(9, unread: 5)]
        let peer = try #require(user.answer(ask, Self.heads(both, marks: "m1")).asked(.any(.userStore)).first)
        #expect(Self.queries(peer).map(\.userID) == ["bob"])
        #expect(Self.queries(peer).map(\.conversation) == ["p:alice|bob"])
        let bobs = IndexRow.with {
            $0.conversation = "p:alice|bob"
            $0.readSeq = 8
            $0.deliveredSeq = 9
        }
        let done = user.answer(peer, Self.page([bobs], version: 1))
        let response = try body(done.serviceReplies(sent.id)?.first, SyncResponse.self)
        #expect(response.entries.map(\.conversation) == ["g:team", "p:alice|bob"])
        #expect(response.entries.map(\.unread) == [0, 5])
        #expect(response.entries.map(\.hasLast) == [false, true])
        #expect(response.entries.last?.peerReadSeq == 8)
        #expect(response.entries.last?.peerDeliveredSeq == 9)
        #expect(!response.more)
        let token = try #require(SyncToken(response.token))
        #expect(token.base == 3)
        #expect(token.marks == Data("m1".utf8))
        #expect(token.cursor.isEmpty)
    }

    @Test func laterSyncGivesOnlyWhatChanged() throws {
        var token = SyncToken()
        token.base = 5
        token.marks = Data("m1".utf8)
        var user = User(UserMachine(instance: "u1"))
        let sent = user.call(Self.sync(token.bytes))
        let rows = [Self.row("g:quiet", 2), Self.row("g:head", 3), Self.row("g:entry", 6)]
        let ask = try #require(user.answer(try sent.actions.first(), Self.page(rows, version: 6)).asked.first)
        #expect(Self.headRequest(ask).shardMarks == Data("m1".utf8))
        #expect(Self.headRequest(ask).queries.map(\.always) == [false, false, true])
        let heads = [Self.head(0, changed: false), Self.head(4), Self.head(2, changed: false)]
        let done = user.answer(ask, Self.heads(heads, marks: "m2"))
        let response = try body(done.serviceReplies(sent.id)?.first, SyncResponse.self)
        #expect(response.entries.map(\.conversation) == ["g:head", "g:entry"])
        let next = try #require(SyncToken(response.token))
        #expect(next.base == 6)
        #expect(next.marks == Data("m2".utf8))
    }

    @Test func pagingKeepsBaseAndMarksOfTheFirstPage() throws {
        var user = User(UserMachine(instance: "u1"))
        let one = user.call(Self.sync(limit: 1))
        let rows = [Self.row("g:a", 1), Self.row("g:b", 2)]
        var ask = try #require(user.answer(try one.actions.first(), Self.page(rows, version: 2)).asked.first)
        let first = try body(
            user.answer(ask, Self.heads([Self.head(1), Self.head(1)], marks: "m1")).serviceReplies(one.id)?.first,
            SyncResponse.self)
        #expect(first.more)
        #expect(first.entries.map(\.conversation) == ["g:a"])
        // Meanwhile the user's version and the store's marks move: the token must not skip that.
        let two = user.call(Self.sync(first.token, limit: 1))
        let load = try two.actions.first()
        #expect(Self.queries(load).map(\.after) == ["g:a"])
        ask = try #require(user.answer(load, Self.page([Self.row("g:b", 7)], version: 7)).asked.first)
        #expect(Self.headRequest(ask).shardMarks.isEmpty, "pages compare with the old marks")
        let last = try body(
            user.answer(ask, Self.heads([Self.head(3)], marks: "m9")).serviceReplies(two.id)?.first, SyncResponse.self)
        #expect(!last.more)
        let token = try #require(SyncToken(last.token))
        #expect(token.base == 2)
        #expect(token.marks == Data("m1".utf8))
    }

    /// A connection ends in the middle of a sync and the next one goes on with the token: what changed in the first
    /// pages while nobody was registered must not wait for the sync after this one.
    @Test func pagingThatAnotherSessionBeganGoesRoundOnceMore() throws {
        var user = User(UserMachine(instance: "u1"))
        let one = user.call(Self.sync(limit: 1, session: "s1"))
        let rows = [Self.row("g:a", 1), Self.row("g:b", 2)]
        var ask = try #require(user.answer(try one.actions.first(), Self.page(rows, version: 2)).asked.first)
        let first = try body(
            user.answer(ask, Self.heads([Self.head(1), Self.head(1)], marks: "m1")).serviceReplies(one.id)?.first,
            SyncResponse.self)
        #expect(first.more)
        let two = user.call(Self.sync(first.token, limit: 1, session: "s2"))
        ask = try #require(
            user.answer(try two.actions.first(), Self.page([Self.row("g:b", 2)], version: 2)).asked.first)
        let second = try body(
            user.answer(ask, Self.heads([Self.head(1)], marks: "m2")).serviceReplies(two.id)?.first, SyncResponse.self)
        #expect(second.more, "the first page is from before this session")
        let between = try #require(SyncToken(second.token))
        #expect(between.cursor.isEmpty && between.base == 2 && between.marks == Data("m1".utf8))
        let three = user.call(Self.sync(second.token, limit: 1, session: "s2"))
        ask = try #require(user.answer(try three.actions.first(), Self.page(rows, version: 2)).asked.first)
        let heads = [Self.head(5), Self.head(1, changed: false)]
        let last = try body(
            user.answer(ask, Self.heads(heads, marks: "m3")).serviceReplies(three.id)?.first, SyncResponse.self)
        #expect(last.entries.map(\.headSeq) == [5])
        #expect(!last.more && SyncToken(last.token)?.marks == Data("m3".utf8), "this round was all of one session")
    }

    @Test func stepsOverUnchangedRowsUntilItFindsSome() throws {
        var token = SyncToken()
        token.base = 9
        token.marks = Data("m1".utf8)
        var config = UserConfig()
        config.scannedRows = 1
        config.maxSteps = 2
        var user = User(UserMachine(instance: "u1", config: config))
        let sent = user.call(Self.sync(token.bytes))
        var load = try sent.actions.first()
        for (index, conversation) in ["g:a", "g:b"].enumerated() {
            let page = Self.page([Self.row(conversation, 1)], version: 9, more: true)
            let ask = try #require(user.answer(load, page).asked.first)
            let actions = user.answer(ask, Self.heads([Self.head(1, changed: false)], marks: "m\(index + 2)"))
            guard let next = actions.asked.first else {
                #expect(index == 1, "as many steps as allowed")
                let response = try body(actions.serviceReplies(sent.id)?.first, SyncResponse.self)
                #expect(response.entries.isEmpty)
                #expect(response.more)
                let kept = try #require(SyncToken(response.token))
                #expect(kept.cursor == "g:b")
                #expect(kept.nextMarks == Data("m2".utf8), "of the first step")
                return
            }
            #expect(Self.queries(next).map(\.after) == ["g:a"])
            load = next
        }
        Issue.record("the sync went on for ever")
    }

    @Test func largeLastMessagesCutThePage() throws {
        var user = User(UserMachine(instance: "u1"))
        let sent = user.call(Self.sync())
        let rows = (1...5).map { Self.row("g:\($0)", 1) }
        let ask = try #require(user.answer(try sent.actions.first(), Self.page(rows, version: 1)).asked.first)
        let heads = rows.map { _ in Self.head(1, bytes: 32 * 1024) }
        let done = user.answer(ask, Self.heads(heads, marks: "m"))
        let response = try body(done.serviceReplies(sent.id)?.first, SyncResponse.self)
        #expect(response.entries.count == 2)
        #expect(response.more)
    }

    @Test func ownPendingReadIsUsedForUnread() throws {
        var user = UserTests.user()
        _ = user.call(UserTests.state(UserTests.read(6)))
        let sent = user.call(Self.sync())
        let load = try sent.actions.first()
        let ask = user.answer(load, Self.page([Self.row("p:alice|bob", 1, read: 2)], version: 1)).asked.first
        #expect(Self.headRequest(ask).queries.map(\.readSeq) == [6])
    }

    @Test func userWithoutEntriesGetsAToken() throws {
        var user = User(UserMachine(instance: "u1"))
        let sent = user.call(Self.sync())
        let ask = try #require(user.answer(try sent.actions.first(), Self.page([], version: 0)).asked.first)
        let done = user.answer(ask, Self.heads([], marks: "m1"))
        let response = try body(done.serviceReplies(sent.id)?.first, SyncResponse.self)
        #expect(response.entries.isEmpty && !response.more)
        #expect(SyncToken(response.token)?.marks == Data("m1".utf8))
    }

    @Test func troubleAnywhereIsNamed() throws {
        for failing in 0..<3 {
            var user = User(UserMachine(instance: "u1"))
            let sent = user.call(Self.sync())
            var actions = sent.actions
            let good = [
                Self.page([Self.row("p:alice|bob", 1)], version: 1), Self.heads([Self.head(1)], marks: "m"),
                Self.page([], version: 0),
            ]
            for step in 0...failing {
                let asked = try actions.first()
                actions = step == failing ? user.answer(asked, refused) : user.answer(asked, good[step])
            }
            #expect(actions.serviceReplies(sent.id)?.first?.failure.isCode(.storeUnavailable) == true)
            #expect(user.machine.syncJobs.isEmpty)
        }
    }

    @Test func tokensOfOthersAreRefused() throws {
        var user = User(UserMachine(instance: "u1"))
        var token = SyncToken()
        token.base = .max
        token.marks = Data([1, 2, 3])
        token.nextMarks = Data(repeating: 9, count: 200)
        token.cursor = "p:ä|ö"
        #expect(SyncToken(token.bytes) == token)
        #expect(SyncToken(Data([0]) + token.bytes.dropFirst()) == nil)
        for cut in 1..<token.bytes.count {
            #expect(SyncToken(token.bytes.prefix(cut)) == nil)
            let sent = user.call(Self.sync(token.bytes.prefix(cut)))
            #expect(sent.actions.serviceReplies(sent.id)?.first?.failure.isCode(.malformedRequest) == true)
        }
        token.session = 77
        #expect(SyncToken(token.bytes) == token)
        for cut in 1..<token.bytes.count { #expect(SyncToken(token.bytes.prefix(cut)) == nil) }
        let over = user.call(Self.sync(limit: 501))
        #expect(over.actions.serviceReplies(over.id)?.first?.failure.isCode(.limitExceeded) == true)
    }
}
