import NIOCore
import RPC
import Synchronization
import Wire

/// One authenticated connection to another process: calls go out, answers come back, and the other way round.
///
/// Isolation: any thread; one mutex around queue and table. Frames are encoded by the caller, gathered in chunks, and
/// written on the event loop, once per tick.
final class PeerConnection: ReplySink {
    private struct Chunk {
        var buffer: ByteBuffer
        var number: UInt64
    }

    private struct State {
        var table = CallTable()
        var chunks: [Chunk] = []
        /// Bytes in `chunks`.
        var queued = 0
        /// Bytes given to the channel and not yet taken by the kernel.
        var writing = 0
        var nextChunk: UInt64 = 1
        /// The newest chunk that the channel was given: a call behind it has certainly not been handed over.
        var handed: UInt64 = 0
        /// A drain is on its way, or the channel is full and will ask for one.
        var scheduled = false
        var closed = false
        var cancelled: Set<UInt64> = []
        var droppedAnswers: UInt64 = 0
        var peakBytes = 0
    }

    private let channel: any Channel
    private let config: TransportConfig
    private let state = Mutex(State())
    /// Names the peer in failures and logs.
    let name: String

    init(channel: any Channel, config: TransportConfig) {
        self.channel = channel
        self.config = config
        self.name = channel.remoteAddress?.description ?? "peer"
    }

    /// Takes a call for the peer's role with that number.
    func call(_ call: IncomingCall, number: UInt32) -> Failure? {
        guard let body = try? call.payload.encodedBody() else {
            return Failure(.internalError, "payload \(call.payload.kind) does not encode")
        }
        guard body.count + 64 <= config.maxFrameBytes else {
            return Failure(.limitExceeded, "\(body.count) bytes; a frame holds \(config.maxFrameBytes)")
        }
        let now = SystemClock.now().micros
        guard call.deadline > now else { return Failure(.deadlineExceeded, "the deadline passed before the call left") }
        let remaining = UInt32(min((call.deadline - now + 999) / 1000, UInt64(UInt32.max)))
        let (failure, wake) = state.withLock { state -> (Failure?, Bool) in
            if state.closed { return (Failure(.serviceUnavailable, "the connection to \(name) is closed"), false) }
            guard state.queued + state.writing < config.outboundLimitBytes else {
                return (Failure(.overloaded, "\(config.outboundLimitBytes) bytes wait for \(name)"), false)
            }
            guard state.table.count < config.maxInFlight else {
                return (Failure(.overloaded, "\(config.maxInFlight) calls wait for \(name)"), false)
            }
            let chunk = openChunk(&state)
            var id: UInt64 = 0
            if let origin = call.origin {
                id = state.table.insert(
                    CallTable.Waiting(id: call.id, origin: origin, deadline: call.deadline, chunk: chunk))
            }
            let head = PeerFrame.Head.call(
                id: id, number: number, remainingMS: remaining, kind: call.payload.kind)
            return (nil, append(&state, head.bytes + body.count) { head.encode(body, into: &$0) })
        }
        if wake { schedule() }
        return failure
    }

    /// The answer to one of the peer's calls.
    func reply(_ id: UInt64, _ result: CallResult) {
        guard id != 0 else { return }
        switch result {
        case .answered(let payload):
            guard let body = try? payload.encodedBody(), body.count + 64 <= config.maxFrameBytes else {
                return reply(id, .unknown(Failure(.internalError, "an answer that does not fit a frame")))
            }
            let head = PeerFrame.Head.answer(id: id, kind: payload.kind)
            sendAnswer(id, head.bytes + body.count) { head.encode(body, into: &$0) }
        case .refused(let failure):
            let frame = PeerFrame.refused(id: id, failure: failure.buffer)
            sendAnswer(id, 64) { frame.encode(into: &$0) }
        case .unknown(let failure):
            let frame = PeerFrame.unknown(id: id, failure: failure.buffer)
            sendAnswer(id, 64) { frame.encode(into: &$0) }
        }
    }

    private func sendAnswer(_ id: UInt64, _ bytes: Int, _ encode: (inout ByteBuffer) -> Void) {
        let wake = state.withLock { state -> Bool in
            if !state.cancelled.isEmpty, state.cancelled.remove(id) != nil { return false }
            guard !state.closed else { return false }
            guard state.queued + state.writing < 2 * config.outboundLimitBytes else {
                state.droppedAnswers += 1
                return false
            }
            _ = openChunk(&state)
            return append(&state, bytes, encode)
        }
        if wake { schedule() }
    }

    /// Sends a frame of the connection itself.
    func send(_ frame: PeerFrame) {
        let wake = state.withLock { state -> Bool in
            guard !state.closed, state.queued + state.writing < 2 * config.outboundLimitBytes else { return false }
            _ = openChunk(&state)
            return append(&state, 64) { frame.encode(into: &$0) }
        }
        if wake { schedule() }
    }

