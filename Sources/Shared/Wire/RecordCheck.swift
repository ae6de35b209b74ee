import Foundation
import Identity

/// Whether MsgWriter can store a log record. MsgProxy asks before it appends, so that the log holds only what can be
/// stored; MsgWriter asks again, because a log outlives the program that wrote it.
public enum RecordVerdict: Equatable, Sendable {
    /// Can be stored; the key under which a resend of it is found.
    case storable(dedupKey: Data)
    /// Cannot be stored, but its conversation is known: takes a place there as a placeholder.
    case placeholder(Failure)
    /// Belongs nowhere: only its bytes can be kept.
    case dead(Failure)
}

/// Sizes of a record.
public enum RecordLimits {
    /// Largest content of a message.
    public static let contentBytes = 32 * 1024
    /// Largest encoded ChatMessage: content and an envelope of names, ids and numbers.
    public static let messageBytes = contentBytes + 512
    /// Users that a record may name: both sides of a pair. A group's members are not in the record.
    public static let members = 2
    /// Session and trace ids are ours; this only bounds what a broken caller makes us hold.
    public static let idBytes = 256
}

extension LogRecord {
    /// The verdict on this record in a log of `partitions` partitions, in the partition given.
    public func verdict(partition: UInt32, partitions: UInt32) -> RecordVerdict {
        guard NameRule.isApp(appID), let name = ConversationName(conversation) else {
            return .dead(Failure(.badConversation, "the record names no conversation"))
        }
        guard StableHash.bucket(app: appID, conversation: conversation, buckets: partitions) == partition else {
            return .dead(Failure(.badConversation, "the record is in another conversation's partition"))
        }
        if let failure = envelopeFailure(name) { return .placeholder(failure) }
        guard message.count <= RecordLimits.messageBytes else {
            return .placeholder(Failure(.messageTooLarge, "message over \(RecordLimits.messageBytes) bytes"))
        }
        guard !message.isEmpty, let key = dedupKey else {
            return .placeholder(Failure(.badContent, "the message is not a ChatMessage"))
        }
        return .storable(dedupKey: key)
    }

    /// The dedup key; nil when the message cannot be read.
    public var dedupKey: Data? {
        message.withUnsafeBytes { bytes in
            MessageDedup.key(sender: sender, device: device, clientMsgID: clientMsgID, message: bytes).map { Data($0) }
        }
    }

    /// What is wrong with the fields around the message; nil when nothing is.
    private func envelopeFailure(_ name: ConversationName) -> Failure? {
        guard clientMsgID.withUnsafeBytes({ MessageID.timeMS(bytes: $0) }) != nil else {
            return Failure(.badMessageID, "client_msg_id is not a UUIDv7 of 16 bytes")
        }
        guard sender.isEmpty || NameRule.isUser(sender), device.isEmpty || NameRule.isUser(device) else {
            return Failure(.badDevice, "illegal sender or device")
        }
        guard members.count <= RecordLimits.members, members.allSatisfy({ NameRule.isUser($0) }) else {
            return Failure(.malformedRequest, "illegal members")
        }
        if !members.isEmpty, !name.hasMembers(members) {
            return Failure(.malformedRequest, "the members are not the conversation's")
        }
        guard sessionID.utf8.count <= RecordLimits.idBytes, traceID.utf8.count <= RecordLimits.idBytes else {
            return Failure(.malformedRequest, "session or trace id over \(RecordLimits.idBytes) bytes")
        }
        return nil
    }
}
