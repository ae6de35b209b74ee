import Foundation
import RPC
import Testing
import Wire

@testable import MsgReaderRole

@Suite struct MsgReaderTests {
    typealias Reader = Script<MsgReaderMachine>
    static let pair = "p:alice|bob"

    static func reader(_ change: (inout MsgReaderConfig) -> Void = { _ in }) -> Reader {
        var config = MsgReaderConfig()
        change(&config)
        return Reader(MsgReaderMachine(instance: "m1", config: config))
    }

    static func row(_ seq: UInt64, sender: String = "bob", bytes: Int = 2) -> StoredRow {
        .with { row in
            row.conversation = pair
            row.seq = seq
            row.n = seq
            row.sender = sender
            let chat = ChatMessage.with {
                $0.sender = sender
                $0.kind = .contentText
                $0.content = Data(repeating: 65, count: bytes)
            }
            row.message = (try? chat.serializedData()) ?? Data()
        }
    }

    static func recall(_ seq: UInt64, of target: UInt64, by sender: String) -> StoredRow {
        var row = row(seq, sender: sender)
        row.control = true
        row.targetSeq = target
        let chat = ChatMessage.with {
            $0.sender = sender
            $0.kind = .contentRecall
            $0.control = true
            $0.targetSeq = target
        }
        row.message = (try? chat.serializedData()) ?? Data()
        return row
    }

    static func page(_ seqs: ClosedRange<UInt64>?, head: UInt64) -> RowsPage {
        .with {
            $0.rows = seqs.map { $0.map { row($0) } } ?? []
            $0.head.seq = head
        }
    }

    static func pages(_ pages: RowsPage...) -> Payload { .rowsRead(.with { $0.pages = pages }) }

    static func query(from: UInt64 = 0, before: UInt64 = 0, limit: UInt32 = 3, atLeast: UInt64 = 0) -> RowsQuery {
        .with {
            $0.appID = "demo"
            $0.conversation = pair
            $0.fromSeq = from
            $0.beforeSeq = before
            $0.limit = limit
            $0.atLeast = atLeast
        }
    }

    static func read(_ queries: RowsQuery...) -> Payload { .readRows(.with { $0.queries = queries }) }

    static func seqs(_ payload: Payload?) -> [[UInt64]] {
        guard case .rowsRead(let read)? = payload else { return [] }
        return read.pages.map { $0.rows.map(\.seq) }
    }

    // MARK: rows

    @Test func densePageOfTheHotStoreIsTheAnswer() throws {
        var reader = Self.reader()
        let one = reader.take(Self.read(Self.query()))
        let two = reader.take(Self.read(Self.query(from: 4)))
        let asked = reader.flush().asked
        #expect(asked.map(\.address) == [.any(.hotStore)])
        #expect(asked.map(\.payload) == [Self.read(Self.query(), Self.query(from: 4))])
        let done = reader.answer(asked[0], Self.pages(Self.page(7...9, head: 9), Self.page(4...6, head: 9)))
        #expect(Self.seqs(done.reply(one.id)) == [[7, 8, 9]])
        #expect(Self.seqs(done.reply(two.id)) == [[4, 5, 6]])
    }

    /// Every way in which the hot store's page is not the whole truth.
    @Test(arguments: [
        (query(), RowsPage()),
        (query(), page(8...9, head: 9)),
        (query(), page(6...8, head: 9)),
        (query(from: 4), page(5...7, head: 9)),
        (query(from: 8), page(8...8, head: 9)),
        (query(before: 6), page(2...4, head: 9)),
        (query(before: 6), page(4...5, head: 9)),
        (query(atLeast: 10), page(7...9, head: 9)),
        (
            query(),
            RowsPage.with {
                $0.rows = [row(6), row(8), row(9)]
                $0.head.seq = 9
            }
        ),
        (
            query(),
            RowsPage.with {
                $0.rows = [row(7), row(8), row(9)]
                $0.head.seq = 9
                $0.failure = Failure(.historyUnavailable, "x")
            }
        ),
    ])
    func holeInTheHotStoreMeansTheRecentStore(query: RowsQuery, hot: RowsPage) throws {
        var reader = Self.reader()
        let sent = reader.call(Self.read(query))
        let recent = reader.answer(try sent.actions.first(), Self.pages(hot))
        #expect(recent.reply(sent.id) == nil)
        #expect(recent.asked.map(\.address) == [.any(.recentStore)])
        #expect(recent.asked.map(\.payload) == [Self.read(query)])
    }

    @Test func hotStoreGoneOrSilent() throws {
        var reader = Self.reader()
        let sent = reader.call(Self.read(Self.query()))
        let recent = try #require(reader.answer(try sent.actions.first(), timedOut).asked.first)
        #expect(recent.address == .any(.recentStore))
        let done = reader.answer(recent, Self.pages(Self.page(1...2, head: 2)))
        #expect(Self.seqs(done.reply(sent.id)) == [[1, 2]])
        let next = reader.call(Self.read(Self.query()))
        #expect(next.actions.asked.map(\.address) == [.any(.recentStore)], "left alone after a silence")
        reader.pass(ms: 2001)
        let later = reader.call(Self.read(Self.query()))
        #expect(later.actions.asked.map(\.address) == [.any(.hotStore)])
        let other = reader.answer(try later.actions.first(), refused)
        #expect(other.asked.map(\.address) == [.any(.recentStore)])
    }

