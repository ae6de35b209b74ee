import Foundation
import Logging
import RPC
import Testing
import Wire

@testable import NIOTransport

/// The same calls by value and over TCP: who calls cannot tell the difference.
@Suite(.serialized) struct CallContractTests {
    @Test(arguments: Fabric.Kind.allCases) func answered(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let sink = Answers()
        fabric.call(5, Fabric.order("hello"), sink)
        #expect(await sink.wait(1)[5] == .answered(Fabric.order("hello")))
        await fabric.stop()
    }

    @Test(arguments: Fabric.Kind.allCases) func refusedWithTheCalleesFailure(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let sink = Answers()
        fabric.call(1, Fabric.order("refuse"), sink)
        #expect(await sink.wait(1)[1] == .refused(Failure(.busy, "as you wish", retryAfterMS: 7)))
        await fabric.stop()
    }

    @Test(arguments: Fabric.Kind.allCases) func unknownWhenNoAnswerComesInTime(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let lane = Lane.thread(name: "caller")
        let caller = RoleCaller(directory: fabric.near, lane: lane)
        let result = await caller.call(.any(.online), Fabric.order("silence"), timeoutMS: 200)
        guard case .unknown(let failure) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(failure.isCode(.deadlineExceeded))
        lane.stop()
        await fabric.stop()
    }

    @Test(arguments: Fabric.Kind.allCases) func deadlinesTravelAsWhatRemains(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let sink = Answers()
        fabric.call(1, Fabric.order("deadline"), sink, timeoutMS: 3000)
        guard case .answered(.lookupResponse(let body))? = await sink.wait(1)[1] else {
            Issue.record("no answer")
            return
        }
        let remaining = body.results.first?.tokenEpoch ?? 0
        #expect(remaining > 1000 && remaining <= 3001)
        await fabric.stop()
    }

    @Test(arguments: Fabric.Kind.allCases) func largeBodies(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let sink = Answers()
        var body = PushMessages()
        body.items = (0..<12).map { index in
            var item = PushItem()
            item.record.message.message = Data(repeating: UInt8(index), count: 1 << 20)
            return item
        }
        fabric.call(1, .pushMessages(body), sink)
        fabric.call(2, Fabric.order("behind it"), sink)
        let all = await sink.wait(2)
        #expect(all[1] == .answered(.pushMessages(body)))
        #expect(all[2] == .answered(Fabric.order("behind it")))
        await fabric.stop()
    }

    @Test(arguments: Fabric.Kind.allCases) func aThousandInFlightInTheOrderMade(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let sink = Answers()
        for id in 1...1000 as ClosedRange<UInt64> { fabric.call(id, Fabric.order("\(id)"), sink) }
        let all = await sink.wait(1000)
        #expect(all.count == 1000)
        #expect(all.allSatisfy { $0.value == .answered(Fabric.order("\($0.key)")) })
        #expect(fabric.host.inspect { $0.seen } == (1...1000).map { "\($0)" })
        await fabric.stop()
    }

    @Test(arguments: Fabric.Kind.allCases) func nobodyThereIsARefusal(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let lane = Lane.thread(name: "caller")
        let caller = RoleCaller(directory: fabric.near, lane: lane)
        guard case .refused(let failure) = await caller.call(.any(.im), Fabric.order("x")) else {
            Issue.record("not refused")
            return
        }
        #expect(failure.isCode(.serviceUnavailable))
        lane.stop()
        await fabric.stop()
    }

    /// Every kind of payload comes back from the other side equal to what was sent: also with every field set that a
    /// body of random bytes in its nested messages gives.
    @Test(arguments: Fabric.Kind.allCases) func everyPayloadKindIsCarried(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let sink = Answers()
        var sent: [UInt64: Payload] = [:]
        for number in 1...UInt16(999) {
            guard let empty = try Payload(kind: number, body: []), empty.kind != 15 else { continue }
            sent[UInt64(number)] = empty
            // Field 1 as a nested message or string with one character, field 2 as a number: what fits is kept,
            // what does not is refused by the decoder and left out.
            for (variant, bytes) in Self.bodies.enumerated() {
                guard let filled = try? Payload(kind: number, body: bytes) else { continue }
                sent[UInt64(number) + UInt64(variant + 1) * 10_000] = filled
            }
        }
        #expect(sent.count > 100)
        for (id, payload) in sent { fabric.call(id, payload, sink) }
        let all = await sink.wait(sent.count)
        for (id, payload) in sent { #expect(all[id] == .answered(payload)) }
        await fabric.stop()
    }

    /// Protobuf bodies: tag (field << 3 | wire type), value.
    private static let bodies: [[UInt8]] = [
        [0x0a, 0x03, 0x0a, 0x01, 0x61], [0x0a, 0x02, 0x10, 0x07, 0x0a, 0x02, 0x10, 0x09], [0x08, 0x05], [0x10, 0x2a],
        [0x0a, 0x01, 0x61, 0x12, 0x01, 0x62], [0x0a, 0x04, 0x12, 0x02, 0x08, 0x01], [0x12, 0x03, 0x0a, 0x01, 0x7a],
        [0xf8, 0x3e, 0x01],
    ]

    @Test(arguments: Fabric.Kind.allCases) func tellsArrive(_ kind: Fabric.Kind) async throws {
        let fabric = try await Fabric(kind)
        let deadline = SystemClock.now().micros + 1_000_000
        for target in fabric.near.targets(of: .online) {
            let tell = IncomingCall(id: 0, origin: nil, payload: Fabric.order("psst"), deadline: deadline)
            #expect(target.accept(tell) == nil)
        }
        let sink = Answers()
        fabric.call(1, Fabric.order("after"), sink)
        _ = await sink.wait(1)
        #expect(fabric.host.inspect { $0.seen } == ["psst", "after"])
        await fabric.stop()
    }
}
