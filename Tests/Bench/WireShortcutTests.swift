import Foundation
import Identity
import NIOCore
import Testing
import Wire

@testable import MartletBench

/// The generator's hand-made bytes against the real codec.
@Suite struct WireShortcutTests {
    @Test(arguments: [1, 100, 4000]) func aPatchedTemplateIsTheSendItStandsFor(contentBytes: Int) throws {
        let template = try SendTemplate(conversation: "p:bench-a7|bench-b7", contentBytes: contentBytes)
        var out: [UInt8] = [9, 9]
        let now: UInt64 = 1_790_000_000_123
        for number: UInt32 in [1, 0xfedc_ba98] {
            let tag = MessageTag(timeMS: now, run: 0x3a5_1234_5678, number: number)
            template.append(requestID: number, turn: 513, tag: tag, to: &out)
        }
        var stream = ByteBuffer(bytes: out.dropFirst(2))
        for number: UInt32 in [1, 0xfedc_ba98] {
            guard
                case .orderedRequest(let header, let key, let turn, let body)? = try FrameCodec.decodeStream(
                    &stream, limit: FrameLimits.afterLoginBytes)
            else {
                Issue.record("no ordered request")
                return
            }
            #expect(header == Frame.RequestHeader(svid: 1, method: 1, requestID: number))
            #expect(key == "p:bench-a7|bench-b7" && turn == 513)
            let request = try #require(SendRequest(body: body))
            #expect(request.conversation == key && request.items.count == 1)
            #expect(request.items[0].content.count == contentBytes && request.items[0].kind == .contentText)
            #expect(MessageID.timeMS(request.items[0].clientMsgID) == now)
        }
        #expect(stream.readableBytes == 0)
    }

    private func push(_ id: Data) -> [UInt8] {
        var message = ChatMessage()
        message.sender = "bench-a7"
        message.device = "bench"
        message.clientMsgID = id
        message.content = Data(repeating: 0x61, count: 300)
        var pushed = PushedMessage()
        pushed.conversation = "p:bench-a7|bench-b7"
        pushed.seq = 300
        pushed.n = 299
        pushed.timeMs = 1_790_000_000_123
        pushed.message = Data(message.buffer.readableBytesView)
        var out = ByteBuffer()
        FrameCodec.encodePayload(.push(pushID: 0x0102_0304, pushed.buffer), into: &out)
        return Array(out.readableBytesView)
    }

