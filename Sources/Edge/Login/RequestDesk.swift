import Foundation
import Identity
import NIOCore
import RPC
import Wire

/// Whom an answer of a service is for.
struct RequestTicket: Sendable {
    let connection: ConnectionID
    let requestID: UInt32
    let bytes: Int
    /// Of an ordered request: its key and turn.
    let key: String?
    let turn: UInt16
}

/// Requests of all sessions on their way to Route, gathered until the flush: one hand-over per service, so that a slow
/// service holds nobody up but its own callers.
struct RequestDesk: Sendable {
    struct Batch: Sendable {
        let svid: UInt32
        var calls = ServiceCalls()
        var tickets: [RequestTicket] = []
        var bytes = 0
    }

    private(set) var batches: [Batch] = []
    /// Keys with something to send, in the order they were found ready.
    var ready: [(id: ConnectionID, key: String)] = []

    mutating func add(_ call: ServiceCall, _ ticket: RequestTicket) {
        let index = batches.firstIndex { $0.svid == call.svid } ?? batches.endIndex
        if index == batches.endIndex { batches.append(Batch(svid: call.svid)) }
        batches[index].calls.calls.append(call)
        batches[index].tickets.append(ticket)
        batches[index].bytes += ticket.bytes
    }

    /// The service's batch, if so many calls more would make it too big: it is handed over first. A key's calls are
    /// never spread over two batches, because those could overtake each other.
    mutating func takeFull(_ svid: UInt32, adding calls: Int, bytes: Int, config: LoginConfig) -> Batch? {
        guard let index = batches.firstIndex(where: { $0.svid == svid }),
            batches[index].tickets.count + calls > config.maxCallsPerBatch
                || batches[index].bytes + bytes > config.maxBytesPerBatch
        else { return nil }
        return batches.remove(at: index)
    }

    mutating func takeBatches() -> [Batch] {
        defer { batches = [] }
        return batches
    }

    mutating func takeReady() -> [(id: ConnectionID, key: String)] {
        defer { ready = [] }
        return ready
    }
}

extension LoginMachine {
    mutating func unordered(_ id: ConnectionID, _ header: Frame.RequestHeader, _ body: ByteBuffer) {
        guard drainUntilMicros == nil else {
            return fail(id, header.requestID, Failure(.goingAway, "this server is going away"))
        }
        let inFlight = connections.change(id) { $0.session?.inFlight ?? .max }
        guard let inFlight, inFlight < config.maxInFlight else {
            let failure = Failure(.tooManyInFlight, "more than \(config.maxInFlight) requests in flight")
            return fail(id, header.requestID, failure)
        }
        let held = held(header, 0, body)
        hold(id, bytes: held.body.count)
        send(id, [held], key: nil)
    }

    mutating func ordered(
        _ id: ConnectionID, _ header: Frame.RequestHeader, _ key: String, _ turn: UInt16, _ body: ByteBuffer
    ) {
        guard drainUntilMicros == nil else {
            return fail(id, header.requestID, Failure(.goingAway, "this server is going away"))
        }
        // Keys are compared as text here and as bytes elsewhere: two spellings would be one key or two.
        guard NameRule.isNormal(key) else {
            let text = "the key must be UTF-8 in normalization form NFC"
            return fail(id, header.requestID, Failure(.malformedRequest, text))
        }
        let held = held(header, turn, body)
        let arrived = connections.change(id) {
            $0.session?.keys.arrive(held, key: key, now: now.micros, config: config)
        }
        guard let arrival = arrived else { return }
        switch arrival {
        case .held(let ready):
            hold(id, bytes: held.body.count)
            if ready { requests.ready.append((id, key)) }
        case .resendInOrder: fail(id, header.requestID, Self.resendInOrder)
        case .tooMany:
            let failure = Failure(.tooManyInFlight, "more than \(config.maxPendingPerKey) requests wait for \(key)")
            fail(id, header.requestID, failure)
        case .tooManyKeys:
            refuse(id, Failure(.limitExceeded, "more than \(config.maxKeys) ordered keys in one session"))
        }
    }

    static let resendInOrder = Failure(.resendInOrder, "a request before this one failed; send both again, in order")

    private mutating func held(_ header: Frame.RequestHeader, _ turn: UInt16, _ body: ByteBuffer) -> OrderedKeys.Held {
        var trace = ""
        if UInt32(header.svid) == WellKnownService.im, header.method == 1 { trace = TraceScan.traceID(body) }
        if !trace.isEmpty { emit(.trace(trace, hop: "request")) }
        return OrderedKeys.Held(
            svid: UInt32(header.svid), method: UInt32(header.method), requestID: header.requestID, turn: turn,
            body: Data(body.readableBytesView), traceID: trace)
    }

    private mutating func hold(_ id: ConnectionID, bytes: Int) {
        connections.change(id) { $0.session?.heldBytes += bytes }
        adjustReading(id)
    }

    private mutating func fail(_ id: ConnectionID, _ requestID: UInt32, _ failure: Failure) {
        write(id, .failure(requestID: requestID, failure.buffer))
    }

