import NIOCore
import Testing
import Wire

@testable import LoginRole

/// What makes an idle connection small, and that sharing does no harm.
@Suite struct IdleMemoryTests {
    /// There is one of them per connection, whatever it does. Box what most sessions do not have (`Seldom`).
    @Test func connectionsStaySmall() { #expect(MemoryLayout<Connection?>.stride <= 288) }

    @Test func receiveBufferIsUsedAgainWhenNobodyHoldsIt() {
        let shared = ReceiveBuffer(bytes: 1024)
        let allocator = ByteBufferAllocator()
        let place = { (buffer: ByteBuffer) in buffer.withVeryUnsafeBytes { UInt(bitPattern: $0.baseAddress) } }
        var first: ByteBuffer? = shared.take(allocator)
        let address = place(first ?? ByteBuffer())
        first?.writeRepeatingByte(1, count: 1024)
        // Given back while its reader still looks at it, as a gateway does.
        shared.giveBack(first ?? ByteBuffer())
        first = nil
        var second = shared.take(allocator)
        #expect(place(second) == address && second.readableBytes == 0)
        second.writeRepeatingByte(2, count: 1024)
        let slice = second.getSlice(at: 0, length: 10)
        shared.giveBack(second)
        second = ByteBuffer()
        var third = shared.take(allocator)
        #expect(place(third) != address)
        third.writeRepeatingByte(3, count: 1024)
        #expect(slice == ByteBuffer(repeating: 2, count: 10))
    }

    @Test func smallBuffersAreNotTakenForShared() {
        let shared = ReceiveBuffer(bytes: 1024)
        shared.giveBack(ByteBufferAllocator().buffer(capacity: 32))
        #expect(shared.take(ByteBufferAllocator()).capacity >= 1024)
    }

    /// What swift-nio does with such an allocator is not written down anywhere: this holds it to what we rely on.
    @Test func channelsKeepNothingButTheFirstBuffer() {
        let shared = ReceiveBuffer(bytes: 1024)
        let allocator = ByteBufferAllocator()
        var pools = (0..<2).map { _ in
            NIOPooledRecvBufferAllocator(capacity: 1, recvAllocator: SharedReceiveAllocator(shared))
        }
        /// A read as a channel does it: the bytes are passed on, given back, and let go.
        func read(_ pool: Int, _ byte: UInt8) -> (place: UInt, capacity: Int) {
            let (buffer, _) = pools[pool].buffer(allocator: allocator) { $0.writeRepeatingByte(byte, count: 32) }
            pools[pool].record(actualReadBytes: 32)
            shared.giveBack(buffer)
            #expect(buffer == ByteBuffer(repeating: byte, count: 32))
            return (buffer.withVeryUnsafeBytes { UInt(bitPattern: $0.baseAddress) }, buffer.storageCapacity)
        }
        #expect(read(0, 1).capacity <= 64)
        #expect(read(1, 2).capacity <= 64)
        let place = read(0, 3).place
        for turn in 0..<4 {
            let again = read(turn % 2, UInt8(turn + 4))
            #expect(again.capacity >= 1024 && again.place == place)
        }
    }

    /// Frames in pieces, from many connections at once: no byte of one may end up in another's.
    @Test(arguments: [false, true]) func piecesOfManyConnections(webSocket: Bool) async throws {
        let suite = try await FakeSuite(loops: 1)
        var clients: [TestClient] = []
        for number in 0..<20 { clients.append(try suite.client("user\(number)", webSocket: webSocket)) }
        for round in 0..<3 {
            let bodies = clients.indices.map {
                ByteBuffer(repeating: UInt8($0 * 3 + round + 1), count: 3000 + 997 * $0)
            }
            let parts = bodies.map {
                TestClient.encode(
                    .request(.init(svid: 6, method: 1, requestID: UInt32(round + 1)), $0), webSocket: webSocket)
            }
            let longest = parts.map(\.count).max() ?? 0
            for start in stride(from: 0, to: longest, by: 1700) {
                for (client, part) in zip(clients, parts) where start < part.count {
                    try client.send(raw: Array(part[start..<min(start + 1700, part.count)]))
                }
            }
            for (client, body) in zip(clients, bodies) {
                #expect(try client.read() == .response(requestID: UInt32(round + 1), body))
            }
        }
        try await suite.stop()
    }
}
