import APIRole
import Foundation
import RPC
import Testing
import Wire

@Suite struct MessageRoutesTests {
    @Test func whoDoesNotExistSendsNothing() async throws {
        try await withAPI { http, roles in
            let one = #"{"from":"ghost","to":"b","text":"boo"}"#
            let alone = try await http.post("/v1/messages", one, basic: "demo:s3cret")
            #expect(alone.status == 404 && alone.reason == "unknown_user")
            let body = #"{"messages":[{"from":"a","to":"b","text":"1"},\#(one)]}"#
            let batch = try await http.post("/v1/messages", body, basic: "demo:s3cret")
            #expect(batch.status == 404 && batch.reason == "unknown_user")
            #expect(roles.state.withLock { $0.calls }.isEmpty, "nothing was sent, not even what was before it")
        }
    }

    @Test func aMessageIsSentAsItsUser() async throws {
        try await withAPI { http, roles in
            let id = "01890a5d-ac96-774b-bcce-b302099a8057"
            let body = #"{"from":"bob","to":"alice","text":"hi","client_msg_id":"\#(id)"}"#
            let answer = try await http.post("/v1/messages", body, basic: "demo:s3cret")
            #expect(answer.status == 201 && answer.json["outcome"] as? String == "accepted")
            #expect(answer.json["client_msg_id"] as? String == id)
            #expect(answer.json["conversation"] as? String == "p:alice|bob")
            let calls = roles.state.withLock { $0.calls }
            let call = try #require(calls.first)
            #expect(call.svid == 1 && call.method == 1 && call.orderKey == "p:alice|bob")
            #expect(call.caller.appID == "demo" && call.caller.userID == "bob" && call.caller.sessionID == "")
            let request = try SendRequest(serializedBytes: call.body)
            #expect(request.items.map(\.content) == [Data("hi".utf8)])
            #expect(Array(request.items[0].clientMsgID.prefix(3)) == [0x01, 0x89, 0x0a])
        }
    }