    /// Adds requests of one session to the batch of their one service.
    private mutating func send(_ id: ConnectionID, _ batch: [OrderedKeys.Held], key: String?) {
        let whose = connections.change(id) { connection -> Caller? in
            connection.session?.inFlight += batch.count
            return connection.session?.caller
        }
        guard let svid = batch.first?.svid, let caller = whose else { return }
        let bytes = batch.reduce(0) { $0 + $1.body.count }
        if let full = requests.takeFull(svid, adding: batch.count, bytes: bytes, config: config) { handOver(full) }
        var call = ServiceCall()
        call.caller = caller
        call.svid = svid
        if let key { call.orderKey = key }
        for held in batch {
            call.method = held.method
            call.body = held.body
            call.traceID = held.traceID
            let ticket = RequestTicket(
                connection: id, requestID: held.requestID, bytes: held.body.count, key: key, turn: held.turn)
            requests.add(call, ticket)
        }
    }

    private mutating func handOver(_ batch: RequestDesk.Batch) {
        call(.requests(batch.tickets), .route, .serviceCalls(batch.calls))
    }

    mutating func flushRequests() {
        for (id, key) in requests.takeReady() {
            let batch = connections.change(id) { $0.session?.takeBatch(key, config) ?? [] }
            if let batch, !batch.isEmpty { send(id, batch, key: key) }
        }
        for batch in requests.takeBatches() { handOver(batch) }
    }

    // MARK: - Answers

    mutating func answered(_ tickets: [RequestTicket], _ result: CallResult) {
        var replies: [ServiceReply] = []
        var failure: Failure?
        var sure = false
        switch result {
        case .answered(.serviceReplies(let answer)): replies = answer.replies
        case .answered: break
        case .refused(let why):
            failure = why
            sure = true
        case .unknown(let why): failure = Failure(.outcomeUnknown, why.message)
        }
        let missing = failure ?? Failure(.outcomeUnknown, "the service did not answer")
        /// Keys of the batch whose items have all been seen, and where each broke.
        var ended: [(id: ConnectionID, key: String, broken: UInt16?)] = []
        for (index, ticket) in tickets.enumerated() {
            var reply = index < replies.count ? replies[index] : ServiceReply()
            if index >= replies.count { reply.failure = missing }
            if let key = ticket.key {
                if ended.last?.id != ticket.connection || ended.last?.key != key {
                    ended.append((ticket.connection, key, nil))
                } else if sure, ended[ended.count - 1].broken != nil {
                    reply.failure = Self.resendInOrder
                }
                let breaks = reply.broken || reply.hasFailure && reply.failure.retryable
                if breaks, ended[ended.count - 1].broken == nil { ended[ended.count - 1].broken = ticket.turn }
            }
            answer(ticket, reply)
        }
        for (id, key, broken) in ended { settleKey(id, key, broken) }
        var last: ConnectionID?
        for ticket in tickets where ticket.connection != last {
            last = ticket.connection
            resume(ticket.connection)
        }
    }

    private mutating func answer(_ ticket: RequestTicket, _ reply: ServiceReply) {
        let isOpen = connections.change(ticket.connection) {
            $0.session?.inFlight -= 1
            $0.session?.heldBytes -= ticket.bytes
            return $0.session != nil
        }
        guard isOpen == true else { return }
        if reply.hasFailure {
            fail(ticket.connection, ticket.requestID, reply.failure)
        } else if reply.body.count > Self.largestAnswer {
            // The client would have to end the connection: the limit holds in both directions.
            let text = "the service's answer has \(reply.body.count) bytes; a frame holds \(Self.largestAnswer)"
            fail(ticket.connection, ticket.requestID, Failure(.limitExceeded, text))
        } else {
            write(ticket.connection, .response(requestID: ticket.requestID, ByteBuffer(bytes: reply.body)))
        }
    }

    /// Type and request id stand in front of a response's body.
    private static let largestAnswer = FrameLimits.afterLoginBytes - 5

    private mutating func settleKey(_ id: ConnectionID, _ key: String, _ broken: UInt16?) {
        let settled = connections.change(id) { $0.session?.keys.settle(key, broken: broken, now: now.micros) }
        guard let end = settled else { return }
        for held in end.late {
            connections.change(id) { $0.session?.heldBytes -= held.body.count }
            fail(id, held.requestID, Self.resendInOrder)
        }
        if end.ready { requests.ready.append((id, key)) }
    }

    /// There is room in flight again, and perhaps bytes to read.
    private mutating func resume(_ id: ConnectionID) {
        guard let stalled = connections.change(id, { $0.session?.takeStalled() }) else { return }
        for key in stalled { requests.ready.append((id, key)) }
        adjustReading(id)
        if drainUntilMicros != nil { drainSession(id) }
    }
}

/// Finds the trace id (field 3) of a SendRequest without decoding the rest; "" when there is none, or none that may be
/// written into logs.
enum TraceScan {
    static func traceID(_ body: ByteBuffer) -> String {
        var rest = body
        while let tag = varint(&rest) {
            guard let length = field(tag, &rest) else { return "" }
            guard let bytes = rest.readSlice(length: length) else { return "" }
            if tag == 3 << 3 | 2 { return TraceRule.isLegal(bytes.readableBytesView) ? String(buffer: bytes) : "" }
        }
        return ""
    }

    /// Bytes of the field's value; nil when it is not a field.
    private static func field(_ tag: UInt64, _ rest: inout ByteBuffer) -> Int? {
        switch tag & 7 {
        case 0: varint(&rest) == nil ? nil : 0
        case 1: 8
        case 2: varint(&rest).flatMap { $0 <= UInt64(FrameLimits.afterLoginBytes) ? Int($0) : nil }
        case 5: 4
        default: nil
        }
    }

    private static func varint(_ rest: inout ByteBuffer) -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte: UInt8 = rest.readInteger() else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }
}