    @Test func recentStoreBehindBrokenOrSilentIsHistoryUnavailable() throws {
        let results: [(CallResult, Int)] = [
            (refused, 0), (timedOut, 0), (.answered(Self.pages()), 0),
            (.answered(Self.pages(Self.page(7...9, head: 9))), 0),
            (
                .answered(
                    Self.pages(
                        .with {
                            $0.rows = [Self.row(8), Self.row(10)]
                            $0.head.seq = 10
                        })), 1
            ),
        ]
        for (result, warnings) in results {
            var reader = Self.reader()
            let sent = reader.call(Self.read(Self.query(atLeast: 10)))
            let recent = reader.answer(try sent.actions.first(), refused)
            let done = reader.answer(try recent.first(), result)
            guard case .rowsRead(let read)? = done.reply(sent.id) else {
                Issue.record("answered per page")
                continue
            }
            #expect(read.pages.first?.failure.isCode(.historyUnavailable) == true)
            #expect(read.pages.first?.rows.isEmpty == true)
            #expect(done.warnings == warnings)
        }
    }

    @Test func limitsOfServices() {
        var reader = Self.reader { $0.maxItems = 2 }
        let zero = reader.call(Self.read(Self.query(limit: 0)))
        guard case .rowsRead(let read)? = zero.actions.reply(zero.id) else {
            Issue.record("answered per page")
            return
        }
        #expect(read.pages.first?.failure.isCode(.limitExceeded) == true)
        let many = reader.call(Self.read(Self.query(), Self.query(), Self.query()))
        #expect(many.actions.refusal(many.id)?.isCode(.overloaded) == true)
    }

    // MARK: recall

    @Test func recalledContentIsGone() throws {
        var page = RowsPage()
        page.rows = [
            Self.row(1), Self.row(2), Self.row(3), Self.recall(4, of: 2, by: "bob"), Self.recall(5, of: 3, by: "alice"),
        ]
        page.head.seq = 5
        page.recalledSeqs = [1]
        var reader = Self.reader()
        let sent = reader.call(Self.read(Self.query(limit: 5)))
        let done = reader.answer(try sent.actions.first(), Self.pages(page))
        guard case .rowsRead(let read)? = done.reply(sent.id) else {
            Issue.record("answered")
            return
        }
        let rows = try #require(read.pages.first).rows
        #expect(rows.map(\.seq) == [1, 2, 3, 4, 5], "every row keeps its place")
        let messages = try rows.map { try ChatMessage(serializedBytes: $0.message) }
        #expect(
            messages.prefix(3).map(\.content.isEmpty) == [true, true, false], "somebody else's recall has no effect")
        #expect(messages[0].kind == .contentRecall && messages[0].targetSeq == 1 && messages[0].sender == "bob")
        #expect(rows.map(\.control) == [true, true, false, true, true])
    }

    // MARK: heads

    @Test func headsWithEqualMarksAreOneCall() throws {
        var reader = Self.reader()
        func request(_ mark: String, _ conversations: String...) -> Payload {
            .readHeads(
                .with { request in
                    request.shardMarks = Data(mark.utf8)
                    request.queries = conversations.map { name in .with { $0.conversation = name } }
                })
        }
        let one = reader.take(request("m", "g:a"))
        let two = reader.take(request("n", "g:b"))
        let three = reader.take(request("m", "g:c", "g:d"))
        let asked = reader.flush().asked(.any(.recentStore))
        #expect(asked.map(\.payload) == [request("m", "g:a", "g:c", "g:d"), request("n", "g:b")])
        let heads = HeadsRead.with {
            $0.heads = [1, 2, 3].map { seq in .with { $0.seq = seq } }
            $0.shardMarks = Data("z".utf8)
        }
        let done = reader.answer(asked[0], .headsRead(heads))
        #expect(
            done.reply(one.id)
                == .headsRead(
                    .with {
                        $0.heads = [heads.heads[0]]
                        $0.shardMarks = heads.shardMarks
                    }))
        #expect(
            done.reply(three.id)
                == .headsRead(
                    .with {
                        $0.heads = Array(heads.heads[1...])
                        $0.shardMarks = heads.shardMarks
                    }))
        let no = reader.answer(asked[1], timedOut)
        #expect(no.refusal(two.id)?.isCode(.storeUnavailable) == true)
    }

    @Test func announcesItself() {
        var machine = MsgReaderMachine(instance: "m1")
        let actions = machine.on(.start, now: Instant(micros: 0, wallMS: 0))
        #expect(
            actions.told(.all(.route)) == [
                .serviceAnnounce(
                    .with {
                        $0.svids = [6]
                        $0.instanceID = "msgreader/m1"
                    })
            ])
    }
}
