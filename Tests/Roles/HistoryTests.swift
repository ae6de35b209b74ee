import Foundation
import RPC
import Testing
import Wire

@testable import MsgReaderRole

@Suite struct HistoryTests {
    typealias Reader = MsgReaderTests.Reader
    static let pair = MsgReaderTests.pair

    static func history(_ queries: HistoryQuery...) -> Payload {
        serviceCalls(serviceCall(6, 1, body: HistoryRequest.with { $0.queries = queries }))
    }

    static func query(
        _ conversation: String = pair, from: UInt64 = 0, before: UInt64 = 0, limit: UInt32 = 3, atLeast: UInt64 = 0
    ) -> HistoryQuery {
        .with {
            $0.conversation = conversation
            $0.fromSeq = from
            $0.beforeSeq = before
            $0.limit = limit
            $0.atLeast = atLeast
        }
    }

    static func entry(joined: UInt64 = 1, left: UInt64 = 0, cleared: UInt64 = 0) -> Payload {
        .indexLoaded(
            .with {
                $0.pages = [
                    .with {
                        $0.rows = [
                            .with {
                                $0.conversation = pair
                                $0.version = 1
                                $0.joinedSeq = joined
                                $0.leftSeq = left
                                $0.clearedSeq = cleared
                            }
                        ]
                    }
                ]
            })
    }

    /// Asks, lets User answer, and returns the rows query that follows.
    static func rows(_ reader: inout Reader, _ query: HistoryQuery, _ entry: Payload) throws -> (
        CallID, Asked, RowsQuery
    ) {
        let sent = reader.call(history(query))
        let load = try #require(sent.actions.asked(.any(.user)).first)
        #expect(
            load.payload
                == .indexLoad(
                    .with {
                        $0.queries = [
                            .with {
                                $0.appID = "demo"
                                $0.userID = "alice"
                                $0.conversation = pair
                            }
                        ]
                    }))
        let asked = try #require(reader.answer(load, entry).asked(.any(.hotStore)).first)
        guard case .readRows(let request) = asked.payload else { throw Failure(.internalError, "no rows asked for") }
        return (sent.id, asked, try #require(request.queries.first))
    }

    static func response(_ actions: [RoleAction<Never>], _ id: CallID) throws -> HistoryPage {
        let response = try body(actions.serviceReplies(id)?.first, HistoryResponse.self)
        return try #require(response.pages.first)
    }

    @Test func newestPageOfAMember() throws {
        var reader = MsgReaderTests.reader()
        let (id, asked, query) = try Self.rows(&reader, Self.query(), Self.entry())
        #expect(query == MsgReaderTests.query())
        let done = reader.answer(asked, MsgReaderTests.pages(MsgReaderTests.page(7...9, head: 9)))
        let page = try Self.response(done, id)
        #expect(page.messages.map(\.seq) == [7, 8, 9])
        #expect(page.messages.first?.message == MsgReaderTests.row(7).message)
        #expect(page.headSeq == 9)
        #expect(page.firstVisibleSeq == 1)
        #expect(reader.machine.historyPages == 0 && reader.machine.histories.isEmpty)
    }

    @Test func onlyFromJoinedAndAboveCleared() throws {
        for (entry, first) in [(Self.entry(joined: 8), 8), (Self.entry(cleared: 7), 8), (Self.entry(joined: 0), 1)] {
            var reader = MsgReaderTests.reader()
            let (id, asked, _) = try Self.rows(&reader, Self.query(), entry)
            let done = reader.answer(asked, MsgReaderTests.pages(MsgReaderTests.page(7...9, head: 9)))
            let page = try Self.response(done, id)
            #expect(page.messages.map(\.seq) == (7...9).filter { $0 >= first })
            #expect(page.firstVisibleSeq == first)
        }
        var reader = MsgReaderTests.reader()
        let (_, _, query) = try Self.rows(&reader, Self.query(from: 2), Self.entry(cleared: 5))
        #expect(query.fromSeq == 6, "does not read what it would hide")
    }

    @Test func onlyBelowLeft() throws {
        var reader = MsgReaderTests.reader()
        let (id, asked, query) = try Self.rows(&reader, Self.query(), Self.entry(left: 6))
        #expect(query.beforeSeq == 6, "the newest that may be seen")
        let done = reader.answer(asked, MsgReaderTests.pages(MsgReaderTests.page(3...5, head: 9)))
        let page = try Self.response(done, id)
        #expect(page.messages.map(\.seq) == [3, 4, 5])
        #expect(page.headSeq == 5)
        let (id2, asked2, _) = try Self.rows(&reader, Self.query(from: 4, limit: 5), Self.entry(left: 6))
        let up = reader.answer(asked2, MsgReaderTests.pages(MsgReaderTests.page(4...8, head: 9)))
        #expect(try Self.response(up, id2).messages.map(\.seq) == [4, 5])
        let (_, _, before) = try Self.rows(&reader, Self.query(before: 9), Self.entry(left: 6))
        #expect(before.beforeSeq == 6)
    }

