import Dispatch
import EmbeddedStore
import Foundation
import Identity
import Logging
import NIOPosix
import OnlineRole
import Ports
import RPC
import RedisStore
import Synchronization
import Testing
import Wire

/// Online and presence over real servers on lanes of their own, by the servers' clocks, and a Login that does what
/// Login does with what they say: registers everything again when its lease has another life or its sums differ.
final class PresenceLife: @unchecked Sendable {
    // @unchecked: a test has one thread.
    let client: TestClient
    private let lane = Lane.thread(name: "presence")
    private let directory = Directory()
    private let caller: BlockingCaller
    private var life: UInt64 = 0
    private var differing: [UInt32] = []
    /// Sessions of the Login with the epochs that they were given.
    private(set) var epochs: [String: UInt64] = [:]
    private let login: String

    init(_ config: RedisConfig, login: String = "login-1") throws {
        self.login = login
        client = try TestClient(config)
        let logger = Logger(label: "test")
        RedisHost.start(
            RedisPresenceMachine(tokens: try SQLiteTokenEpochs(path: ":memory:")), instance: "presence", lane: lane,
            directory: directory, client: client.client, logger: logger)
        RoleHost(
            OnlineMachine(instance: "online"), instance: "online", lane: lane, directory: directory, logger: logger
        )
        .start()
        caller = BlockingCaller(directory, lane)
    }

    deinit { lane.stop() }

    func ask(_ payload: Payload) -> CallResult { caller.ask(.online, payload) }

    func register(_ session: String, user: String) -> RegisterResult? {
        var item = Registration()
        item.appID = "demo"
        item.userID = user
        item.deviceID = "device-\(session)"
        item.platform = "web"
        item.sessionID = session
        item.loginID = login
        item.welcomedUs = SystemClock.now().wallMS * 1000
        var request = RegisterRequest()
        request.registrations = [item]
        guard case .answered(.registerResponse(let response)) = ask(.registerRequest(request)),
            let result = response.results.first
        else { return nil }
        if !result.hasFailure { epochs["\(session) \(user)"] = result.epoch }
        return result
    }

    /// One beat of the lease, and what Login does then. Nil: no answer. Else whether presence has all sessions.
    func beat() -> Bool? {
        var request = LeaseRequest()
        request.loginID = login
        request.leaseMs = 6000
        request.show = differing
        guard case .answered(.leaseResponse(let lease)) = ask(.leaseRequest(request)) else { return nil }
        var mine = SessionSlices()
        let sessions = epochs.keys.sorted().map { $0.split(separator: " ").map(String.init) }
        for session in sessions { mine.add(session[0]) }
        let isAnew = lease.life != life
        life = lease.life
        let shown = Set(lease.shown.map(\.sessionID))
        for session in sessions {
            let isMissing =
                differing.contains(UInt32(SessionSlices.slice(of: session[0]))) && !shown.contains(session[0])
            if isAnew || isMissing { _ = register(session[0], user: session[1]) }
        }
        differing = zip(mine.sums, lease.slices).enumerated().filter { $1.0 != $1.1 }.prefix(4).map {
            UInt32($0.offset)
        }
        return !isAnew && differing.isEmpty
    }

    /// Beats until presence has all sessions; how often, or nil when it did not.
    func settle(beats: Int = 20) -> Int? {
        for count in 1...beats {
            if beat() == true { return count }
            usleep(100_000)
        }
        return nil
    }

    func state(_ user: String) -> PresenceState? { states([user]).first }

    /// What a look-up of all of them says; empty: it was not answered.
    func states(_ users: [String]) -> [PresenceState] {
        var request = LookupRequest()
        request.users = users.map { user in
            var key = UserKey()
            key.appID = "demo"
            key.userID = user
            return key
        }
        guard case .answered(.lookupResponse(let response)) = ask(.lookupRequest(request)) else { return [] }
        return response.results.map(\.state)
    }
}

/// Calls roles of a directory and waits.
final class BlockingCaller: ReplySink {
    private let directory: Directory
    private let lane: Lane
    private let answers = Mutex<[UInt64: CallResult]>([:])
    private let next = Mutex<UInt64>(1)
    private let signal = DispatchSemaphore(value: 0)

    init(_ directory: Directory, _ lane: Lane) {
        self.directory = directory
        self.lane = lane
    }

    func reply(_ id: UInt64, _ result: CallResult) {
        answers.withLock { $0[id] = result }
        signal.signal()
    }

    func ask(_ role: RoleName, _ payload: Payload) -> CallResult {
        let id = next.withLock { next in
            next += 1
            return next
        }
        let deadline = SystemClock.now().micros + 5_000_000
        guard let target = directory.resolve(.any(role), near: lane) else {
            return .refused(Failure(.serviceUnavailable, "nobody is there"))
        }
        if let failure = target.accept(IncomingCall(id: id, origin: self, payload: payload, deadline: deadline)) {
            return .refused(failure)
        }
        while true {
            if let answer = answers.withLock({ $0.removeValue(forKey: id) }) { return answer }
            if signal.wait(timeout: .now() + 10) == .timedOut {
                return .unknown(Failure(.internalError, "a role did not answer at all"))
            }
        }
    }
}
