import Foundation
import Identity
import RPC
import ServiceSDK
import Synchronization
import Testing
import Wire

/// Stands for a role: remembers what it was asked, answers as told.
private final class Fake: CallTarget {
    private let seen = Mutex<[Payload]>([])
    private let answer: @Sendable (Payload, Int) -> CallResult?

    init(_ answer: @escaping @Sendable (Payload, Int) -> CallResult? = { _, _ in nil }) { self.answer = answer }

    var lane: Lane? { nil }
    var payloads: [Payload] { seen.withLock { $0 } }

    func accept(_ call: IncomingCall) -> Failure? {
        let turn = seen.withLock { seen in
            seen.append(call.payload)
            return seen.count
        }
        if let result = answer(call.payload, turn) { call.origin?.reply(call.id, result) }
        return nil
    }

    var announces: [ServiceAnnounce] {
        payloads.compactMap { if case .serviceAnnounce(let body) = $0 { body } else { nil } }
    }
}

@Suite struct ServiceTests {
    private func config() -> ServiceConfig {
        var config = ServiceConfig()
        config.announceEveryMS = 100
        config.leaveGraceMS = 200
        return config
    }

    private func calls(_ bodies: [String]) -> Payload {
        var calls = ServiceCalls()
        calls.calls = bodies.map { text in
            var call = ServiceCall()
            call.caller.appID = "demo"
            call.caller.userID = "alice"
            call.svid = 1000
            call.method = 1
            call.body = Data(text.utf8)
            return call
        }
        return .serviceCalls(calls)
    }

    private func bodies(_ result: CallResult) -> [String]? {
        guard case .answered(.serviceReplies(let body)) = result else { return nil }
        return body.replies.map { $0.hasFailure ? "!\($0.failure.reason)" : String(decoding: $0.body, as: UTF8.self) }
    }

    @Test func announcesAnswersAndDrains() async throws {
        let directory = Directory()
        let route = Fake()
        directory.add(.route, "r-1", route)
        let service = try MartletService(
            svid: 1000, app: "demo", name: "echo-1", config: config(), directory: directory, logger: quiet
        ) { requests in
            if requests.first?.body == Array("slow".utf8) { try? await Task.sleep(for: .milliseconds(500)) }
            return requests.filter { $0.body != Array("forget".utf8) }.map { .success($0.body + Array("!".utf8)) }
        }
        let running = Task.owned { try await service.run(untilSignal: false) }
        #expect(await eventually { route.announces.count >= 3 })
        let announce = try #require(route.announces.first)
        #expect(announce.svids == [1000] && announce.appID == "demo" && announce.instanceID == "service/echo-1")
        #expect(!announce.leaving)
        let lane = Lane.thread(name: "route")
        let caller = RoleCaller(directory: directory, lane: lane)
        let to = Address.instance(MartletService.role, "echo-1")
        #expect(bodies(await caller.call(to, calls(["a", "b"]))) == ["a!", "b!"])
        // One response too few is an error of that request, not a hang.
        #expect(bodies(await caller.call(to, calls(["a", "forget"]))) == ["a!", "!internal_error"])
        guard case .refused(let failure) = await caller.call(to, .done(Done())) else {
            Issue.record("took a payload that is not its own")
            return
        }
        #expect(failure.isCode(.noSuchMethod))
        // Drain: what is under way is answered first, then the service is gone.
        let slow = Answers()
        let deadline = SystemClock.now().micros + 5_000_000
        let call = IncomingCall(id: 3, origin: slow, payload: calls(["slow"]), deadline: deadline)
        #expect(directory.resolve(to, near: nil)?.accept(call) == nil)
        service.leave()
        try await running.value
        #expect(bodies(try #require(slow.all[3])) == ["slow!"])
        #expect(route.announces.last?.leaving == true)
        #expect(directory.instances(of: MartletService.role).isEmpty)
        await #expect(throws: ServiceError.alreadyRan) { try await service.run(untilSignal: false) }
        lane.stop()
    }

