import Dispatch
import NIOCore
import Synchronization
import Wire

/// One thread with one mailbox: everything hosted on a lane runs there, one letter after the other. A post costs a lock
/// and an append; the thread is woken once per batch. Two kinds: over a NIO event loop (`Lane(loop:)`, nothing on it
/// may
/// block) and over a thread of its own (`Lane.thread`, for stores and files).
///
/// Isolation: `post` from any thread; everything else on the lane itself.
public final class Lane: Sendable {
    /// What is waiting; `awake` is true from the first post until the mailbox was found empty.
    private struct Mailbox {
        var letters: [Letter] = []
        var awake = false
        var stopped = false
    }

    private enum Driver: Sendable {
        case loop(any EventLoop)
        case thread(DispatchSemaphore)
    }

    public let name: String
    private let driver: Driver
    private let mailbox = Mutex(Mailbox())
    /// Letters are being handled. Written on the lane only.
    private let isBusy = Atomic<Bool>(false)
    /// Batches handled before sockets get their turn again.
    private static let roundsPerTurn = 8

    /// A lane on an event loop.
    public init(name: String, loop: any EventLoop) {
        self.name = name
        self.driver = .loop(loop)
    }

    /// A lane with a thread of its own, which may block.
    public static func thread(name: String) -> Lane {
        let lane = Lane(name: name, semaphore: DispatchSemaphore(value: 0))
        OwnedThread.start(name: name) { lane.runThread() }
        return lane
    }

    private init(name: String, semaphore: DispatchSemaphore) {
        self.name = name
        self.driver = .thread(semaphore)
    }

    /// Puts a letter in the mailbox.
    public func post(_ letter: Letter) {
        let wake = mailbox.withLock { box in
            box.letters.append(letter)
            if box.awake || box.stopped { return false }
            box.awake = true
            return true
        }
        guard wake else { return }
        switch driver {
        case .loop(let loop): loop.execute { self.runTurn() }
        case .thread(let semaphore): semaphore.signal()
        }
    }

    /// Runs the closure on the lane.
    public func run(_ work: @escaping @Sendable () -> Void) { post(.work(work)) }

    /// Delivers a letter later.
    public func post(_ letter: Letter, afterMS: UInt32) {
        switch driver {
        case .loop(let loop):
            _ = loop.scheduleTask(in: .milliseconds(Int64(afterMS))) { self.post(letter) }
        case .thread:
            LaneTimers.queue.asyncAfter(deadline: .now() + .milliseconds(Int(afterMS))) { self.post(letter) }
        }
    }

    /// Ends a thread lane after what is in its mailbox. No effect on a loop's lane.
    public func stop() {
        post(.work {})
        mailbox.withLock { $0.stopped = true }
        if case .thread(let semaphore) = driver { semaphore.signal() }
    }

    /// Handles what is waiting now, on a loop's lane, between two sockets: what a thousand sockets bring in one go then
    /// travels on in parts, and the next thread works on the first while this one reads the rest. No effect while
    /// letters are being handled.
    public func turn() {
        guard !isBusy.load(ordering: .relaxed) else { return }
        for _ in 0..<Self.roundsPerTurn where !runBatch() { return }
    }

    private func runTurn() {
        for _ in 0..<Self.roundsPerTurn where !runBatch() { return }
        if case .loop(let loop) = driver { loop.execute { self.runTurn() } }
    }

    private func runThread() {
        guard case .thread(let semaphore) = driver else { return }
        while true {
            semaphore.wait()
            while runBatch() {}
            if mailbox.withLock({ $0.stopped && $0.letters.isEmpty }) { return }
        }
    }

    /// Delivers what is waiting, then flushes every host that got something. False when nothing was waiting.
    private func runBatch() -> Bool {
        let letters = mailbox.withLock { box -> [Letter] in
            if box.letters.isEmpty { box.awake = false }
            let waiting = box.letters
            box.letters = []
            return waiting
        }
        guard !letters.isEmpty else { return false }
        isBusy.store(true, ordering: .relaxed)
        defer { isBusy.store(false, ordering: .relaxed) }
        var touched: [any LaneResident] = []
        for letter in letters {
            switch letter {
            case .work(let work): work()
            case .parcel(let resident, let parcel):
                if resident.receive(parcel) { touched.append(resident) }
            }
        }
        for resident in touched { resident.flush() }
        return true
    }
}

/// What a lane's mailbox holds.
public enum Letter: Sendable {
    case parcel(any LaneResident, Parcel)
    case work(@Sendable () -> Void)
}

/// What a host receives.
public enum Parcel: Sendable {
    case start
    case call(IncomingCall)
    case reply(UInt64, CallResult)
    case timer(UInt64)
    case sweep
}

/// Something that lives on a lane.
public protocol LaneResident: AnyObject, Sendable {
    /// True when this is the first parcel since the last flush.
    func receive(_ parcel: Parcel) -> Bool
    func flush()
}

/// Timers of thread lanes.
private enum LaneTimers {
    static let queue = DispatchQueue(label: "martlet.lane.timers")
}
