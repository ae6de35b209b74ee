import Foundation
import Machinery
import NIOCore
import Testing
import Wire

/// Changes good bytes at random: flips, cuts, repeats, lengths. The seed is printed with every failure.
struct Mutator {
    var random: SeededRandom

    mutating func mutate(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0...Int.random(in: 0...3, using: &random) {
            guard !bytes.isEmpty else { return [UInt8.random(in: 0...255, using: &random)] }
            let at = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<7, using: &random) {
            case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
            case 2: bytes.removeSubrange(at...)
            case 3: bytes.remove(at: at)
            case 4: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
            case 5: bytes.insert(contentsOf: bytes[..<at], at: at)
            default: bytes[at] = [0x00, 0x7f, 0x80, 0xff][Int.random(in: 0..<4, using: &random)]
            }
            if bytes.count > 4096 { bytes.removeLast(bytes.count - 4096) }
        }
        return bytes
    }

    /// How many inputs a run has: `MARTLET_FUZZ_INPUTS`, 100,000 without it.
    static var inputs: Int { ProcessInfo.processInfo.environment["MARTLET_FUZZ_INPUTS"].flatMap(Int.init) ?? 100_000 }
}

@Suite struct FrameMutationTests {
    /// No input crashes or hangs the codec; what decodes encodes to the very bytes that it was decoded from; and
    /// cutting the input byte by byte changes nothing.
    @Test func mutatedFrames() throws {
        let seed: UInt64 = 0x6d61_7274_6c65_7431
        var mutator = Mutator(random: SeededRandom(seed: seed))
        let vectors = try FrameVectors.load()
        let corpus = try (vectors.frames.map(\.stream) + vectors.malformed.map(\.stream))
            .map { Array(try bytes(hex: $0).readableBytesView) }.filter { $0.count < 1024 }
        var refused = 0
        var decoded = 0
        for number in 0..<Mutator.inputs {
            let input = mutator.mutate(corpus[number % corpus.count])
            let whole = outcome([ByteBuffer(bytes: input)])
            refused += whole.error == nil ? 0 : 1
            decoded += whole.frames.count
            if number % 16 == 0 {
                let single = outcome(input.map { ByteBuffer(bytes: [$0]) })
                if single != whole { Issue.record("cuts matter: seed \(seed), input \(number): \(input)") }
            }
            var again = ByteBuffer()
            for frame in whole.frames { FrameCodec.encodeStream(frame, into: &again) }
            if !input.starts(with: again.readableBytesView) {
                Issue.record("decodes to something else: seed \(seed), input \(number): \(input)")
            }
        }
        // The run reached both sides: otherwise it says nothing.
        #expect(refused > Mutator.inputs / 20)
        #expect(decoded > Mutator.inputs / 20)
    }

    struct Outcome: Equatable {
        var frames: [Frame] = []
        var error: FrameError?
    }

    private func outcome(_ pieces: [ByteBuffer]) -> Outcome {
        var held = ByteBuffer()
        var result = Outcome()
        for piece in pieces {
            held.writeImmutableBuffer(piece)
            do {
                while let frame = try FrameCodec.decodeStream(&held, limit: FrameLimits.beforeLoginBytes) {
                    result.frames.append(frame)
                }
            } catch {
                result.error = error
                return result
            }
        }
        return result
    }

    /// Every message of the protocol, from bytes that are no message: refused or decoded, never a crash.
    @Test func mutatedBodies() throws {
        var mutator = Mutator(random: SeededRandom(seed: 7))
        let corpus = try FrameVectors.load().frames.map { Array(try bytes(hex: $0.body).readableBytesView) }
            .filter { (1..<1024).contains($0.count) }
        var refused = 0
        for number in 0..<Mutator.inputs / 4 {
            let body = ByteBuffer(bytes: mutator.mutate(corpus[number % corpus.count]))
            if Hello(body: body) == nil { refused += 1 }
            _ = Authenticate(body: body)
            _ = SendRequest(body: body)
            _ = PushedMessage(body: body)
        }
        #expect(refused > 0)
    }
}

@Suite struct ErrorCodeTests {
    @Test func codesAreUnique() {
        #expect(Set(ErrorCode.all.map(\.number)).count == ErrorCode.all.count)
        #expect(Set(ErrorCode.all.map(\.name)).count == ErrorCode.all.count)
    }
}
