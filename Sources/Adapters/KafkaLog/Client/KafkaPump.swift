internal import CRdKafka
import Foundation
import RPC
import Synchronization

/// One thread that blocks in a client's queue: what arrives is taken in batches, and what others want done on the
/// queue's thread wakes it up. It never sleeps and never polls for nothing but once in a while.
///
/// Isolation: `post` and `stop` from any thread; `serve` and what was posted run on the pump's own.
final class KafkaPump: Sendable {
    private struct Work {
        var waiting: [@Sendable () -> Void] = []
        var isStopped = false
    }

    /// Longest time in the queue without a look at the flags; a wake-up ends it at once.
    private static let blockMS: Int32 = 1000
    /// Most events of one batch: bounds what is held before the machine hears of it.
    private static let batch = 1024

    private let handle: KafkaHandle
    private let work = Mutex(Work())
    private let ended = DispatchSemaphore(value: 0)

    init(_ handle: KafkaHandle) { self.handle = handle }

    /// Starts the thread. `serve` gets every event of a batch, then `done` ends the batch.
    func start(serve: @escaping @Sendable (OpaquePointer) -> Void, done: @escaping @Sendable () -> Void) {
        OwnedThread.start(name: handle.name) { [self] in
            while runBatch(serve, done) {}
            ended.signal()
        }
    }

    private func runBatch(_ serve: (OpaquePointer) -> Void, _ done: () -> Void) -> Bool {
        let todo = work.withLock { work in
            defer { work.waiting = [] }
            return work.isStopped && work.waiting.isEmpty ? nil : work.waiting
        }
        guard let todo else { return false }
        for item in todo { item() }
        var count = 0
        var event = rd_kafka_queue_poll(handle.queue, todo.isEmpty ? Self.blockMS : 0)
        while let found = event {
            serve(found)
            rd_kafka_event_destroy(found)
            count += 1
            event = count < Self.batch ? rd_kafka_queue_poll(handle.queue, 0) : nil
        }
        done()
        return true
    }

    func post(_ item: @escaping @Sendable () -> Void) {
        work.withLock { $0.waiting.append(item) }
        rd_kafka_queue_yield(handle.queue)
    }

    /// Ends the thread after what was posted; waits for that unless it is called on the thread itself.
    func stop() {
        finish()
        ended.wait()
    }

    /// Ends the thread after what was posted.
    func finish() {
        work.withLock { $0.isStopped = true }
        rd_kafka_queue_yield(handle.queue)
    }
}
