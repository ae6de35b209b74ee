import Foundation
import Identity
import Logging
import NIOCore
import NIOPosix
import RPC
import Synchronization
import Testing
import Wire

@testable import LoginRole

/// Runs blocking code on a thread of its own: the pool's few threads are needed by those who are waited for.
func blocking<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        Thread { continuation.resume(with: Result { try work() }) }.start()
    }
}

/// A role that answers at once with what a closure says, and keeps what it was asked.
final class FakeRole: CallTarget {
    private let seen = Mutex<[Payload]>([])
    private let answer: @Sendable (Payload) -> Payload?
    var lane: Lane? { nil }

    init(_ answer: @escaping @Sendable (Payload) -> Payload?) { self.answer = answer }

    func accept(_ call: IncomingCall) -> Failure? {
        seen.withLock { $0.append(call.payload) }
        guard let payload = answer(call.payload) else { return nil }
        call.origin?.reply(call.id, .answered(payload))
        return nil
    }

    var payloads: [Payload] { seen.withLock { $0 } }
}

/// A real gateway with fake Online, Route and User behind it.
final class FakeSuite: Sendable {
    let directory = Directory()
    let online: FakeRole
    let route: FakeRole
    let group: MultiThreadedEventLoopGroup
    let server: GatewayServer
    let caller: RoleCaller

    /// Services: 6 echoes, 7 answers 100 KiB, everything else is not found.
    private static func serve(_ call: ServiceCall) -> ServiceReply {
        switch call.svid {
        case 1, 6: ServiceReply.with { $0.body = call.body }
        case 7: ServiceReply.with { $0.body = Data(repeating: 7, count: 100 * 1024) }
        default: ServiceReply.with { $0.failure = Failure(.noSuchService, "") }
        }
    }

    init(loops: Int = 1, _ change: (inout GatewayConfig) -> Void = { _ in }) async throws {
        let epochs = Atomic<UInt64>(0)
        online = FakeRole { payload in
            switch payload {
            case .registerRequest(let request):
                .registerResponse(
                    RegisterResponse.with { response in
                        response.results = request.registrations.map { _ in
                            RegisterResult.with { $0.epoch = epochs.wrappingAdd(1, ordering: .relaxed).newValue }
                        }
                    })
            case .leaseRequest: .leaseResponse(LeaseResponse())
            case .lookupRequest: .lookupResponse(LookupResponse())
            default: .done(Done())
            }
        }
        route = FakeRole { payload in
            guard case .serviceCalls(let calls) = payload else { return nil }
            return .serviceReplies(ServiceReplies.with { $0.replies = calls.calls.map(Self.serve) })
        }
        let user = FakeRole { payload in
            if case .usersPut = payload { return .done(Done()) }
            guard case .appsGet(let request) = payload else { return nil }
            return .appsGot(
                AppsGot.with { got in
                    got.apps = request.appIds.map { id in
                        id == "demo" ? LoginScript.app() : App.with { $0.appID = id }
                    }
                })
        }
        directory.add(.online, "online", online)
        directory.add(.route, "route", route)
        directory.add(.user, "user", user)
        group = MultiThreadedEventLoopGroup(numberOfThreads: loops)
        let lanes = Array(group.makeIterator()).enumerated().map { Lane(name: "edge-\($0)", loop: $1) }
        caller = RoleCaller(directory: directory, lane: lanes[0])
        var config = GatewayConfig(listeners: [
            GatewayListener(.tcp, host: "127.0.0.1", port: 0), GatewayListener(.webSocket, host: "127.0.0.1", port: 0),
        ])
        // Other tests may keep this one from its turn for long.
        config.login.handshakeMS = 60_000
        config.login.pushAckTimeoutMS = 60_000
        change(&config)
        server = try await GatewayServer.start(
            config: config, group: group, lanes: lanes, directory: directory, namePrefix: "login",
            logger: Logger(label: "test"))
    }

    var tcp: Int { server.ports[0] }
    var webSocket: Int { server.ports[1] }

    func stop() async throws {
        try await server.shutdown()
        try await group.shutdownGracefully()
    }

    func token(_ user: String) throws -> String {
        try LoginScript.issuer.issue(userID: user, lifetimeSeconds: 600, nowMS: SystemClock.now().wallMS)
    }

    /// Connects and logs in.
    func client(_ user: String, webSocket: Bool = false) throws -> TestClient {
        let client = try TestClient(port: webSocket ? self.webSocket : tcp, webSocket: webSocket)
        try client.login(token: token(user))
        return client
    }

    /// Waits until the gateway has so many connections.
    func waitForConnections(_ count: Int) async throws {
        for _ in 0..<250 {
            if try await server.connectionCount() == count { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(try await server.connectionCount() == count)
    }

    /// Delivers messages to sessions through the directory, as Route would.
    func deliver(_ seqs: ClosedRange<UInt64>, to session: String, size: Int = 10) async throws -> [Hand] {
        let loginID = session.split(separator: "-").prefix(2).joined(separator: "-")
        var request = DeliverRequest()
        request.deliveries = seqs.map { seq in
            var delivery = LoginScript.delivery(seq, to: [session])
            delivery.message.message = Data(repeating: UInt8(truncatingIfNeeded: seq), count: size)
            return delivery
        }
        let result = await caller.call(.instance(.login, loginID), .deliverRequest(request), timeoutMS: 8000)
        guard case .answered(.deliverResponse(let response)) = result else {
            Issue.record("\(result)")
            return []
        }
        return response.results.flatMap(\.targets)
    }
}