    @Test func withoutEntry() throws {
        let none = Payload.indexLoaded(.with { $0.pages = [IndexPage()] })
        func page(_ query: HistoryQuery) throws -> HistoryPage {
            var reader = MsgReaderTests.reader()
            let sent = reader.call(Self.history(query))
            let done = reader.answer(try sent.actions.first(), none)
            #expect(done.asked.isEmpty, "no row is read")
            return try Self.response(done, sent.id)
        }
        #expect(try page(Self.query("g:team")).failure.isCode(.notAMember))
        #expect(try page(Self.query("p:bob|carol")).failure.isCode(.notAMember))
        #expect(try page(Self.query("u:bob")).failure.isCode(.notAMember))
        for own in [Self.pair, "u:alice"] {
            let empty = try page(Self.query(own))
            #expect(!empty.hasFailure && empty.messages.isEmpty && empty.headSeq == 0)
            #expect(try page(Self.query(own, atLeast: 1)).failure.isCode(.historyUnavailable))
        }
    }

    @Test func pagesFailOneByOne() throws {
        var reader = MsgReaderTests.reader()
        let bad = [
            Self.query("nonsense"), Self.query(limit: 0), Self.query(limit: 201), Self.query(from: 5, before: 5),
        ]
        let request = HistoryRequest.with { $0.queries = bad + [Self.query()] }
        let sent = reader.call(serviceCalls(serviceCall(6, 1, body: request)))
        let load = try sent.actions.first()
        let done = reader.answer(load, refused)
        let pages = try body(done.serviceReplies(sent.id)?.first, HistoryResponse.self).pages
        #expect(
            pages.map(\.failure.reason) == [
                "bad_conversation", "limit_exceeded", "limit_exceeded", "malformed_request", "store_unavailable",
            ])
    }

    @Test func badRequestsAreNamed() {
        var reader = MsgReaderTests.reader()
        func reason(_ payload: Payload) -> String? {
            let sent = reader.call(payload)
            return sent.actions.serviceReplies(sent.id)?.first?.failure.reason
        }
        let many = HistoryRequest.with { $0.queries = Array(repeating: Self.query(), count: 51) }
        let wide = HistoryRequest.with { $0.queries = Array(repeating: Self.query(limit: 200), count: 6) }
        #expect(reason(serviceCalls(serviceCall(6, 1, body: many))) == "limit_exceeded")
        #expect(reason(serviceCalls(serviceCall(6, 1, body: wide))) == "limit_exceeded")
        #expect(reason(serviceCalls(serviceCall(6, 2))) == "no_such_method")
        #expect(reason(serviceCalls(serviceCall(1, 1))) == "no_such_service")
        #expect(reason(Self.history()) == "")
    }

    @Test func answerFitsAFrameAndStaysDense() throws {
        var reader = MsgReaderTests.reader { $0.maxResponseBytes = 70_000 }
        let large: (ClosedRange<UInt64>) -> RowsPage = { seqs in
            .with {
                $0.rows = seqs.map { MsgReaderTests.row($0, bytes: 30_000) }
                $0.head.seq = 9
            }
        }
        let (down, askedDown, _) = try Self.rows(&reader, Self.query(), Self.entry())
        let newest = reader.answer(askedDown, MsgReaderTests.pages(large(7...9)))
        #expect(try Self.response(newest, down).messages.map(\.seq) == [8, 9])
        let (up, askedUp, _) = try Self.rows(&reader, Self.query(from: 7), Self.entry())
        let upwards = reader.answer(askedUp, MsgReaderTests.pages(large(7...9)))
        #expect(try Self.response(upwards, up).messages.map(\.seq) == [7, 8])
        let page = HistoryPage.with { $0.messages = [.with { $0.message = Data(count: 80_000) }] }
        let cut = MsgReaderMachine.cut([page, page], [Self.query(), Self.query()], bytes: 70_000)
        #expect(cut.map(\.messages.count) == [1, 0], "the first page always has a row")
        #expect(cut[1].failure.isCode(.retry))
    }
}
