import Foundation
import ServiceSDK
import Synchronization

struct Reminder: Sendable {
    var user: String
    var text: String
    var dueMS: UInt64
    var id: NoticeID
}

/// Reminders that are not due yet; a restart forgets them (a service with a store of its own would keep them there).
///
/// Isolation: any thread; a mutex around the list.
final class Reminders: Sendable {
    private struct State {
        var waiting: [Reminder] = []
        var stopped = false
    }

    static let limit = 10_000
    private let state = Mutex(State())

    /// False when there are too many.
    func add(_ reminder: Reminder) -> Bool {
        state.withLock { state in
            guard state.waiting.count < Self.limit else { return false }
            state.waiting.append(reminder)
            return true
        }
    }

    /// Hands over what is due, ten times a second, until `stop`.
    func run(_ remind: @Sendable ([Reminder]) async -> Void) async {
        while !state.withLock({ $0.stopped }) {
            let now = WallClock.nowMS()
            let due = state.withLock { state in
                let due = state.waiting.filter { $0.dueMS <= now }
                state.waiting.removeAll { $0.dueMS <= now }
                return due
            }
            if !due.isEmpty { await remind(due) }
            try? await Task.sleep(for: .milliseconds(100))
        }
    }

    func stop() { state.withLock { $0.stopped = true } }
}

/// The way back to users, through the service.
///
/// Isolation: any thread.
final class Users: Sendable {
    private let service = Mutex<MartletService?>(nil)

    func join(_ service: MartletService) { self.service.withLock { $0 = service } }

    /// Number of devices that got the event.
    func push(_ user: String, _ body: [UInt8]) async throws -> Int {
        guard let service = service.withLock({ $0 }) else { return 0 }
        let devices = try await service.push(to: [user], event: "echo", body: body)
        return devices.joined().count { $0 == .delivered }
    }

    func remind(_ due: [Reminder]) async {
        guard let service = service.withLock({ $0 }) else { return }
        for reminder in due {
            let text = Array(reminder.text.utf8)
            let outcome = try? await service.notify([reminder.user], content: text, id: reminder.id)
            if outcome?.first != .accepted {
                FileHandle.standardError.write(Data("reminder for \(reminder.user) was not stored\n".utf8))
            }
        }
    }
}

enum WallClock {
    /// Unix milliseconds.
    static func nowMS() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
    }
}
