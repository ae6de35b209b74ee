import Foundation
import Logging
import NIOCore
import NIOPosix
import RPC
import Synchronization
import Testing
import Wire

@testable import NIOTransport

let testSecret = "a secret of the cluster that tests use"
let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Answers look-ups as their first user id says; everything else it gives back as it came.
struct Obedient: RoleMachine {
    static let role = RoleName.online
    private(set) var seen: [String] = []

    mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, let deadline) = event else { return [] }
        guard case .lookupRequest(let body) = payload, let order = body.users.first?.userID else {
            return [.reply(id, payload)]
        }
        seen.append(order)
        switch order {
        case "refuse": return [.refuse(id, Failure(.busy, "as you wish", retryAfterMS: 7))]
        case "silence": return []
        case "deadline":
            var answer = LookupResponse()
            answer.results = [LookupResult()]
            answer.results[0].tokenEpoch = deadline > now.micros ? (deadline - now.micros) / 1000 : 0
            return [.reply(id, .lookupResponse(answer))]
        default: return [.reply(id, payload)]
        }
    }
}

/// Collects answers.
final class Answers: ReplySink {
    private let state = Mutex<[UInt64: CallResult]>([:])

    func reply(_ id: UInt64, _ result: CallResult) {
        state.withLock { if $0[id] == nil { $0[id] = result } }
    }

    var all: [UInt64: CallResult] { state.withLock { $0 } }

    /// Waits until there are so many.
    func wait(_ count: Int, seconds: Double = 20) async -> [UInt64: CallResult] {
        _ = await eventually(seconds: seconds) { self.all.count >= count }
        return all
    }
}

/// Looks again until it holds; false when the time is up.
func eventually(seconds: Double = 20, _ holds: () -> Bool) async -> Bool {
    let end = SystemClock.now().micros + UInt64(seconds * 1_000_000)
    while !holds() {
        if SystemClock.now().micros > end { return false }
        try? await Task.sleep(for: .milliseconds(2))
    }
    return true
}

/// A caller and a callee, by value in one process or over TCP between two nodes.
final class Fabric: Sendable {
    enum Kind: CaseIterable, Sendable { case inProcess, tcp }

    let near: Directory
    let far: Directory
    let host: RoleHost<Obedient>
    let nodes: [Node]
    let port: Int
    private let group: MultiThreadedEventLoopGroup
    private let lanes: [Lane]

    init(_ kind: Kind, config: TransportConfig = TransportConfig()) async throws {
        group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let lane = Lane.thread(name: "callee")
        lanes = [lane]
        far = Directory()
        near = kind == .inProcess ? far : Directory()
        host = RoleHost(Obedient(), instance: "o-1", lane: lane, directory: far, logger: quiet)
        host.start()
        guard kind == .tcp else {
            nodes = []
            port = 0
            return
        }
        let hosted: @Sendable () -> [(RoleName, String)] = { [(.online, "o-1"), (.route, "r-1")] }
        let server = try Node(
            directory: far, hosted: hosted, secret: testSecret, group: group, config: config, logger: quiet)
        port = try await server.listen(host: "127.0.0.1", port: 0)
        let client = try Node(
            directory: near, hosted: { [] }, secret: testSecret, group: group, config: config, logger: quiet)
        client.connect(to: [PeerAddress(host: "127.0.0.1", port: port)])
        nodes = [server, client]
        let directory = near
        #expect(await eventually { directory.instances(of: .online) == ["o-1"] })
    }

    func stop() async {
        for node in nodes.reversed() { await node.stop() }
        for lane in lanes { lane.stop() }
        try? await group.shutdownGracefully()
    }

    /// Makes a call the way a host does; a refusal at once goes to the sink too.
    func call(_ id: UInt64, _ payload: Payload, _ sink: Answers, timeoutMS: UInt64 = 10_000) {
        let deadline = SystemClock.now().micros + timeoutMS * 1000
        let call = IncomingCall(id: id, origin: sink, payload: payload, deadline: deadline)
        guard let target = near.resolve(.any(.online), near: nil) else {
            return sink.reply(id, .refused(Failure(.serviceUnavailable, "nobody")))
        }
        if let failure = target.accept(call) { sink.reply(id, .refused(failure)) }
    }

    static func order(_ text: String) -> Payload {
        var body = LookupRequest()
        var user = UserKey()
        user.userID = text
        body.users = [user]
        return .lookupRequest(body)
    }
}
