import Synchronization
import Wire

/// Calls roles from async code: the HTTP API, services built on the SDK, tools and tests. Not for the message path.
///
/// Isolation: any thread; a mutex around the table of waiting continuations.
public final class RoleCaller: ReplySink {
    private struct Waiting {
        var next: UInt64 = 1
        var calls: [UInt64: CheckedContinuation<CallResult, Never>] = [:]
    }

    private let directory: Directory
    private let waiting = Mutex(Waiting())
    private let lane: Lane

    /// - Parameter lane: any lane of the process; it only keeps the time for deadlines.
    public init(directory: Directory, lane: Lane) {
        self.directory = directory
        self.lane = lane
    }

    /// Asks and waits for the answer, at most `timeoutMS`.
    public func call(_ address: Address, _ payload: Payload, timeoutMS: UInt32 = 5000) async -> CallResult {
        await withCheckedContinuation { continuation in
            let id = waiting.withLock { table in
                let id = table.next
                table.next += 1
                table.calls[id] = continuation
                return id
            }
            let deadline = SystemClock.now().micros + UInt64(timeoutMS) * 1000
            let call = IncomingCall(id: id, origin: self, payload: payload, deadline: deadline)
            guard let target = directory.resolve(address, near: nil) else {
                reply(id, .refused(Failure(.serviceUnavailable, "no instance of \(address) is reachable")))
                return
            }
            if let failure = target.accept(call) { return reply(id, .refused(failure)) }
            lane.post(
                .work { self.reply(id, .unknown(Failure(.deadlineExceeded, "no answer within \(timeoutMS) ms"))) },
                afterMS: timeoutMS)
        }
    }

    public func reply(_ id: UInt64, _ result: CallResult) {
        waiting.withLock { $0.calls.removeValue(forKey: id) }?.resume(returning: result)
    }
}
