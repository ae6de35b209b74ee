import Foundation
import Identity
import Logging
import NIOTransport
import RPC
import Synchronization
import Wire

/// A service behind Martlet: users reach it under its service id, and it reaches users with `push` and `notify`.
/// Martlet's own services have nothing more than this. Run it as often as you like, under different names: Routes
/// balance.
///
///     let service = try MartletService(svid: 1000, app: "demo", name: "echo-1") { requests in
///         requests.map { .success($0.body) }
///     }
///     try service.connect(to: ["127.0.0.1:7100"], secret: secret)
///     try await service.run()
///
/// Isolation: any thread.
public final class MartletService: Sendable {
    /// Answers a batch, in order, one response per request.
    public typealias Handler = @Sendable (_ requests: [ServiceRequest]) async -> [ServiceResponse]

    /// The role under which strangers' services are called.
    public static let role = RoleName(rawValue: "service")

    public let svid: UInt32
    public let app: String
    public let name: String
    let config: ServiceConfig
    let logger: Logger
    let caller: RoleCaller
    private let handler: Handler
    private let directory: Directory
    private let lane: Lane
    private let intake: ServiceIntake
    private let state = Mutex(State())

    private struct State {
        var node: Node?
        var ran = false
        var leaving = false
    }

    /// - Parameters:
    ///   - svid: 1000 to 65535 for an app's own service.
    ///   - app: the app whose users it serves.
    ///   - name: this instance's name; unique among the instances of all services, 1 to 64 bytes.
    ///   - directory: only to run in the same process as the suite; leave it out otherwise and `connect`.
    ///   - handler: called with every batch of requests; up to `config.concurrency` at a time.
    /// - Throws: `ServiceError` when a name or id is malformed.
    public init(
        svid: UInt32, app: String, name: String, config: ServiceConfig = ServiceConfig(),
        directory: Directory = Directory(), logger: Logger = Logger(label: "martlet.service"),
        handler: @escaping Handler
    ) throws {
        guard (WellKnownService.firstOfApps...WellKnownService.last).contains(svid) else {
            throw ServiceError.badServiceID(svid)
        }
        guard NameRule.isApp(app) else { throw ServiceError.badApp(app) }
        guard NameRule.isUser(name), !name.contains("/") else { throw ServiceError.badName(name) }
        self.svid = svid
        self.app = app
        self.name = name
        self.config = config
        self.directory = directory
        self.logger = logger
        self.handler = handler
        lane = Lane.thread(name: "service-\(name)")
        caller = RoleCaller(directory: directory, lane: lane)
        intake = ServiceIntake(limit: config.maxRequests)
    }

    /// Keeps connections to Martlet's processes, each "host:port": every Route, and whoever hosts PushProxy and
    /// MsgProxy when the service pushes or notifies. `secret` is the cluster's.
    ///
    /// - Throws: `ServiceError.badAddress`, `NodeError` for a secret that is too short.
    public func connect(to addresses: [String], secret: String) throws {
        let peers = try addresses.map { text in
            guard let address = PeerAddress(text) else { throw ServiceError.badAddress(text) }
            return address
        }
        let hosted: @Sendable () -> [(RoleName, String)] = { [name] in [(Self.role, name)] }
        let node = try state.withLock { state in
            if let node = state.node { return node }
            let node = try Node(directory: directory, hosted: hosted, secret: secret, logger: logger)
            state.node = node
            return node
        }
        node.connect(to: peers)
    }

    /// Serves until `leave` is called or, unless told otherwise, the process gets SIGTERM or SIGINT; then drains:
    /// tells every Route, finishes what has come in, and returns.
    ///
    /// - Throws: `ServiceError.alreadyRan`.
    public func run(untilSignal: Bool = true) async throws {
        let first = state.withLock { state in
            defer { state.ran = true }
            return !state.ran
        }
        guard first else { throw ServiceError.alreadyRan }
        let signals = untilSignal ? SignalWatch { [weak self] in self?.leave() } : nil
        directory.add(Self.role, name, intake)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.announceUntilDrained() }
            for _ in 0..<max(1, config.concurrency) { group.addTask { await self.work() } }
        }
        signals?.cancel()
        directory.remove(Self.role, name, intake)
        await state.withLock { $0.node }?.stop()
        lane.stop()
    }

    /// Begins to drain; `run` returns when that is done.
    public func leave() { state.withLock { $0.leaving = true } }

    /// Requests that wait or run.
    public var requestsHeld: Int { intake.requests }

    /// Routes that can be reached at the moment.
    public var routes: [String] { directory.instances(of: .route) }

    private var leaving: Bool { state.withLock { $0.leaving } }

    private func announceUntilDrained() async {
        let step: UInt32 = 50
        var since = config.announceEveryMS
        var known: [String] = []
        while !leaving, !Task.isCancelled {
            let now = routes
            // A Route that is new hears of us at once, not only when the second is over.
            if since >= config.announceEveryMS || now != known {
                announce(leaving: false)
                since = 0
                known = now
            }
            await pause(step)
            since += step
        }
        logger.info("service leaves", metadata: ["service": "\(svid)", "instance": "\(name)"])
        var waited: UInt32 = 0
        while waited < config.leaveGraceMS || (intake.requests > 0 && waited < config.drainLimitMS) {
            if waited % 500 == 0 { announce(leaving: true) }
            await pause(step)
            waited += step
        }
        intake.close()
    }

    private func pause(_ milliseconds: UInt32) async { try? await Task.sleep(for: .milliseconds(milliseconds)) }

    private func announce(leaving: Bool) {
        var body = ServiceAnnounce()
        body.svids = [svid]
        body.appID = app
        body.instanceID = "\(Self.role)/\(name)"
        body.leaving = leaving
        body.repeatableMethods = config.repeatableMethods
        let deadline = SystemClock.now().micros + UInt64(config.announceEveryMS) * 2000
        let call = IncomingCall(id: 0, origin: nil, payload: .serviceAnnounce(body), deadline: deadline)
        for route in directory.targets(of: .route) { _ = route.accept(call) }
    }

    /// One of the workers: takes batch after batch until the intake is closed and empty.
    private func work() async {
        for await batch in intake.batches {
            await answer(batch)
            intake.finished(batch)
        }
    }

    private func answer(_ batch: ServiceIntake.Batch) async {
        guard let origin = batch.origin else { return }
        guard batch.deadline > SystemClock.now().micros else {
            let late = Failure(.deadlineExceeded, "the request waited too long in the service")
            return origin.reply(batch.id, .refused(late))
        }
        let responses = await handler(batch.calls.map(ServiceRequest.init))
        var body = ServiceReplies()
        body.replies = responses.prefix(batch.calls.count).map(\.reply)
        while body.replies.count < batch.calls.count {
            let missing = ServiceFailure.internalError("the service gave no response to this request")
            body.replies.append(ServiceResponse.failure(missing).reply)
        }
        origin.reply(batch.id, .answered(.serviceReplies(body)))
    }
}