    @Test func theIDOfAPushIsFound() throws {
        let tag = MessageTag(timeMS: 5, run: 77 << 30 | 12, number: 0xffff_fffe)
        var id = Data()
        withUnsafeBytes(of: tag.high.bigEndian) { id.append(contentsOf: $0) }
        withUnsafeBytes(of: tag.low.bigEndian) { id.append(contentsOf: $0) }
        let bytes = push(id)
        bytes.withUnsafeBytes { frame in
            #expect(FrameScan.number(frame) == 0x0102_0304)
            guard let place = FrameScan.messageID(push: frame) else {
                Issue.record("no id found")
                return
            }
            #expect(Data(frame[place]) == id)
            #expect(MessageTag.number(frame, at: place.lowerBound, run: 77 << 30 | 12) == 0xffff_fffe)
            // Another run's, by either half of its number.
            #expect(MessageTag.number(frame, at: place.lowerBound, run: 78 << 30 | 12) == nil)
            #expect(MessageTag.number(frame, at: place.lowerBound, run: 77 << 30 | 13) == nil)
        }
        // Cut short anywhere, it is no push with an id, and nothing is read beyond the end.
        for count in 0..<90 {
            Array(bytes[..<count]).withUnsafeBytes { #expect(FrameScan.messageID(push: $0) == nil) }
        }
    }

    @Test func acceptedMeansAccepted() {
        for (outcome, accepted) in [(Outcome.accepted, true), (.refused, false), (.unknown, false)] {
            var result = SendResult()
            result.outcome = outcome
            result.sentMs = 1_790_000_000_123
            var response = SendResponse()
            response.results = [result]
            var out = ByteBuffer()
            FrameCodec.encodePayload(.response(requestID: 9, response.buffer), into: &out)
            Array(out.readableBytesView).withUnsafeBytes { #expect(FrameScan.accepted(response: $0) == accepted) }
        }
    }

    @Test func framesAreCutAtEveryPoint() throws {
        var stream = ByteBuffer()
        FrameCodec.encodeStream(.pong, into: &stream)
        FrameCodec.encodeStream(.push(pushID: 7, ByteBuffer(repeating: 1, count: 200)), into: &stream)
        let bytes = Array(stream.readableBytesView)
        for count in 0...bytes.count {
            try bytes[..<count].withUnsafeBytes { raw in
                var ends: [Int] = []
                var at = 0
                while let cut = try FrameCutter.next(raw, at: at, webSocket: false) {
                    at = cut.end
                    ends.append(at)
                }
                #expect(ends == [2, bytes.count].filter { $0 <= count })
            }
        }
        #expect(throws: BenchError.self) {
            try [UInt8]([0xff, 0xff, 0xff, 0xff, 1]).withUnsafeBytes { raw in
                _ = try FrameCutter.next(raw, at: 0, webSocket: false)
            }
        }
    }

    @Test func webSocketFramesOfEveryLengthForm() throws {
        for (head, length) in [
            ([0x82, 5], 5), ([0x82, 126, 1, 0], 256), ([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ] {
            let bytes = head.map { UInt8($0) } + [UInt8](repeating: 6, count: length)
            try bytes.withUnsafeBytes { raw in
                let cut = try #require(try FrameCutter.next(raw, at: 0, webSocket: true))
                #expect(cut.kind == .frame && cut.start == head.count && cut.end == bytes.count)
                let short = UnsafeRawBufferPointer(rebasing: raw.dropLast())
                #expect((try FrameCutter.next(short, at: 0, webSocket: true))?.end == nil)
            }
        }
    }
}

@Suite struct PairTests {
    @Test func theRingHoldsWhatIsUnfinishedAndFreesFromTheFront() throws {
        let link = Link(index: 0, user: "a", token: "", webSocket: false)
        let pair = Pair(sender: link, receiver: link)
        var started: UInt32 = 0
        while pair.hasRoom {
            _ = pair.start(Flight(ended: false))
            started += 1
        }
        #expect(started == 64 && pair.open == 64)
        // The second being over gives no room while the first is not.
        pair.end(2)
        #expect(!pair.hasRoom && pair.open == 63 && !pair.isOpen(2) && pair.isOpen(1))
        pair.end(1)
        #expect(pair.hasRoom && pair.base == 3)
        #expect(pair.start(Flight(startMicros: 5, ended: false)) == 65)
        #expect(pair[65].startMicros == 5 && !pair.isOpen(1) && !pair.isOpen(66))
    }

    @Test func pushesAreAcknowledgedByCountOrByTime() {
        let link = Link(index: 0, user: "a", token: "", webSocket: false)
        link.socket = 0
        var acks = PushAcks()
        var now: UInt64 = 5_000_000
        for id: UInt32 in 1...31 { #expect(acks.arrived(id, on: link, now: now) == .fresh) }
        #expect(!acks.full(link))
        #expect(acks.arrived(31, on: link, now: now) == .again)
        #expect(acks.arrived(34, on: link, now: now) == .gap)
        #expect(acks.full(link) && link.pushID == 31)
        link.appendPushAck()
        #expect(link.out == [5, 12, 0, 0, 0, 31] && !acks.full(link))
        // Acknowledged by count; its place in the wheel then says nothing. The next one waits its own time.
        now += 100_000
        #expect(acks.arrived(32, on: link, now: now) == .fresh)
        var told: [UInt64] = []
        for step in 1...30 {
            acks.due(now + UInt64(step) * 10_000) { link in
                told.append(UInt64(step) * 10)
                link.appendPushAck()
            }
        }
        #expect(told.count == 1)
        #expect(told.allSatisfy { (160...220).contains($0) })
        #expect(acks.isEmpty)
        link.socket = -1
    }
}
