import Foundation
import Machinery
import NIOCore
import Testing

@testable import LoginRole

/// The frames that a client writes, made by hand.
enum ClientWebSocket {
    static func frame(
        _ opcode: UInt8, _ payload: [UInt8], final: Bool = true, mask: [UInt8] = [1, 2, 3, 4], masked: Bool = true
    ) -> [UInt8] {
        var out: [UInt8] = [(final ? 0x80 : 0) | opcode]
        let bit: UInt8 = masked ? 0x80 : 0
        switch payload.count {
        case ..<126: out.append(bit | UInt8(payload.count))
        case ...0xffff: out += [bit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xff)]
        default: out += [bit | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        if masked { out += mask }
        out += payload.enumerated().map { masked ? $0.element ^ mask[$0.offset % 4] : $0.element }
        return out
    }
}

@Suite struct WebSocketTests {
    typealias Violation = WebSocketDecoder.Violation

    private func decode(_ pieces: [[UInt8]], limit: Int = 1024) throws(Violation) -> [WebSocketDecoder.Event] {
        var decoder = WebSocketDecoder()
        var held = ByteBuffer()
        var events: [WebSocketDecoder.Event] = []
        for piece in pieces {
            held.writeBytes(piece)
            while let event = try decoder.next(&held, limit: limit) { events.append(event) }
        }
        return events
    }

    @Test func wholeAndFragmentedMessages() throws {
        let stream =
            ClientWebSocket.frame(2, [1, 2, 3]) + ClientWebSocket.frame(2, [4], final: false)
            + ClientWebSocket.frame(9, [7]) + ClientWebSocket.frame(0, [], final: false)
            + ClientWebSocket.frame(0, [5, 6]) + ClientWebSocket.frame(10, [])
            + ClientWebSocket.frame(2, [UInt8](repeating: 9, count: 300))
            + ClientWebSocket.frame(8, [3, 0xe8])
        let expected: [WebSocketDecoder.Event] = [
            .message(ByteBuffer(bytes: [1, 2, 3])), .ping(ByteBuffer(bytes: [7])),
            .message(ByteBuffer(bytes: [4, 5, 6])), .pong, .message(ByteBuffer(repeating: 9, count: 300)), .close,
        ]
        #expect(try decode([stream]) == expected)
        #expect(try decode(stream.map { [$0] }) == expected)
    }

    @Test func violations() {
        let big = [UInt8](repeating: 0, count: 126)
        let cases: [(Violation, [[UInt8]])] = [
            (.unmasked, [ClientWebSocket.frame(2, [1], masked: false)]),
            (.reservedBits, [[0xc2, 0x80]]),
            (.unknownOpcode(3), [ClientWebSocket.frame(3, [])]),
            (.unknownOpcode(11), [ClientWebSocket.frame(11, [])]),
            (.text, [ClientWebSocket.frame(1, [])]),
            (.controlTooLong, [ClientWebSocket.frame(9, big)]),
            (.controlFragmented, [ClientWebSocket.frame(9, [], final: false)]),
            (.badClose, [ClientWebSocket.frame(8, [1])]),
            (.badContinuation, [ClientWebSocket.frame(0, [1])]),
            (.badContinuation, [ClientWebSocket.frame(2, [1], final: false), ClientWebSocket.frame(2, [1])]),
            (.tooLarge(limit: 1024), [ClientWebSocket.frame(2, [UInt8](repeating: 0, count: 1025))]),
            (
                .tooLarge(limit: 1024),
                [
                    ClientWebSocket.frame(2, [UInt8](repeating: 0, count: 1000), final: false),
                    ClientWebSocket.frame(0, big),
                ]
            ),
            (.tooLarge(limit: Int(Int32.max)), [[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]),
            (.badLength, [[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]),
            (.badLength, [[0x82, 0xfe, 0, 5]]),
            (
                .tooManyFragments,
                [ClientWebSocket.frame(2, [], final: false)]
                    + Array(repeating: ClientWebSocket.frame(0, [], final: false), count: 64)
            ),
        ]
        for (violation, pieces) in cases {
            #expect(throws: violation) { try decode(pieces) }
        }
        #expect(Violation.text.closeCode == 1003 && Violation.tooLarge(limit: 1).closeCode == 1009)
    }

    /// A giant length is refused when its header is there: nothing is held for it.
    @Test func giantLengthsAreNotWaitedFor() {
        #expect(throws: Violation.tooLarge(limit: 1024)) { try decode([[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]]) }
    }

    /// No input crashes or hangs it, holds more than the limit, or means something else when it comes byte by byte.
    @Test func mutations() throws {
        let inputs = ProcessInfo.processInfo.environment["MARTLET_FUZZ_INPUTS"].flatMap(Int.init) ?? 100_000
        var random = SeededRandom(seed: 0x77_73)
        let corpus: [[UInt8]] = [
            ClientWebSocket.frame(2, [5]), ClientWebSocket.frame(2, [UInt8](repeating: 1, count: 130)),
            ClientWebSocket.frame(2, [1], final: false) + ClientWebSocket.frame(0, [2]),
            ClientWebSocket.frame(9, [1, 2]) + ClientWebSocket.frame(8, [3, 0xe8]), ClientWebSocket.frame(10, []),
        ]
        var outcomes = (messages: 0, violations: 0)
        for number in 0..<inputs {
            var input = corpus[number % corpus.count]
            for _ in 0...Int.random(in: 0...2, using: &random) {
                let at = Int.random(in: 0..<input.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: input[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: input[at] = UInt8.random(in: 0...255, using: &random)
                case 2: input.insert(UInt8.random(in: 0...255, using: &random), at: at)
                default: if input.count > 1 { input.remove(at: at) }
                }
            }
            let whole = Result { () throws(Violation) in try decode([input], limit: 256) }
            switch whole {
            case .success(let events):
                outcomes.messages += events.count
                for case .message(let message) in events where message.readableBytes > 256 {
                    Issue.record("\(message.readableBytes) bytes: input \(number): \(input)")
                }
            case .failure: outcomes.violations += 1
            }
            if number % 16 == 0 {
                let single = Result { () throws(Violation) in try decode(input.map { [$0] }, limit: 256) }
                if single != whole { Issue.record("cuts matter: input \(number): \(input)") }
            }
        }
        #expect(outcomes.messages > inputs / 20 && outcomes.violations > inputs / 20)
    }
}
