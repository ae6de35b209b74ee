/// Chat over MQTT 3.1.1: every receiver subscribes to a topic of its own with QoS 1, its sender publishes there with
/// QoS 1. The broker's PUBACK is the acknowledgement; receivers answer each message with theirs.
final class MQTTChat: ChatTraffic, Dialect {
    let name = "mqtt"
    weak var run: ChatRun?
    /// The run's number and the message's stand at the front of the payload.
    static let leastBytes = 12
    let heartbeatMicros: UInt64 = 60_000_000
    private let bytes: Int
    /// Told apart from what another run may have under way on the same topics.
    private let runNumber: UInt64
    private var pairs: [Pair] = []
    private var templates: [PublishTemplate] = []

    init(bytes: Int, runNumber: UInt64 = .random(in: .min ... .max)) {
        self.bytes = bytes
        self.runNumber = runNumber
    }

    func tokens(for users: [String]) -> [String] { users.map { _ in "" } }

    func prepare(_ pairs: [Pair]) {
        self.pairs = pairs
        templates = pairs.map {
            PublishTemplate(topic: Self.topic($0.receiver), runNumber: runNumber, payloadBytes: bytes)
        }
    }

    func write(_ number: UInt32, of pair: Pair) { templates[pair.index].append(number, to: &pair.sender.out) }

    static func topic(_ receiver: Link) -> String { "bench/\(receiver.user)" }

    // MARK: - Connection

    func connected(_ link: Link, of fleet: Fleet) {
        link.stage = .greeting
        link.out += MQTTPacket.connect(
            client: link.user, keepAliveSeconds: UInt16(heartbeatMicros / 1_000_000))
    }

    func keepAlive(_ link: Link) { link.out += MQTTPacket.pingreq }

    func goodbye(_ link: Link) { link.out += MQTTPacket.disconnect }

    func parse(_ bytes: UnsafeRawBufferPointer, _ link: Link, of fleet: Fleet) throws(BenchError) -> Int {
        var at = 0
        while link.socket >= 0, let cut = try MQTTPacket.next(bytes, at: at) {
            let body = UnsafeRawBufferPointer(rebasing: bytes[cut.start..<cut.end])
            switch cut.kind {
            case .publish: try published(body, cut.flags, link, fleet)
            case .puback: if let id = MQTTPacket.number(body, at: 0) { acknowledged(id, link) }
            case .connack: try connack(body, link, fleet)
            case .suback: try suback(body, link, fleet)
            case .pingresp: break
            }
            at = cut.end
        }
        return at
    }

    private func connack(_ body: UnsafeRawBufferPointer, _ link: Link, _ fleet: Fleet) throws(BenchError) {
        guard link.stage == .greeting, body.count == 2, body[1] == 0 else {
            throw BenchError("the broker refuses the connection: code \(body.count == 2 ? Int(body[1]) : -1)")
        }
        // Senders have an even index.
        guard link.index % 2 == 1 else { return fleet.ready(link) }
        link.stage = .authenticating
        link.out += MQTTPacket.subscribe(topic: Self.topic(link), id: 1)
        fleet.touch(link)
    }

    private func suback(_ body: UnsafeRawBufferPointer, _ link: Link, _ fleet: Fleet) throws(BenchError) {
        guard link.stage == .authenticating, body.count == 3, body[2] == 1 else {
            throw BenchError("the broker does not grant a subscription with QoS 1")
        }
        fleet.ready(link)
    }

    // MARK: - Messages

    private func published(
        _ body: UnsafeRawBufferPointer, _ flags: UInt8, _ link: Link, _ fleet: Fleet
    ) throws(BenchError) {
        guard let (id, payload) = MQTTPacket.published(body, flags: flags), let id else {
            throw BenchError("the broker sent a message without QoS 1")
        }
        link.out += MQTTPacket.puback(id)
        fleet.touch(link)
        let content = UnsafeRawBufferPointer(rebasing: body[payload...])
        guard let number = PublishTemplate.number(content, runNumber: runNumber), content.count == bytes else {
            run?.count("foreign_message")
            return
        }
        run?.received(number, of: pairs[link.index / 2])
    }

    private func acknowledged(_ id: UInt16, _ link: Link) {
        let pair = pairs[link.index / 2]
        run?.acknowledged(PacketID.number(id, from: pair.base), of: pair)
    }
}

/// Packet ids are 1 to 65535; numbers of messages go on. What is open at one time spans far fewer.
enum PacketID {
    private static let count: UInt32 = 65_535

    static func id(_ number: UInt32) -> UInt16 { UInt16(number % count) + 1 }

    /// The first number from `base` on that has the id.
    static func number(_ id: UInt16, from base: UInt32) -> UInt32 {
        let wanted = UInt32(id &- 1) % count
        return base + (wanted + count - base % count) % count
    }
}

/// One receiver's PUBLISH with everything that never changes; a send copies it and writes two fields over.
struct PublishTemplate {
    let bytes: [UInt8]
    private let idAt: Int
    private let numberAt: Int

    /// - Parameter payloadBytes: at least `MQTTChat.leastBytes`.
    init(topic: String, runNumber: UInt64, payloadBytes: Int) {
        var payload: [UInt8] = []
        withUnsafeBytes(of: runNumber.bigEndian) { payload.append(contentsOf: $0) }
        payload += (8..<payloadBytes).map { UInt8(ascii: "a") + UInt8($0 % 26) }
        bytes = MQTTPacket.publish(topic: topic, id: 0, payload: payload)
        idAt = bytes.count - payloadBytes - 2
        numberAt = bytes.count - payloadBytes + 8
    }

    func append(_ number: UInt32, to out: inout [UInt8]) {
        let start = out.count
        out.append(contentsOf: bytes)
        out.withUnsafeMutableBytes { all in
            all.storeBytes(of: PacketID.id(number).bigEndian, toByteOffset: start + idAt, as: UInt16.self)
            all.storeBytes(of: number.bigEndian, toByteOffset: start + numberAt, as: UInt32.self)
        }
    }

    /// The message's number if the payload is of this run.
    static func number(_ payload: UnsafeRawBufferPointer, runNumber: UInt64) -> UInt32? {
        guard payload.count >= MQTTChat.leastBytes,
            UInt64(bigEndian: payload.loadUnaligned(fromByteOffset: 0, as: UInt64.self)) == runNumber
        else { return nil }
        return UInt32(bigEndian: payload.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
    }
}
