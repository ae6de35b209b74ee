internal import CHiredis

/// hiredis's half of the protocol: it writes commands and reads replies; it has no part in connections.
enum Hiredis {
    /// The command on the wire, given to `body` for the time of the call.
    static func format<T>(_ arguments: RedisArguments, _ body: (UnsafeRawBufferPointer) -> T) -> T? {
        var target: UnsafeMutablePointer<CChar>?
        let length = arguments.bytes.withUnsafeBytes { raw -> Int32 in
            // An empty array may have no address; the pointers of empty arguments are never followed.
            let base = raw.bindMemory(to: CChar.self).baseAddress
            var pointers: [UnsafePointer<CChar>?] = []
            var lengths: [Int] = []
            var start = 0
            for end in arguments.ends {
                pointers.append(base.map { $0 + start })
                lengths.append(end - start)
                start = end
            }
            return redisFormatCommandArgv(&target, Int32(arguments.count), &pointers, &lengths)
        }
        guard length >= 0, let target else { return nil }
        defer { redisFreeCommand(target) }
        return body(UnsafeRawBufferPointer(start: target, count: Int(length)))
    }
}

/// Turns what a connection brings into replies.
///
/// Isolation: the event loop of its connection.
final class ReplyParser {
    private let reader: UnsafeMutablePointer<redisReader>

    /// Nil when there is no memory.
    init?() {
        guard let reader = redisReaderCreate() else { return nil }
        self.reader = reader
    }

    deinit { redisReaderFree(reader) }

    /// Takes bytes; the replies that they complete.
    ///
    /// - Throws: `RedisProtocolError`: no Redis speaks like that, and nothing more can be read.
    func feed(_ bytes: UnsafeRawBufferPointer) throws(RedisProtocolError) -> [RedisReply] {
        if let base = bytes.bindMemory(to: CChar.self).baseAddress, bytes.count > 0 {
            guard redisReaderFeed(reader, base, bytes.count) == REDIS_OK else { throw problem }
        }
        var replies: [RedisReply] = []
        while true {
            var raw: UnsafeMutableRawPointer?
            guard redisReaderGetReply(reader, &raw) == REDIS_OK else { throw problem }
            guard let raw else { return replies }
            defer { freeReplyObject(raw) }
            replies.append(Self.reply(raw.assumingMemoryBound(to: redisReply.self).pointee))
        }
    }

    private var problem: RedisProtocolError {
        let text = withUnsafeBytes(of: reader.pointee.errstr) { raw in
            String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        return RedisProtocolError(message: text)
    }

    private static func reply(_ raw: redisReply) -> RedisReply {
        switch raw.type {
        case REDIS_REPLY_STRING: .bytes(bytes(raw))
        case REDIS_REPLY_STATUS: .status(String(decoding: bytes(raw), as: UTF8.self))
        case REDIS_REPLY_ERROR: .error(String(decoding: bytes(raw), as: UTF8.self))
        case REDIS_REPLY_INTEGER: .integer(raw.integer)
        case REDIS_REPLY_ARRAY:
            .array((0..<raw.elements).map { raw.element[$0].map { reply($0.pointee) } ?? .null })
        default: .null
        }
    }

    private static func bytes(_ raw: redisReply) -> [UInt8] {
        guard let start = raw.str else { return [] }
        return Array(UnsafeRawBufferPointer(start: start, count: raw.len))
    }
}

/// The bytes of a peer that is no Redis.
struct RedisProtocolError: Error, Equatable { let message: String }
