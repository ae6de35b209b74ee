import Foundation
import Identity
import RPC
import Wire

extension SendGroup {
    /// The checks that need nobody else.
    mutating func check(now: Instant, config: IMConfig) {
        for index in items.indices {
            if let failure = Self.failure(of: items[index].send, now: now) { items[index].verdict = .refused(failure) }
        }
    }

    private static func failure(of item: SendItem, now: Instant) -> Failure? {
        guard let made = item.clientMsgID.withUnsafeBytes({ MessageID.timeMS(bytes: $0) }) else {
            return Failure(.badMessageID, "client_msg_id is not a UUIDv7 of 16 bytes")
        }
        if made + MessageID.oldestAcceptedMS < now.wallMS {
            return Failure(.resendExpired, "the message was made more than six days ago")
        }
        if made > now.wallMS + MessageID.futureAcceptedMS {
            return Failure(.resendExpired, "the message was made over five minutes in the future")
        }
        guard item.content.count <= RecordLimits.contentBytes else {
            return Failure(.messageTooLarge, "content over \(RecordLimits.contentBytes) bytes")
        }
        return contentFailure(of: item)
    }

    private static func contentFailure(of item: SendItem) -> Failure? {
        switch item.kind {
        case .contentText:
            guard !item.content.isEmpty, String(validating: item.content, as: UTF8.self) != nil else {
                return Failure(.badContent, "text is one or more bytes of UTF-8")
            }
            return nil
        case .contentCustom: return nil
        case .contentRecall:
            return item.targetSeq > 0 ? nil : Failure(.badContent, "a recall names the seq that it takes back")
        case .contentNotice: return Failure(.badContent, "notices are written by services")
        case .contentUnspecified, .UNRECOGNIZED: return Failure(.badContent, "unknown kind of content")
        }
    }

    /// The record of an item, made when everything is known about it.
    func record(_ item: Item, now: Instant) -> LogRecord? {
        let control = item.send.kind == .contentRecall
        var message = ChatMessage()
        message.sender = caller.userID
        message.device = caller.deviceID
        message.clientMsgID = item.send.clientMsgID
        message.kind = item.send.kind
        message.content = item.send.content
        message.sentMs = now.wallMS
        message.control = control
        message.targetSeq = item.send.targetSeq
        guard let encoded: Data = try? message.serializedBytes() else { return nil }
        var record = LogRecord()
        record.appID = caller.appID
        record.conversation = conversation
        record.sender = caller.userID
        record.device = caller.deviceID
        record.clientMsgID = item.send.clientMsgID
        record.timeMs = now.wallMS
        record.control = control
        record.targetSeq = item.send.targetSeq
        record.message = encoded
        record.traceID = item.traceID
        record.members = ConversationName(conversation)?.members ?? []
        record.sessionID = caller.sessionID
        return record
    }
}
