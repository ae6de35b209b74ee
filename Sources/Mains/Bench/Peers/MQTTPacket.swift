/// The few packets of MQTT 3.1.1 that a client with QoS 1 needs.
enum MQTTPacket {
    /// The control packet types that are read.
    enum Kind: UInt8 {
        case connack = 2
        case publish = 3
        case puback = 4
        case suback = 9
        case pingresp = 13
    }

    struct Cut {
        let kind: Kind
        /// The four bits beside the type.
        let flags: UInt8
        /// What follows the fixed header.
        let start: Int
        let end: Int
    }

    /// Beyond anything that the bench exchanges; a length above it means that this is no MQTT.
    static let mostBytes = 256 * 1024

    /// The next packet from `at` on; nil when it is not complete. The one after starts at its `end`.
    ///
    /// - Throws: for bytes that no broker sends to a client.
    static func next(_ bytes: UnsafeRawBufferPointer, at: Int) throws(BenchError) -> Cut? {
        guard at < bytes.count else { return nil }
        // Only a PUBLISH has flags; text that happens to begin with a type is told apart by them.
        guard let kind = Kind(rawValue: bytes[at] >> 4), kind == .publish || bytes[at] & 0x0f == 0 else {
            throw BenchError("the server sent \(bytes[at]) for a packet: is this the port of an MQTT broker?")
        }
        var length = 0
        for index in 0..<4 {
            guard at + 1 + index < bytes.count else { return nil }
            let byte = bytes[at + 1 + index]
            length |= Int(byte & 0x7f) << (7 * index)
            guard byte & 0x80 == 0 else { continue }
            let start = at + 2 + index
            guard length <= mostBytes else { break }
            return start + length <= bytes.count
                ? Cut(kind: kind, flags: bytes[at] & 0x0f, start: start, end: start + length) : nil
        }
        throw BenchError("the server sent a packet that is too long: is this the port of an MQTT broker?")
    }

    /// A PUBLISH: its packet id (nil with QoS 0) and where its payload starts; nil when the bytes are too few for it.
    static func published(_ body: UnsafeRawBufferPointer, flags: UInt8) -> (id: UInt16?, payload: Int)? {
        guard let topic = number(body, at: 0) else { return nil }
        let at = 2 + Int(topic)
        guard flags >> 1 & 3 > 0 else { return at <= body.count ? (nil, at) : nil }
        return number(body, at: at).map { ($0, at + 2) }
    }

    /// The big-endian number at the offset; nil when it is not all there.
    static func number(_ body: UnsafeRawBufferPointer, at: Int) -> UInt16? {
        at + 2 <= body.count ? UInt16(bigEndian: body.loadUnaligned(fromByteOffset: at, as: UInt16.self)) : nil
    }

    /// CONNECT with a clean session.
    static func connect(client: String, keepAliveSeconds: UInt16) -> [UInt8] {
        packet(0x10, text("MQTT") + [4, 0x02] + big(keepAliveSeconds) + text(client))
    }

    /// SUBSCRIBE to one topic with QoS 1.
    static func subscribe(topic: String, id: UInt16) -> [UInt8] { packet(0x82, big(id) + text(topic) + [1]) }

    /// PUBLISH with QoS 1.
    static func publish(topic: String, id: UInt16, payload: [UInt8]) -> [UInt8] {
        packet(0x32, text(topic) + big(id) + payload)
    }

    static func puback(_ id: UInt16) -> [UInt8] { packet(0x40, big(id)) }

    static let pingreq: [UInt8] = [0xc0, 0]
    static let disconnect: [UInt8] = [0xe0, 0]

    private static func packet(_ first: UInt8, _ body: [UInt8]) -> [UInt8] {
        var out = [first]
        var length = body.count
        repeat {
            let byte = UInt8(length & 0x7f)
            length >>= 7
            out.append(length > 0 ? byte | 0x80 : byte)
        } while length > 0
        return out + body
    }

    private static func text(_ string: String) -> [UInt8] { big(UInt16(string.utf8.count)) + Array(string.utf8) }

    private static func big(_ value: UInt16) -> [UInt8] {
        [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
    }
}
