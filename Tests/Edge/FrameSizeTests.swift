import Foundation
import NIOCore
import RPC
import Testing
import Wire

@testable import LoginRole

/// Sizes of what comes from clients and of what goes to them.
@Suite struct FrameSizeTests {
    private static let most = FrameLimits.afterLoginBytes

    @Test func anAnswerThatFitsNoFrameIsAFailure() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        for request in 1...3 as ClosedRange<UInt32> { script.request(1, request) }
        script.flush()
        let (call, _) = try script.takeServiceCalls()
        let sizes = [Self.most - 5, Self.most - 4, 10 << 20]
        script.answerCalls(call, sizes.map { size in .with { $0.body = Data(repeating: 1, count: size) } })
        let frames = script.takeFrames(1)
        #expect(frames.compactMap(\.responseID) == [1])
        #expect(frames.compactMap(\.failureCode).map(\.request) == [2, 3])
        #expect(frames.compactMap(\.failureCode).allSatisfy { $0.code == ErrorCode.limitExceeded.number })
        #expect(frames.allSatisfy { FrameCodec.payloadBytes($0) <= Self.most })
    }

    @Test func anEventThatFitsNoFrameReachesNobody() throws {
        var script = LoginScript()
        let alice = try script.login(1, "alice")
        let items = [Self.most - 100, Self.most].map { size in
            EventItem.with {
                $0.event.name = "big"
                $0.event.body = Data(repeating: 1, count: size)
                $0.sessions = [LoginScript.ref(alice)]
            }
        }
        let call = script.call(.eventRequest(.with { $0.items = items }))
        guard case .eventResponse(let answer)? = script.replies.first(where: { $0.id == call })?.payload else {
            Issue.record("no answer")
            return
        }
        #expect(answer.results.map(\.sessions) == [[.delivered], [.notHere]])
        #expect(script.takeFrames(1).count == 1)
    }

    @Test(arguments: [
        ("t-1", "t-1"), ("two words", ""), ("line\nbreak", ""), (String(repeating: "x", count: 65), ""),
        (String(repeating: "x", count: 100_000), ""), ("caf\u{e9}", ""),
    ])
    func onlyShortPrintableTracesAreTraced(sent: String, taken: String) throws {
        var script = LoginScript()
        try script.login(1, "alice")
        var send = SendRequest()
        send.traceID = sent
        script.frame(1, .orderedRequest(.init(svid: 1, method: 1, requestID: 1), key: "a", turn: 0, send.buffer))
        script.flush()
        #expect(try script.takeServiceCalls().1.calls.map(\.traceID) == [taken])
        #expect(script.traces == (taken.isEmpty ? [] : [taken]))
    }

    @Test func aKeyHasOneSpelling() throws {
        var script = LoginScript()
        try script.login(1, "alice")
        script.ordered(1, 1, key: "p:alice|jose\u{301}")
        #expect(script.takeFrames(1).compactMap(\.failureCode).map(\.code) == [ErrorCode.malformedRequest.number])
        script.ordered(1, 2, key: "p:alice|jos\u{e9}")
        script.flush()
        #expect(try script.takeServiceCalls().1.calls.count == 1)
        for name in ["jose\u{301}", "jos\u{e9}"] {
            var handshake = Handshake(openedMicros: 0)
            var request = Authenticate()
            request.token = try script.token("alice")
            request.deviceID = name
            request.platform = "ios"
            let failure = handshake.take(request)
            #expect(
                (failure?.isCode(.badDevice) == true && failure?.message.contains("NFC") == true)
                    == (name.utf8.count == 6))
        }
    }

    /// A frame that comes byte by byte is moved a few times, not once per byte.
    @Test func aFrameInManyPiecesIsNotCopiedForEach() throws {
        var tail = FrameTail()
        var places: Set<UInt> = []
        let length = 64 * 1024
        for number in 0..<length {
            var bytes = tail.join(ByteBuffer(integer: UInt8(truncatingIfNeeded: number)))
            #expect(bytes.readableBytes == number + 1)
            bytes.withUnsafeReadableBytes { _ = places.insert(UInt(bitPattern: $0.baseAddress)) }
            tail.keep(&bytes)
        }
        #expect(places.count <= 32, "\(places.count) places")
        var all = tail.join(ByteBuffer())
        #expect(all.readBytes(length: length) == (0..<length).map { UInt8(truncatingIfNeeded: $0) })
        tail.keep(&all)
        #expect(tail.join(ByteBuffer()).readableBytes == 0)
        // What is cut off at the front does not come again.
        var more = tail.join(ByteBuffer(string: "abcdef"))
        more.moveReaderIndex(forwardBy: 2)
        tail.keep(&more)
        more = tail.join(ByteBuffer(string: "gh"))
        more.moveReaderIndex(forwardBy: 1)
        tail.keep(&more)
        #expect(String(buffer: tail.join(ByteBuffer())) == "defgh")
    }
}
