import Foundation
import Testing

@testable import MartletBench

/// MQTT as the standard's own examples have it, and the dialect as a script of what a broker sends.
@Suite struct MQTTTests {
    @Test func packetsAreTheStandards() {
        #expect(
            MQTTPacket.connect(client: "ab", keepAliveSeconds: 60)
                == [0x10, 14, 0, 4] + Array("MQTT".utf8) + [4, 2, 0, 60, 0, 2] + Array("ab".utf8))
        #expect(MQTTPacket.subscribe(topic: "a/b", id: 10) == [0x82, 8, 0, 10, 0, 3] + Array("a/b".utf8) + [1])
        #expect(
            MQTTPacket.publish(topic: "a/b", id: 0x1234, payload: [7, 8])
                == [0x32, 9, 0, 3] + Array("a/b".utf8) + [0x12, 0x34, 7, 8])
        #expect(MQTTPacket.puback(0xfffe) == [0x40, 2, 0xff, 0xfe])
        // Table 2.4: a second byte of length from 128 on, a third from 16,384 on.
        for (count, head) in [(127, [127]), (128, [0x80, 1]), (16_383, [0xff, 0x7f]), (16_384, [0x80, 0x80, 1])] {
            let packet = MQTTPacket.publish(topic: "", id: 1, payload: [UInt8](repeating: 0, count: count - 4))
            #expect(Array(packet[1...head.count]) == head.map { UInt8($0) } && packet.count == 1 + head.count + count)
        }
    }

    @Test func packetsAreCutAtEveryPoint() throws {
        let first = MQTTPacket.publish(topic: "t", id: 5, payload: [UInt8](repeating: 9, count: 200))
        let bytes = [0x20, 2, 0, 0] + first + [0xd0, 0]
        for count in 0...bytes.count {
            try bytes[..<count].withUnsafeBytes { raw in
                var ends: [Int] = []
                while let cut = try MQTTPacket.next(raw, at: ends.last ?? 0) { ends.append(cut.end) }
                #expect(ends == [4, 4 + first.count, bytes.count].filter { $0 <= count })
            }
        }
        let foreign: [[UInt8]] = [
            Array("HTTP/1.1 400".utf8), [0x00, 0], [0x30, 0xff, 0xff, 0xff, 0xff, 1], [0x30, 0xff, 0xff, 0xff, 0x7f],
        ]
        for bytes in foreign {
            #expect(throws: BenchError.self, "\(bytes)") {
                try bytes.withUnsafeBytes { raw in _ = try MQTTPacket.next(raw, at: 0) }
            }
        }
    }

    @Test func whatIsInAPublish() {
        let body: [UInt8] = [0, 2, 0x61, 0x62, 0xab, 0xcd, 1, 2, 3]
        body.withUnsafeBytes { raw in
            let one = MQTTPacket.published(raw, flags: 0b1010)
            #expect(one?.id == 0xabcd && one?.payload == 6)
            let none = MQTTPacket.published(raw, flags: 0)
            #expect(none != nil && none?.id == nil && none?.payload == 4)
        }
        for count in 0..<6 {
            body[..<count].withUnsafeBytes { #expect(MQTTPacket.published($0, flags: 2) == nil) }
        }
    }

    @Test func packetIDsLeadBackToNumbers() {
        let numbers = (1...70_000).map { UInt32($0) } + [131_069, 131_070, 131_071, 4_000_000_000]
        for number in numbers {
            let id = PacketID.id(number)
            #expect(id > 0)
            // As far behind as the oldest that is open can be.
            for behind: UInt32 in [0, 1, 31, 63] {
                #expect(PacketID.number(id, from: number - min(number - 1, behind)) == number)
            }
        }
    }

    @Test func aSendCarriesItsNumber() throws {
        let template = PublishTemplate(topic: "bench/b3", runNumber: 0x0102_0304_0506_0708, payloadBytes: 100)
        var out: [UInt8] = [1]
        template.append(0xdead_beef, to: &out)
        try out[1...].withUnsafeBytes { raw in
            let cut = try #require(try MQTTPacket.next(raw, at: 0))
            #expect(cut.kind == .publish && cut.end == raw.count)
            let body = UnsafeRawBufferPointer(rebasing: raw[cut.start..<cut.end])
            let (id, at) = try #require(MQTTPacket.published(body, flags: cut.flags))
            #expect(id == PacketID.id(0xdead_beef) && body.count - at == 100)
            let payload = UnsafeRawBufferPointer(rebasing: body[at...])
            #expect(PublishTemplate.number(payload, runNumber: 0x0102_0304_0506_0708) == 0xdead_beef)
            #expect(PublishTemplate.number(payload, runNumber: 1) == nil)
            let short = UnsafeRawBufferPointer(rebasing: payload[..<11])
            #expect(PublishTemplate.number(short, runNumber: 0x0102_0304_0506_0708) == nil)
        }
    }

    @Test func aConversationWithABroker() throws {
        let chat = MQTTChat(bytes: 20, runNumber: 77)
        let peer = try ScriptedPeer(chat)
        peer.connect()
        #expect(peer.taken(0) == MQTTPacket.connect(client: "bench-a0", keepAliveSeconds: 60))
        try peer.send([0x20, 2, 0, 0], to: 0)
        #expect(peer.sender.stage == .ready && peer.taken(0) == [])
        _ = peer.taken(1)
        try peer.send([0x20, 2, 0, 0], to: 1)
        #expect(peer.receiver.stage != .ready)
        #expect(peer.taken(1) == MQTTPacket.subscribe(topic: "bench/bench-b0", id: 1))
        try peer.send([0x90, 3, 0, 1, 1], to: 1)
        #expect(peer.receiver.stage == .ready)

        let number = peer.start()
        let sent = peer.taken(0)
        // The same packet comes to the receiver with an id of the broker's.
        var delivered = sent
        delivered.replaceSubrange(delivered.count - 22..<delivered.count - 20, with: [0x70, 0x01])
        try peer.send(delivered, to: 1)
        #expect(peer.taken(1) == MQTTPacket.puback(0x7001))
        #expect(peer.pair[number].received && peer.pair.isOpen(number), "not acknowledged yet")
        try peer.send(MQTTPacket.puback(PacketID.id(number)), to: 0)
        #expect(!peer.pair.isOpen(number) && peer.run.errors.isEmpty)

        // The other order; then what is not of this run, and what lost its end.
        let second = peer.start()
        let again = peer.taken(0)
        try peer.send(MQTTPacket.puback(PacketID.id(second)), to: 0)
        #expect(peer.pair.isOpen(second))
        try peer.send(MQTTPacket.publish(topic: "bench/bench-b0", id: 3, payload: Array(again.suffix(19))), to: 1)
        #expect(peer.run.errors == ["foreign_message": 1] && peer.pair.isOpen(second))
        try peer.send(MQTTPacket.publish(topic: "bench/bench-b0", id: 4, payload: Array(again.suffix(20))), to: 1)
        #expect(!peer.pair.isOpen(second))
        #expect(throws: BenchError.self) { try peer.send([0x30, 3, 0, 1, 0x61], to: 1) }
    }

    @Test func aBrokerThatRefuses() throws {
        let peer = try ScriptedPeer(MQTTChat(bytes: 20))
        peer.connect()
        #expect(throws: BenchError.self) { try peer.send([0x20, 2, 0, 5], to: 0) }
        try peer.send([0x20, 2, 0, 0], to: 1)
        // 0x80 is "failure", 0 a subscription without acknowledgements.
        #expect(throws: BenchError.self) { try peer.send([0x90, 3, 0, 1, 0x80], to: 1) }
        #expect(throws: BenchError.self) { try peer.send([0x90, 3, 0, 1, 0], to: 1) }
    }
}

