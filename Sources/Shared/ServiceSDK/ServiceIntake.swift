import RPC
import Synchronization
import Wire

/// Takes ServiceCalls from Routes and keeps them until a worker has time. Bounded by requests.
///
/// Isolation: any thread.
final class ServiceIntake: CallTarget {
    struct Batch: Sendable {
        var calls: [ServiceCall]
        var id: UInt64
        var origin: (any ReplySink)?
        var deadline: UInt64
    }

    private struct State {
        var requests = 0
        var closed = false
    }

    let batches: AsyncStream<Batch>
    private let feed: AsyncStream<Batch>.Continuation
    private let state = Mutex(State())
    private let limit: Int

    init(limit: Int) {
        self.limit = limit
        // Not bounded by itself: `accept` counts requests before anything is fed.
        (batches, feed) = AsyncStream.makeStream(of: Batch.self, bufferingPolicy: .unbounded)
    }

    var lane: Lane? { nil }
    /// Requests that wait or run.
    var requests: Int { state.withLock { $0.requests } }

    func accept(_ call: IncomingCall) -> Failure? {
        guard case .serviceCalls(let body) = call.payload else {
            return Failure(.noSuchMethod, "a service does not answer payload \(call.payload.kind)")
        }
        let batch = Batch(calls: body.calls, id: call.id, origin: call.origin, deadline: call.deadline)
        return state.withLock { state in
            if state.closed { return Failure(.serviceUnavailable, "the service is leaving") }
            guard state.requests + batch.calls.count <= limit else {
                return Failure(.overloaded, "the service holds \(state.requests) requests; retry later")
            }
            state.requests += batch.calls.count
            feed.yield(batch)
            return nil
        }
    }

    func finished(_ batch: Batch) { state.withLock { $0.requests -= batch.calls.count } }

    /// Takes nothing more; what is there is still worked off.
    func close() {
        state.withLock { $0.closed = true }
        feed.finish()
    }
}
