import Dispatch
import EmbeddedStore
import Foundation
import Logging
import NIOPosix
import Ports
import RPC
import RedisStore
import Synchronization
import Wire

/// A client of a test, with a thread of its own.
final class TestClient: Sendable {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let client: RedisClient

    init(_ config: RedisConfig) throws {
        client = try RedisClient(
            config: config, scripts: RedisPresenceMachine.scripts + RedisHotMachine.scripts, loop: group.next(),
            logger: Logger(label: "test"))
    }

    /// The results, after waiting for them.
    func ask(_ commands: [RedisCommand], timeoutMS: UInt64 = 5000) -> [RedisResult] {
        let box = Mutex<[RedisResult]>([])
        let done = DispatchSemaphore(value: 0)
        let deadline = SystemClock.now().micros + timeoutMS * 1000
        client.send(RedisRequest(id: 1, commands: commands, deadline: deadline)) { response in
            box.withLock { $0 = response.results }
            done.signal()
        }
        if done.wait(timeout: .now() + .milliseconds(Int(timeoutMS) + 5000)) == .timedOut {
            let failure = Failure(.internalError, "the client did not answer at all")
            return commands.map { _ in .unknown(failure) }
        }
        return box.withLock { $0 }
    }

    func ask(_ words: [String], slot: UInt16? = nil) -> RedisResult {
        var arguments = RedisArguments()
        for word in words { arguments.add(word) }
        let key = words.count > 1 ? words[1] : ""
        return ask([RedisCommand(.plain, slot: slot ?? RedisSlot.of(key), arguments)])[0]
    }

    /// How the servers were found.
    func contact() -> RedisContact? {
        let box = Mutex<RedisContact?>(nil)
        let done = DispatchSemaphore(value: 0)
        let client = client
        let waiting = Task {
            let contact = await client.contact(withinMS: 8000)
            box.withLock { $0 = contact }
            done.signal()
        }
        done.wait()
        _ = waiting
        return box.withLock { $0 }
    }

    deinit {
        let (client, group) = (client, group)
        let done = DispatchSemaphore(value: 0)
        Task {
            await client.stop()
            try? await group.shutdownGracefully()
            done.signal()
        }
        done.wait()
    }
}

/// A machine over Redis as a store that can be asked and waited for, so that it runs the suites of the embedded ones.
///
/// Isolation: none; a test has one thread.
class Driven<Machine: RoleMachine>: @unchecked Sendable
where Machine.Input == RedisResponse, Machine.Output == RedisRequest {
    // @unchecked: a test has one thread.
    private var machine: Machine
    private let client: TestClient
    private var next: UInt64 = 1
    var now = Instant(micros: 0, wallMS: 1_760_000_000_000)

    init(_ machine: Machine, _ client: TestClient) {
        self.machine = machine
        self.client = client
    }

    func ask(_ payload: Payload) -> CallResult {
        let id = CallID(next)
        next += 1
        var actions = machine.on(.call(id, payload, deadline: now.micros + 5_000_000), now: now)
        actions += machine.on(.flush, now: now)
        while !actions.isEmpty {
            switch actions.removeFirst() {
            case .reply(id, let answer): return .answered(answer)
            case .refuse(id, let failure): return .refused(failure)
            case .output(let request):
                // The case's clock is not the client's.
                let results = client.ask(request.commands)
                actions += machine.on(.input(RedisResponse(id: request.id, results: results)), now: now)
            default: break
            }
        }
        return .unknown(Failure(.internalError, "the machine did not answer"))
    }
}

/// Presence for the contract's cases, which move its clock.
final class DrivenPresence: Driven<RedisPresenceMachine>, PresenceStore, @unchecked Sendable {
    private let clearing: () -> Void
    private var wall: UInt64 = 0

    init(_ client: TestClient, prefix: String) throws {
        var config = RedisPresenceConfig()
        config.prefix = prefix
        config.usesServerClock = false
        let tags = PartitionTags(count: config.partitions)
        // A restart of Redis, as far as a store can see it.
        clearing = {
            var slots: Set<UInt16> = []
            let commands = tags.slots.filter { slots.insert($0).inserted }.map {
                RedisCommand(.plain, slot: $0, RedisArguments("FLUSHALL"))
            }
            _ = client.ask(commands)
        }
        super.init(RedisPresenceMachine(tokens: try SQLiteTokenEpochs(path: ":memory:"), config: config), client)
    }

    private func at(_ micros: UInt64) { now = Instant(micros: micros, wallMS: wall + micros / 1000) }

    func begin(micros: UInt64, wallMS: UInt64) {
        clearing()
        wall = wallMS
        at(micros)
    }

    func register(_ items: [Registration], micros: UInt64) -> [RegisterResult] {
        at(micros)
        var request = RegisterRequest()
        request.registrations = items
        guard case .answered(.registerResponse(let response)) = ask(.registerRequest(request)) else { return [] }
        return response.results
    }

    func unregister(_ items: [Registration], micros: UInt64) {
        at(micros)
        var request = UnregisterRequest()
        request.registrations = items
        _ = ask(.unregisterRequest(request))
    }

    func lease(_ request: LeaseRequest, micros: UInt64) -> LeaseResponse {
        at(micros)
        guard case .answered(.leaseResponse(let response)) = ask(.leaseRequest(request)) else { return LeaseResponse() }
        return response
    }

    func lookup(_ users: [UserKey], micros: UInt64) throws(Failure) -> [LookupResult] {
        at(micros)
        var request = LookupRequest()
        request.users = users
        switch ask(.lookupRequest(request)) {
        case .answered(.lookupResponse(let response)): return response.results
        case .answered: throw Failure(.internalError, "no look-up")
        case .refused(let failure), .unknown(let failure): throw failure
        }
    }

    func revoke(_ items: [RevokeItem]) throws(Failure) {
        var request = RevokeRequest()
        request.items = items
        guard case .answered(.done(let done)) = ask(.revokeRequest(request)), done.failures.isEmpty else {
            throw Failure(.storeUnavailable, "not revoked")
        }
    }

    /// Ended leases end by themselves.
    func expire(micros: UInt64) { at(micros) }
}

/// The hot store for the contract's cases.
final class DrivenHot: Driven<RedisHotMachine>, HotStore, @unchecked Sendable {
    init(_ client: TestClient, prefix: String) {
        var config = RedisHotConfig()
        config.prefix = prefix
        super.init(RedisHotMachine(config: config), client)
    }

    func put(_ rows: [StoredRow], fences: [HotFence]) {
        var request = HotPut()
        request.rows = rows
        request.fences = fences
        _ = ask(.hotPut(request))
    }

    func rows(_ queries: [RowsQuery]) -> [RowsPage] {
        var request = ReadRows()
        request.queries = queries
        guard case .answered(.rowsRead(let read)) = ask(.readRows(request)) else { return [] }
        return read.pages
    }
}
