import Identity

/// Names a notice: the same id and content to the same user is stored once, however often it is sent, for seven days.
public struct NoticeID: Sendable, Hashable {
    /// 16 bytes of a version 7 UUID.
    public let bytes: [UInt8]

    /// A fresh id for `timeMS`, Unix milliseconds (now, when a notice is made and sent at once).
    public static func fresh(timeMS: UInt64) -> NoticeID {
        NoticeID(MessageID.make(timeMS: timeMS, random: (.random(in: 0...UInt64.max), .random(in: 0...UInt64.max))))
    }

    /// The id that always comes out of the same cause, for example an order's number and its version: whoever
    /// repeats the notice after a crash makes the same id again. `timeMS` is the cause's own time, not that of
    /// sending.
    public static func derived(from cause: String, timeMS: UInt64) -> NoticeID {
        NoticeID(
            MessageID.make(timeMS: timeMS, random: (StableHash.of("notice", cause), StableHash.of(cause, "notice"))))
    }

    /// An id made elsewhere; nil unless it is 16 bytes of a version 7 UUID.
    public init?(bytes: [UInt8]) {
        guard MessageID.timeMS(bytes) != nil else { return nil }
        self.bytes = bytes
    }

    private init(_ bytes: [UInt8]) { self.bytes = bytes }
}
