import Foundation
import Hummingbird
import Identity
import Wire

/// A message to send as a user, as JSON. Either `conversation` or `to`; either `text` or `content` (base64).
struct OutgoingMessage: Decodable {
    let from: String
    let to: String?
    let conversation: String?
    let text: String?
    let content: Data?
    /// "text" (default with `text`), "custom" (default with `content`) or "recall" with `target_seq`.
    let kind: String?
    let target_seq: UInt64?
    /// A UUIDv7: the same one again is the same message, however often it is sent within seven days.
    let client_msg_id: String?
}

/// What became of one message.
struct SendOutcome: Encodable {
    let outcome: String
    let conversation: String
    let client_msg_id: String
    let sent_ms: UInt64?
    let error: ErrorBody?
}

extension APIMethods {
    private struct Batch: Decodable { let messages: [OutgoingMessage] }

    private struct Outcomes: Encodable { let results: [SendOutcome] }

    /// A message that passed the checks of its form.
    private struct Checked {
        let from: String
        let conversation: String
        let item: SendItem
    }

    /// The device that API sends for: part of the dedup key, so a resend through another API meets its first copy.
    private static var device: String { "api" }

    /// POST /v1/messages: {"messages": [...]}, or one message alone. Messages of one sender to one conversation keep
    /// their order.
    func sendMessages(_ request: Request, _ context: APIContext) async throws -> Response {
        let app = try await provenApp(request, context).app.appID
        let body = try await request.json(BatchOrOne.self, limit: config.limits.bodyBytes, context)
        switch body {
        case .one(let message):
            let checked = try check(message)
            try await expectUsers([checked.from], of: app)
            let outcome = try await send([checked], app)[0]
            if let failure = outcome.failure {
                return Answer.json(outcome.body, status: HTTPStatusTable.status(of: failure.code))
            }
            return Answer.json(outcome.body, status: .created)
        case .many(let messages):
            guard !messages.isEmpty, messages.count <= config.limits.messagesPerRequest else {
                throw Failure(.malformedRequest, "messages must hold 1 to \(config.limits.messagesPerRequest) messages")
            }
            let checked = try messages.enumerated().map { index, message in
                do { return try check(message) } catch let failure as Failure {
                    var named = failure
                    named.message = "messages[\(index)]: \(failure.message)"
                    throw named
                }
            }
            try await expectUsers(Set(checked.map(\.from)).sorted(), of: app)
            return Answer.json(Outcomes(results: try await send(checked, app).map(\.body)))
        }
    }

    /// IM checks who is written to; who writes is vouched for by Login, and here by this.
    ///
    /// - Throws: unknown_user, before anything is sent.
    private func expectUsers(_ users: [String], of app: String) async throws {
        for user in users {
            let exists: Bool
            do { exists = try await knows(user, of: app) } catch let failure as Failure
                where failure.isCode(.outcomeUnknown)
            {
                // Of the question, not of the message, which was certainly not sent.
                throw Failure(.serviceUnavailable, "the sender cannot be looked up now", retryAfterMS: 300)
            }
            guard exists else { throw Failure(.unknownUser, "from: app \(app) has no user \(user)") }
        }
    }

    private enum BatchOrOne: Decodable {
        case one(OutgoingMessage)
        case many([OutgoingMessage])

