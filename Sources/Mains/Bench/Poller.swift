import CEpoll
import Glibc

/// Readiness of many sockets for one thread. A thin owner of an epoll descriptor and its event array.
final class Poller {
    /// Few enough that the moment of the wait is a fair time for everything it reported.
    static let maxEvents = 256

    private let descriptor: Int32
    private let events: UnsafeMutablePointer<epoll_event>

    struct Ready {
        let token: Int
        let readable: Bool
        let writable: Bool
        let failed: Bool
    }

    init() throws(BenchError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw BenchError("cannot watch sockets: \(String(cString: strerror(errno)))") }
        events = .allocate(capacity: Self.maxEvents)
        events.initialize(repeating: epoll_event(), count: Self.maxEvents)
    }

    deinit {
        events.deallocate()
        close(descriptor)
    }

    func add(_ socket: Int32, token: Int, writable: Bool) { control(EPOLL_CTL_ADD, socket, token, writable) }

    func change(_ socket: Int32, token: Int, writable: Bool) { control(EPOLL_CTL_MOD, socket, token, writable) }

    func remove(_ socket: Int32) { control(EPOLL_CTL_DEL, socket, 0, false) }

    private func control(_ operation: Int32, _ socket: Int32, _ token: Int, _ writable: Bool) {
        var flags = EPOLLIN.rawValue
        if writable { flags |= EPOLLOUT.rawValue }
        var event = epoll_event(events: flags, data: epoll_data_t(u64: UInt64(token)))
        epoll_ctl(descriptor, operation, socket, &event)
    }

    /// Waits for at most so many milliseconds; how many of `ready(at:)` are there.
    func wait(timeoutMS: Int32) -> Int { Int(max(0, epoll_wait(descriptor, events, Int32(Self.maxEvents), timeoutMS))) }

    func ready(at index: Int) -> Ready {
        let event = events[index]
        return Ready(
            token: Int(event.data.u64), readable: event.events & EPOLLIN.rawValue != 0,
            writable: event.events & EPOLLOUT.rawValue != 0,
            failed: event.events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0)
    }
}

/// Microseconds of a clock that never jumps.
enum Monotonic {
    static func micros() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
    }
}