    @Test func batchesKeepTheOrderOfEachConversation() async throws {
        try await withAPI { http, roles in
            let body = #"""
                {"messages":[{"from":"a","to":"b","text":"1"},{"from":"a","to":"c","text":"2"},
                {"from":"a","to":"b","content":"AAE="},{"from":"b","to":"a","text":"4"}]}
                """#
            let answer = try await http.post("/v1/messages", body, basic: "demo:s3cret")
            let results = try #require(answer.json["results"] as? [[String: Any]])
            #expect(results.map { $0["conversation"] as? String } == ["p:a|b", "p:a|c", "p:a|b", "p:a|b"])
            #expect(Set(results.compactMap { $0["client_msg_id"] as? String }).count == 4)
            let sent = try roles.state.withLock { $0.calls }.map { call in
                (call.caller.userID, try SendRequest(serializedBytes: call.body).items.map(\.content))
            }
            #expect(sent.map(\.0) == ["a", "a", "b"])
            #expect(sent[0].1 == [Data("1".utf8), Data([0, 1])])
        }
    }

    @Test func everyOutcomeIsTold() async throws {
        try await withAPI { http, roles in
            let message = #"{"from":"a","to":"b","text":"x"}"#
            let refused = SendResult.with {
                $0.outcome = .refused
                $0.failure = Failure(.noSuchUser, "no b")
            }
            roles.state.withLock { $0.serve = { _ in FakeRoles.answering([refused]) } }
            let first = try await http.post("/v1/messages", message, basic: "demo:s3cret")
            #expect(first.status == 404 && first.json["outcome"] as? String == "refused")

            roles.state.withLock { $0.serve = { _ in FakeRoles.answering([SendResult()]) } }
            let second = try await http.post("/v1/messages", message, basic: "demo:s3cret")
            #expect(second.status == 503 && second.json["outcome"] as? String == "unknown")
            let error = try #require(second.json["error"] as? [String: Any])
            #expect(error["reason"] as? String == "outcome_unknown" && error["retryable"] as? Bool == true)
            #expect((second.json["client_msg_id"] as? String)?.count == 36)

            roles.state.withLock { $0.serve = { _ in .with { $0.failure = Failure(.busy, "busy") } } }
            let third = try await http.post("/v1/messages", message, basic: "demo:s3cret")
            #expect(third.status == 503 && third.json["outcome"] as? String == "refused")

            roles.state.withLock { $0.serve = { _ in .with { $0.body = Data([0xff]) } } }
            let fourth = try await http.post("/v1/messages", message, basic: "demo:s3cret")
            #expect(fourth.json["outcome"] as? String == "unknown")
        }
    }

    @Test func noAnswerInTimeIsAnUnknownOutcome() async throws {
        try await withAPI {
            $0.limits.roleTimeoutMS = 200
        } _: { http, roles in
            // The app's keys and the sender are asked for first, so that only the send is kept waiting.
            let warm = try await http.post(
                "/v1/messages", #"{"from":"a","to":"b","text":"w"}"#, basic: "demo:s3cret")
            #expect(warm.status == 201)
            roles.hold()
            let body = #"{"from":"a","to":"b","text":"x"}"#
            let answer = try await http.post("/v1/messages", body, basic: "demo:s3cret")
            #expect(answer.status == 503 && answer.json["outcome"] as? String == "unknown")
            roles.release()
        }
    }

    @Test(arguments: [
        #"{"from":"a","text":"x"}"#, #"{"from":"a","to":"b","conversation":"p:a|b","text":"x"}"#,
        #"{"from":"a","to":"b"}"#, #"{"from":"a","to":"b","text":"x","content":"AA=="}"#,
        #"{"from":"a","to":"b","text":"x","kind":"odd"}"#, #"{"messages":[]}"#, #"{"messages":{}}"#,
        #"{"from":"a","to":"a","text":"x"}"#, #"{"from":"a","conversation":"p:b|a","text":"x"}"#,
        #"{"from":"a","to":"b","text":"x","client_msg_id":"0123"}"#,
        #"{"from":"a","to":"b","text":"x","client_msg_id":"01890a5d-ac96-474b-bcce-b302099a8057"}"#,
    ])
    func badMessagesAreRefusedBeforeAnybodyIsAsked(body: String) async throws {
        try await withAPI { http, roles in
            let answer = try await http.post("/v1/messages", body, basic: "demo:s3cret")
            #expect(answer.status == 400)
            #expect((answer.json["message"] as? String)?.isEmpty == false)
            #expect(roles.state.withLock { $0.calls }.isEmpty)
        }
    }

    @Test func bodiesHaveALimit() async throws {
        try await withAPI {
            $0.limits.bodyBytes = 1000
        } _: { http, _ in
            let long = #"{"from":"a","to":"b","text":"\#(String(repeating: "x", count: 2000))"}"#
            let announced = try await http.post("/v1/messages", long, basic: "demo:s3cret")
            #expect(announced.status == 413 && announced.reason == "limit_exceeded")
            let basic = Data("demo:s3cret".utf8).base64EncodedString()
            let chunk = "7d0\r\n\(String(repeating: "x", count: 2000))\r\n0\r\n\r\n"
            let chunked = HTTPAnswer(
                parsing: try await http.raw(
                    "POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic \(basic)\r\n"
                        + "Transfer-Encoding: chunked\r\n\r\n" + chunk))
            #expect(chunked.status == 413)
        }
    }

    @Test func historyIsAPageOfTheUsersView() async throws {
        try await withAPI { http, roles in
            roles.state.withLock { $0.serve = Self.twoRows }
            let path = "/v1/conversations/p%3Aalice%7Cbob/messages?user_id=alice&before_seq=9&limit=2"
            let answer = try await http.get(path, basic: "demo:s3cret")
            #expect(answer.status == 200 && answer.json["head_seq"] as? Int == 8)
            let rows = try #require(answer.json["messages"] as? [[String: Any]])
            #expect(rows.map { $0["text"] as? String } == ["hi", nil])
            #expect(rows[0]["from"] as? String == "bob" && rows[0]["seq"] as? Int == 7)
            #expect(rows[1]["lost"] as? Bool == true)
            let call = try #require(roles.state.withLock { $0.calls }.first)
            #expect(call.svid == 6 && call.caller.userID == "alice")
            let query = try HistoryRequest(serializedBytes: call.body).queries[0]
            #expect(query.beforeSeq == 9 && query.limit == 2 && query.conversation == "p:alice|bob")
        }
    }

    @Sendable private static func twoRows(_ call: ServiceCall) -> ServiceReply {
        let message = ChatMessage.with {
            $0.sender = "bob"
            $0.kind = .contentText
            $0.content = Data("hi".utf8)
        }
        let page = HistoryPage.with {
            $0.headSeq = 8
            $0.messages = [
                .with {
                    $0.seq = 7
                    $0.message = message.buffer.withUnsafeReadableBytes { Data($0) }
                },
                .with { $0.seq = 8 },
            ]
        }
        let response = HistoryResponse.with { $0.pages = [page] }
        return .with { $0.body = response.buffer.withUnsafeReadableBytes { Data($0) } }
    }

    @Test func historyRefusalsKeepTheirCode() async throws {
        try await withAPI { http, roles in
            let path = "/v1/conversations/p%3Aalice%7Cbob/messages"
            let answer1 = try await http.get(path, basic: "demo:s3cret")
            #expect(answer1.status == 400)
            let answer2 = try await http.get(path + "?user_id=a&limit=0", basic: "demo:s3cret")
            #expect(answer2.status == 400)
            let answer3 = try await http.get(path + "?user_id=a&from_seq=-1", basic: "demo:s3cret")
            #expect(answer3.status == 400)
            let answer4 = try await http.get("/v1/conversations/xyz/messages?user_id=a", basic: "demo:s3cret")
            #expect(answer4.status == 400)
            roles.state.withLock { $0.serve = { _ in .with { $0.failure = Failure(.notAMember, "not yours") } } }
            let answer = try await http.get(path + "?user_id=a", basic: "demo:s3cret")
            #expect(answer.status == 403 && answer.reason == "not_a_member")
        }
    }
}