        private enum Keys: CodingKey { case messages }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Keys.self)
            if container.contains(.messages) {
                self = .many(try container.decode([OutgoingMessage].self, forKey: .messages))
            } else {
                self = .one(try OutgoingMessage(from: decoder))
            }
        }
    }

    private func check(_ message: OutgoingMessage) throws -> Checked {
        let from = try checkedUser(message.from, field: "from")
        let conversation: String
        switch (message.conversation, message.to) {
        case (let id?, nil): conversation = id
        case (nil, let to?):
            let to = try checkedUser(to, field: "to")
            guard to != from else { throw Failure(.badConversation, "from and to are the same user") }
            conversation = ConversationName.pair(of: from, and: to).id
        default: throw Failure(.malformedRequest, "name either to or conversation")
        }
        guard ConversationName(conversation) != nil else {
            throw Failure(.badConversation, "\"\(conversation)\" is no conversation id, for example p:alice|bob")
        }
        return Checked(from: from, conversation: conversation, item: try item(of: message))
    }

    private func item(of message: OutgoingMessage) throws -> SendItem {
        var item = SendItem()
        item.clientMsgID = try id(of: message)
        item.targetSeq = message.target_seq ?? 0
        switch (message.text, message.content) {
        case (let text?, nil):
            item.content = Data(text.utf8)
            item.kind = .contentText
        case (nil, let content?):
            item.content = content
            item.kind = .contentCustom
        case (nil, nil) where message.kind == "recall": break
        default: throw Failure(.malformedRequest, "give either text or content (base64)")
        }
        switch message.kind {
        case nil: break
        case "text": item.kind = .contentText
        case "custom": item.kind = .contentCustom
        case "recall": item.kind = .contentRecall
        default: throw Failure(.malformedRequest, "kind must be text, custom or recall")
        }
        return item
    }

    private func id(of message: OutgoingMessage) throws -> Data {
        guard let text = message.client_msg_id else {
            var random = SystemRandomNumberGenerator()
            return Data(MessageID.make(timeMS: clock().wallMS, random: (random.next(), random.next())))
        }
        guard let bytes = UUIDText.bytes(text), MessageID.timeMS(bytes) != nil else {
            throw Failure(.badMessageID, "client_msg_id must be a version 7 UUID (RFC 9562)")
        }
        return Data(bytes)
    }

    private typealias Sent = (body: SendOutcome, failure: Failure?)

    /// One call per sender and conversation, all in one question to Route; answers in the order of the messages.
    private func send(_ messages: [Checked], _ app: String) async throws -> [Sent] {
        var groups: [[Int]] = []
        var places: [String: Int] = [:]
        for (index, message) in messages.enumerated() {
            let key = message.from + "\u{1}" + message.conversation
            if let place = places[key] {
                groups[place].append(index)
            } else {
                places[key] = groups.count
                groups.append([index])
            }
        }
        let calls = try groups.map { group in try sendCall(group.map { messages[$0] }, app) }
        let replies: [ServiceReply]
        do { replies = try await roles.serve(calls) } catch let failure as Failure {
            // Told per message, with its id: the sender of an unknown outcome must be able to send the same id again.
            return messages.map { sent($0, failure: failure) }
        }
        var results = [Sent?](repeating: nil, count: messages.count)
        for (group, reply) in zip(groups, replies) {
            for (index, result) in zip(group, settle(group.map { messages[$0] }, reply)) { results[index] = result }
        }
        return results.compactMap { $0 }
    }

    private func sendCall(_ messages: [Checked], _ app: String) throws -> ServiceCall {
        let body = SendRequest.with {
            $0.conversation = messages[0].conversation
            $0.items = messages.map(\.item)
        }
        return ServiceCall.with {
            $0.caller = .with {
                $0.appID = app
                $0.userID = messages[0].from
                $0.deviceID = Self.device
                $0.platform = Self.device
            }
            $0.svid = WellKnownService.im
            $0.method = 1
            $0.orderKey = messages[0].conversation
            $0.body = body.buffer.withUnsafeReadableBytes { Data($0) }
        }
    }

    private func settle(_ messages: [Checked], _ reply: ServiceReply) -> [Sent] {
        if reply.hasFailure, reply.failure.code != 0 { return messages.map { sent($0, failure: reply.failure) } }
        guard let response = try? SendResponse(serializedBytes: reply.body), response.results.count == messages.count
        else {
            let failure = Failure(.outcomeUnknown, "the answer could not be read; send the same client_msg_id again")
            return messages.map { sent($0, failure: failure) }
        }
        return zip(messages, response.results).map { message, result in
            switch result.outcome {
            case .accepted: return sent(message, accepted: result.sentMs)
            case .refused: return sent(message, failure: result.failure, certain: true)
            case .unknown, .UNRECOGNIZED:
                let unknown = Failure(.outcomeUnknown, "send the same client_msg_id again to learn what happened")
                let told = result.hasFailure && result.failure.code != 0
                return sent(message, failure: told ? result.failure : unknown, certain: false)
            }
        }
    }

    private func sent(_ message: Checked, accepted sentMS: UInt64) -> Sent {
        (outcome(message, "accepted", sentMS, nil), nil)
    }

    /// - Parameter certain: whether the message is surely not stored; by default, whether the failure says so.
    private func sent(_ message: Checked, failure: Failure, certain: Bool? = nil) -> Sent {
        let refused = certain ?? !(failure.isCode(.outcomeUnknown) || failure.isCode(.deadlineExceeded))
        return (outcome(message, refused ? "refused" : "unknown", nil, failure), failure)
    }

    private func outcome(_ message: Checked, _ word: String, _ sentMS: UInt64?, _ failure: Failure?) -> SendOutcome {
        SendOutcome(
            outcome: word, conversation: message.conversation, client_msg_id: UUIDText.text(message.item.clientMsgID),
            sent_ms: sentMS, error: failure.map(ErrorBody.init))
    }
}

/// UUIDs as text (RFC 9562, section 4), either case, with or without hyphens.
enum UUIDText {
    static func bytes(_ text: String) -> [UInt8]? {
        let digits = text.utf8.filter { $0 != 0x2d }
        guard digits.count == 32, text.utf8.count == 32 || text.utf8.count == 36 else { return nil }
        var bytes: [UInt8] = []
        var index = digits.startIndex
        while index < digits.endIndex {
            guard let high = hex(digits[index]), let low = hex(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
            index += 2
        }
        return bytes
    }

    static func text(_ bytes: some Collection<UInt8>) -> String {
        var text = ""
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text.append("-") }
            text += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }
        return text
    }

    private static func hex(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x61...0x66: digit - 0x61 + 10
        case 0x41...0x46: digit - 0x41 + 10
        default: nil
        }
    }
}