    @Test func overloadIsRefused() async throws {
        let directory = Directory()
        var limits = config()
        limits.maxRequests = 2
        let service = try MartletService(
            svid: 1000, app: "demo", name: "one", config: limits, directory: directory, logger: quiet
        ) { requests in
            try? await Task.sleep(for: .milliseconds(300))
            return requests.map { .success($0.body) }
        }
        let running = Task.owned { try await service.run(untilSignal: false) }
        #expect(await eventually { directory.instances(of: MartletService.role) == ["one"] })
        let target = try #require(directory.resolve(.any(MartletService.role), near: nil))
        let deadline = SystemClock.now().micros + 5_000_000
        let sink = Answers()
        #expect(
            target.accept(IncomingCall(id: 1, origin: sink, payload: calls(["a", "b"]), deadline: deadline)) == nil)
        let failure = target.accept(IncomingCall(id: 2, origin: sink, payload: calls(["c"]), deadline: deadline))
        #expect(failure?.isCode(.overloaded) == true)
        service.leave()
        try await running.value
    }

    @Test func pushAnswersPerUserAndDevice() async throws {
        let directory = Directory()
        let proxy = Fake { payload, _ in
            guard case .pushEvents(let body) = payload else { return nil }
            var results = PushEventResults()
            results.results = body.events.map { event in
                var result = EventResult()
                result.sessions = event.users.first?.userID == "bob" ? [.delivered, .full] : []
                return result
            }
            return .answered(.pushEventResults(results))
        }
        directory.add(.pushProxy, "pp", proxy)
        let service = try MartletService(
            svid: 1000, app: "demo", name: "one", directory: directory, logger: quiet
        ) { _ in [] }
        let devices = try await service.push(to: ["alice", "bob"], event: "ring", body: [1])
        #expect(devices == [[], [.delivered, .full]])
        guard case .pushEvents(let body)? = proxy.payloads.first else { return }
        #expect(body.events[1].event.svid == 1000 && body.events[1].event.name == "ring")
        #expect(body.events[1].users.first?.appID == "demo")
    }

    @Test func notifyStoresInTheControlConversationAndRepeatsUnderTheSameID() async throws {
        let directory = Directory()
        let proxy = Fake { payload, turn in
            guard case .storeMessages(let body) = payload else { return nil }
            if turn == 1 { return .unknown(Failure(.serviceUnavailable, "broke")) }
            var outcomes = StoreOutcomes()
            outcomes.results = body.records.map { record in
                var result = SendResult()
                let refuse = record.members == ["carol"]
                result.outcome = refuse ? .refused : .accepted
                if refuse { result.failure = Failure(.noSuchUser, "no carol") }
                return result
            }
            return .answered(.storeOutcomes(outcomes))
        }
        directory.add(.msgProxy, "mp", proxy)
        var limits = ServiceConfig()
        limits.notifyAttempts = 2
        let service = try MartletService(
            svid: 1000, app: "demo", name: "one", config: limits, directory: directory, logger: quiet
        ) { _ in [] }
        let id = NoticeID.derived(from: "order 7 version 2", timeMS: 1_700_000_000_000)
        let outcomes = try await service.notify(["bob", "carol"], content: Array("ready".utf8), id: id)
        #expect(outcomes[0] == .accepted)
        // The first try is unknown: a refusal of the second does not say that nothing was stored.
        guard case .unknown(let failure) = outcomes[1] else {
            Issue.record("\(outcomes[1])")
            return
        }
        #expect(failure.name == "no_such_user")
        let records = proxy.payloads.flatMap { payload -> [LogRecord] in
            if case .storeMessages(let body) = payload { body.records } else { [] }
        }
        #expect(records.count == 4 && Set(records.map(\.clientMsgID)) == [Data(id.bytes)])
        let first = try #require(records.first)
        #expect(first.conversation == "u:bob" && first.members == ["bob"] && first.sender.isEmpty)
        let message = try ChatMessage(serializedBytes: first.message)
        #expect(message.kind == .contentNotice && message.svid == 1000 && message.content == Data("ready".utf8))
        #expect(message.clientMsgID == first.clientMsgID)
    }

    @Test func noticeIDsAreVersion7AndDerivedOnesAreStable() {
        let one = NoticeID.derived(from: "a", timeMS: 1_700_000_000_000)
        #expect(one == NoticeID.derived(from: "a", timeMS: 1_700_000_000_000))
        #expect(one != NoticeID.derived(from: "b", timeMS: 1_700_000_000_000))
        #expect(MessageID.timeMS(one.bytes) == 1_700_000_000_000)
        #expect(NoticeID.fresh(timeMS: 5) != NoticeID.fresh(timeMS: 5))
        #expect(NoticeID(bytes: [1, 2]) == nil && NoticeID(bytes: one.bytes) == one)
    }

    @Test func badInputIsNamed() async throws {
        #expect(throws: ServiceError.badServiceID(999)) {
            try MartletService(svid: 999, app: "demo", name: "x") { _ in [] }
        }
        #expect(throws: ServiceError.badApp("De mo")) {
            try MartletService(svid: 1000, app: "De mo", name: "x") { _ in [] }
        }
        #expect(throws: ServiceError.badName("a/b")) {
            try MartletService(svid: 1000, app: "demo", name: "a/b") { _ in [] }
        }
        let service = try MartletService(svid: 1000, app: "demo", name: "x", logger: quiet) { _ in [] }
        #expect(throws: ServiceError.badAddress("nowhere")) {
            try service.connect(to: ["nowhere"], secret: testSecret)
        }
        await #expect(throws: ServiceError.badUser("a b")) { try await service.notify(["a b"], content: []) }
        await #expect(throws: ServiceError.contentTooLarge(40_000, limit: 32_768)) {
            try await service.push(to: ["bob"], event: "x", body: [UInt8](repeating: 0, count: 40_000))
        }
        await #expect(throws: ServiceError.self) { try await service.push(to: ["bob"], event: "x", body: []) }
    }

    /// The whole way of a stranger: its own process's directory, connected over TCP to a suite that has a Route.
    @Test func aStrangerOverTCP() async throws {
        let fabric = try await Fabric(.tcp)
        let route = Fake()
        fabric.far.add(.route, "r-1", route)
        let service = try MartletService(svid: 1000, app: "demo", name: "tcp-1", config: config(), logger: quiet) {
            $0.map { .success($0.body) }
        }
        #expect(fabric.nodes.count == 2)
        try service.connect(to: ["127.0.0.1:\(fabric.port)"], secret: testSecret)
        let running = Task.owned { try await service.run(untilSignal: false) }
        let far = fabric.far
        #expect(await eventually { far.instances(of: MartletService.role) == ["tcp-1"] })
        let lane = Lane.thread(name: "route")
        let caller = RoleCaller(directory: far, lane: lane)
        let to = Address.instance(MartletService.role, "tcp-1")
        #expect(bodies(await caller.call(to, calls(["over the wire"]))) == ["over the wire"])
        service.leave()
        try await running.value
        #expect(await eventually { far.instances(of: MartletService.role).isEmpty })
        lane.stop()
        await fabric.stop()
    }
}

extension Task where Failure == any Error, Success == Void {
    /// A task that the test awaits.
    static func owned(_ body: @escaping @Sendable () async throws -> Void) -> Task<Void, any Error> {
        Task(operation: body)
    }
}
