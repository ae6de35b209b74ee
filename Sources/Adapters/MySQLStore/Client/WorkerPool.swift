import Dispatch
import Foundation
import RPC
import Synchronization

/// Threads that block in the database, so that nobody else has to. Jobs wait in one line; a job whose time has passed
/// when its turn comes is not begun.
///
/// Isolation: `submit` and `stop` from any thread; jobs run on the pool's.
final class WorkerPool<Worker>: Sendable {
    private struct Job: Sendable {
        let deadline: UInt64
        /// Called with nil when it is not begun.
        let run: @Sendable (Worker?) -> Void
    }

    private struct Line: Sendable {
        var jobs: [Job] = []
        var head = 0
        var isStopped = false

        mutating func next() -> Job? {
            guard head < jobs.count else { return nil }
            let job = jobs[head]
            head += 1
            if head == jobs.count || head > 256 {
                jobs.removeFirst(head)
                head = 0
            }
            return job
        }
    }

    /// What the threads hold on to: not the pool itself, whose owner ends it.
    private final class Shared: Sendable {
        let line = Mutex(Line())
        let wake = DispatchSemaphore(value: 0)
    }

    private let shared = Shared()
    private let limit: Int
    private let threads: Int

    /// - Parameter make: makes a thread's worker, on that thread.
    init(name: String, threads: Int, limit: Int, make: @escaping @Sendable () -> Worker) {
        self.limit = limit
        self.threads = threads
        for index in 0..<threads {
            OwnedThread.start(name: "\(name)-\(index)") { [shared] in Self.work(shared, make()) }
        }
    }

    deinit { stop() }

    /// Puts a job in the line; false when it is full or the pool has stopped, and then the job is not called.
    func submit(deadline: UInt64, _ run: @escaping @Sendable (Worker?) -> Void) -> Bool {
        let taken = shared.line.withLock { line in
            guard !line.isStopped, line.jobs.count - line.head < limit else { return false }
            line.jobs.append(Job(deadline: deadline, run: run))
            return true
        }
        if taken { shared.wake.signal() }
        return taken
    }

    private static func work(_ shared: Shared, _ worker: Worker) {
        while true {
            shared.wake.wait()
            guard let job = shared.line.withLock({ $0.next() }) else { return }
            job.run(SystemClock.now().micros < job.deadline ? worker : nil)
        }
    }

    /// Ends the threads after what is in the line.
    func stop() {
        let isFirst = shared.line.withLock { line in
            defer { line.isStopped = true }
            return !line.isStopped
        }
        guard isFirst else { return }
        for _ in 0..<threads { shared.wake.signal() }
    }
}
