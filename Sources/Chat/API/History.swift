import Foundation
import Hummingbird
import Identity
import Wire

/// A page of a conversation as JSON.
struct HistoryBody: Encodable {
    let conversation: String
    let messages: [StoredMessage]
    let head_seq: UInt64
    let first_visible_seq: UInt64
}

/// A message at its place. `text` for text, `content` (base64) for everything else.
struct StoredMessage: Encodable {
    let seq: UInt64
    let n: UInt64
    let time_ms: UInt64
    let from: String
    let device: String
    let client_msg_id: String
    let kind: String
    let text: String?
    let content: Data?
    let control: Bool
    let target_seq: UInt64?
    /// The message could not be stored; only its place is left.
    let lost: Bool
}

extension APIMethods {
    /// Rows in one page, as MsgReader allows.
    private static var pageRows: ClosedRange<UInt32> { 1...200 }
    private static var pageDefault: UInt32 { 50 }

    /// GET /v1/conversations/{id}/messages?user_id=...&before_seq=...&from_seq=...&limit=...
    func history(_ request: Request, _ context: APIContext) async throws -> Response {
        let app = try await provenApp(request, context).app.appID
        guard let id = context.name.removingPercentEncoding, ConversationName(id) != nil else {
            throw Failure(
                .badConversation, "the path must hold a percent-encoded conversation id, like p%3Aalice%7Cbob")
        }
        let asked = request.uri.queryParameters
        guard let user = asked["user_id"] else {
            throw Failure(.malformedRequest, "say whose view is wanted: ?user_id=...")
        }
        var query = HistoryQuery()
        query.conversation = id
        query.fromSeq = try number(asked["from_seq"], "from_seq") ?? 0
        query.beforeSeq = try number(asked["before_seq"], "before_seq") ?? 0
        query.limit = try number(asked["limit"], "limit") ?? Self.pageDefault
        guard Self.pageRows.contains(query.limit) else {
            throw Failure(.malformedRequest, "limit must be \(Self.pageRows.lowerBound) to \(Self.pageRows.upperBound)")
        }
        return Answer.json(try await page(query, app, try checkedUser(String(user))))
    }

    private func number<T: FixedWidthInteger>(_ text: Substring?, _ name: String) throws -> T? {
        guard let text else { return nil }
        guard let value = T(text) else { throw Failure(.malformedRequest, "\(name) must be a number from 0") }
        return value
    }

    private func page(_ query: HistoryQuery, _ app: String, _ user: String) async throws -> HistoryBody {
        let call = ServiceCall.with {
            $0.caller = .with {
                $0.appID = app
                $0.userID = user
                $0.deviceID = "api"
                $0.platform = "api"
            }
            $0.svid = WellKnownService.history
            $0.method = 1
            $0.body = HistoryRequest.with { $0.queries = [query] }.buffer.withUnsafeReadableBytes { Data($0) }
        }
        let reply = try await roles.serve([call])[0]
        if reply.hasFailure, reply.failure.code != 0 { throw reply.failure }
        guard let answer = try? HistoryResponse(serializedBytes: reply.body), let page = answer.pages.first else {
            throw Failure(.internalError, "the history's answer could not be read")
        }
        if page.hasFailure, page.failure.code != 0 { throw page.failure }
        return HistoryBody(
            conversation: query.conversation, messages: page.messages.map(Self.stored), head_seq: page.headSeq,
            first_visible_seq: page.firstVisibleSeq)
    }

    private static func stored(_ pushed: PushedMessage) -> StoredMessage {
        let message = try? ChatMessage(serializedBytes: pushed.message)
        let isText = message?.kind == .contentText
        let text = message.flatMap { isText ? String(decoding: $0.content, as: UTF8.self) : nil }
        return StoredMessage(
            seq: pushed.seq, n: pushed.n, time_ms: pushed.timeMs, from: message?.sender ?? "",
            device: message?.device ?? "", client_msg_id: UUIDText.text(message?.clientMsgID ?? Data()),
            kind: word(message?.kind), text: text, content: isText ? nil : message?.content,
            control: message?.control ?? true, target_seq: message.flatMap { $0.targetSeq == 0 ? nil : $0.targetSeq },
            lost: message.map { $0.control && $0.kind == .contentUnspecified || pushed.message.isEmpty } ?? true)
    }

    private static func word(_ kind: ContentKind?) -> String {
        switch kind {
        case .contentText: "text"
        case .contentCustom: "custom"
        case .contentRecall: "recall"
        case .contentNotice: "notice"
        default: "unknown"
        }
    }
}