/// One pair of a chat run without sockets: a test plays the server.
final class ScriptedPeer {
    let run: ChatRun
    private let traffic: any ChatTraffic

    init(_ traffic: any ChatTraffic) throws {
        self.traffic = traffic
        run = try ChatRun(
            ChatPlan(pairs: 1, bytes: 20, seconds: 1, depth: 1), traffic, server: "127.0.0.1:1", pids: [])
    }

    deinit { for link in run.fleet.links { link.socket = -1 } }

    var pair: Pair { run.pairs[0] }
    var sender: Link { pair.sender }
    var receiver: Link { pair.receiver }

    /// Both connections are there. The number of their socket is nobody's: nothing is written to it.
    func connect() {
        for link in run.fleet.links {
            link.socket = 1 << 20
            traffic.dialect.connected(link, of: run.fleet)
        }
    }

    /// What a connection wants to send, taken away.
    func taken(_ link: Int) -> [UInt8] {
        defer { run.fleet.links[link].out = [] }
        return run.fleet.links[link].out
    }

    func send(_ bytes: [UInt8], to link: Int) throws {
        let used = try bytes.withUnsafeBytes { try traffic.dialect.parse($0, run.fleet.links[link], of: run.fleet) }
        #expect(used == bytes.count, "not all was understood")
    }

    func send(_ text: String, to link: Int) throws { try send(Array(text.utf8), to: link) }

    /// A message begins, as the run does it.
    func start() -> UInt32 {
        let number = pair.start(Flight(ended: false))
        traffic.write(number, of: pair)
        return number
    }
}