    /// Number of the chunk that the next frame goes into.
    private func openChunk(_ state: inout State) -> UInt64 {
        if let last = state.chunks.last, last.buffer.readableBytes < config.chunkBytes { return last.number }
        let number = state.nextChunk
        state.nextChunk += 1
        state.chunks.append(Chunk(buffer: channel.allocator.buffer(capacity: 4096), number: number))
        return number
    }

    /// True when a drain has to be scheduled.
    private func append(_ state: inout State, _ bytes: Int, _ encode: (inout ByteBuffer) -> Void) -> Bool {
        let last = state.chunks.count - 1
        let before = state.chunks[last].buffer.readableBytes
        encode(&state.chunks[last].buffer)
        state.queued += state.chunks[last].buffer.readableBytes - before
        state.peakBytes = max(state.peakBytes, state.queued + state.writing)
        if state.scheduled { return false }
        state.scheduled = true
        return true
    }

    private func schedule() { channel.eventLoop.execute { self.drain() } }

    /// Gives the channel what is queued, as long as it takes it, and flushes once. On the event loop.
    func drain() {
        var wrote = false
        while true {
            let writable = channel.isWritable
            let chunk = state.withLock { state -> Chunk? in
                guard !state.closed, !state.chunks.isEmpty else {
                    state.scheduled = false
                    return nil
                }
                // Stays scheduled: the channel asks again when it has room.
                guard writable else { return nil }
                let chunk = state.chunks.removeFirst()
                state.queued -= chunk.buffer.readableBytes
                state.writing += chunk.buffer.readableBytes
                state.handed = chunk.number
                return chunk
            }
            guard let chunk else { break }
            let bytes = chunk.buffer.readableBytes
            channel.write(chunk.buffer).whenComplete { _ in self.state.withLock { $0.writing -= bytes } }
            wrote = true
        }
        if wrote { channel.flush() }
    }

    /// The peer's answer to call `number`.
    func answered(_ number: UInt64, _ result: CallResult) {
        guard let call = state.withLock({ $0.table.remove(number) }) else { return }
        call.origin.reply(call.id, result)
    }

    /// The peer does not wait any more for its call. The answer, if it is still to come, is not sent.
    func cancel(_ id: UInt64) {
        state.withLock { state in
            // An answer that crossed the cancellation leaves its number here: forgotten in bulk.
            if state.cancelled.count >= config.maxInFlight { state.cancelled = [] }
            state.cancelled.insert(id)
        }
    }

    /// Ends calls whose deadline has passed, here and at the peer.
    func expire(_ now: UInt64) {
        for (number, call) in state.withLock({ $0.table.removeExpired(now) }) {
            call.origin.reply(call.id, .unknown(Failure(.deadlineExceeded, "no answer from \(name) in time")))
            send(.cancel(id: number))
        }
    }

    /// The connection is over: what the channel was given is unknown, the rest never left.
    func end() {
        let (calls, handed) = state.withLock { state -> ([CallTable.Waiting], UInt64) in
            state.closed = true
            state.chunks = []
            state.queued = 0
            state.cancelled = []
            return (state.table.removeAll(), state.handed)
        }
        for call in calls {
            let failure = Failure(.serviceUnavailable, "the connection to \(name) broke")
            call.origin.reply(call.id, call.chunk <= handed ? .unknown(failure) : .refused(failure))
        }
    }

    func close() { channel.close(promise: nil) }

    /// For metrics and tests.
    var counters: PeerCounters {
        state.withLock {
            PeerCounters(
                peer: name, queuedBytes: $0.queued + $0.writing, peakQueuedBytes: $0.peakBytes,
                callsInFlight: $0.table.count, droppedAnswers: $0.droppedAnswers)
        }
    }
}

/// A connection's gauges.
public struct PeerCounters: Sendable, Equatable {
    public let peer: String
    /// Bytes that wait for the peer; at most `TransportConfig.outboundLimitBytes` of calls and one frame.
    public let queuedBytes: Int
    public let peakQueuedBytes: Int
    public let callsInFlight: Int
    /// Answers that did not fit any more.
    public let droppedAnswers: UInt64
}

/// A role of another process.
///
/// Isolation: any thread.
final class RemoteTarget: CallTarget {
    let entry: PeerFrame.Hosted
    private let connection: PeerConnection

    init(entry: PeerFrame.Hosted, connection: PeerConnection) {
        self.entry = entry
        self.connection = connection
    }

    var lane: Lane? { nil }

    func accept(_ call: IncomingCall) -> Failure? { connection.call(call, number: entry.number) }
}
