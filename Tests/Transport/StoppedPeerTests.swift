import Foundation
import NIOPosix
import RPC
import Synchronization
import Testing
import Wire

@testable import NIOTransport

/// A peer that stops reading under full load, and reads again: 3 s here, 30 s with `MARTLET_STOPPED_SECONDS=30`.
@Suite(.serialized) struct StoppedPeerTests {
    /// Counts ends of calls instead of keeping them: the test's own memory must not grow.
    private final class Ends: ReplySink {
        struct Counts {
            var answered = 0
            var refused = 0
            var unknown = 0
            var all: Int { answered + refused + unknown }
        }
        private let state = Mutex(Counts())

        func reply(_ id: UInt64, _ result: CallResult) {
            state.withLock { counts in
                switch result {
                case .answered: counts.answered += 1
                case .refused: counts.refused += 1
                case .unknown: counts.unknown += 1
                }
            }
        }

        var counts: Counts { state.withLock { $0 } }
    }

    /// How calls to the stopped peer were taken.
    private struct Load {
        var taken = 0
        var overloaded = 0
        var otherRefusals = 0
    }

    private struct Service {
        var rounds = 0
        var slowestMS = 0.0
    }

    private static var seconds: Double {
        ProcessInfo.processInfo.environment["MARTLET_STOPPED_SECONDS"].flatMap { Double($0) } ?? 3
    }

    /// A near node with two peers, one of them behind a proxy that can stop.
    private struct World {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let near = Directory()
        let node: Node
        let others: [Node]
        let lanes: [Lane]
        let proxy: PausableProxy

        init() async throws {
            var others: [Node] = []
            var lanes: [Lane] = []
            var ports: [Int] = []
            for role in [RoleName.im, .online] {
                let directory = Directory()
                let lane = Lane.thread(name: "callee")
                let host = RoleHost(Obedient(), instance: "1", lane: lane, directory: Directory(), logger: quiet)
                host.start()
                directory.add(role, "1", host)
                let other = try Node(
                    directory: directory, hosted: { [(role, "1")] }, secret: testSecret, group: group, logger: quiet)
                ports.append(try await other.listen(host: "127.0.0.1", port: 0))
                others.append(other)
                lanes.append(lane)
            }
            (self.others, self.lanes) = (others, lanes)
            proxy = try await PausableProxy.start(to: ports[0])
            node = try Node(directory: near, hosted: { [] }, secret: testSecret, group: group, logger: quiet)
            node.connect(to: [proxy.port, ports[1]].map { PeerAddress(host: "127.0.0.1", port: $0) })
            let near = near
            #expect(await eventually { near.instances(of: .im) == ["1"] && near.instances(of: .online) == ["1"] })
        }

        func stop() async throws {
            await node.stop()
            await proxy.stop()
            for other in others { await other.stop() }
            for lane in lanes { lane.stop() }
            try await group.shutdownGracefully()
        }
    }

    /// Calls the stopped peer as fast as it is let, with deadlines like those between services.
    private static func push(_ target: any CallTarget, _ ends: Ends, until end: UInt64) async -> Load {
        var load = Load()
        // Bytes, not text: a debug build would spend the test's time on looking at every character.
        var bulk = ReadHeads()
        bulk.shardMarks = Data(repeating: 1, count: 8000)
        let payload = Payload.readHeads(bulk)
        var id: UInt64 = 0
        while SystemClock.now().micros < end {
            id += 1
            let deadline = SystemClock.now().micros + 5_000_000
            let call = IncomingCall(id: id, origin: ends, payload: payload, deadline: deadline)
            guard let failure = target.accept(call) else {
                load.taken += 1
                if id % 64 == 0 { await Task.yield() }
                continue
            }
            if failure.isCode(.overloaded) { load.overloaded += 1 } else { load.otherRefusals += 1 }
            try? await Task.sleep(for: .microseconds(100))
        }
        return load
    }

    /// Rounds of 32 calls to the peer that goes on reading.
    private static func serve(_ target: any CallTarget, until end: UInt64) async -> Service {
        var service = Service()
        while SystemClock.now().micros < end {
            let began = SystemClock.now().micros
            let ends = Ends()
            for id in 1...32 as ClosedRange<UInt64> {
                let deadline = began + 10_000_000
                let call = IncomingCall(id: id, origin: ends, payload: Fabric.order("hello"), deadline: deadline)
                if target.accept(call) != nil { return service }
            }
            guard await eventually(seconds: 10, { ends.counts.answered == 32 }) else { return service }
            service.rounds += 1
            service.slowestMS = max(service.slowestMS, Double(SystemClock.now().micros - began) / 1000)
        }
        return service
    }

    /// Bytes of memory that this process holds now.
    private static func residentBytes() -> Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }

    @Test(.timeLimit(.minutes(3))) func theQueueStopsAtItsLimitAndOthersAreServed() async throws {
        let world = try await World()
        let limit = TransportConfig().outboundLimitBytes
        let stopped = try #require(world.near.resolve(.any(.im), near: nil))
        let reading = try #require(world.near.resolve(.any(.online), near: nil))
        let before = await Self.serve(reading, until: SystemClock.now().micros + 1_000_000)
        let memory = Self.residentBytes()

        try await world.proxy.setReading(false)
        let end = SystemClock.now().micros + UInt64(Self.seconds * 1_000_000)
        let ends = Ends()
        async let pushing = Self.push(stopped, ends, until: end)
        async let serving = Self.serve(reading, until: end)
        let (load, during) = await (pushing, serving)
        let grown = Self.residentBytes() - memory
        let peak = world.node.peers.map(\.peakQueuedBytes).max() ?? 0

        #expect(load.overloaded > 100 && load.otherRefusals == 0, "\(load)")
        #expect(peak > limit / 2 && peak <= limit + 64 * 1024, "\(peak) bytes were queued; the limit is \(limit)")
        // Full buffers, once as payload and once as room that buffers grew by, and the calls that wait.
        #expect(grown < 3 * limit, "memory grew by \(grown >> 20) MiB")
        #expect(Double(during.rounds) / Self.seconds > Double(before.rounds) / 4, "\(before) before, \(during) during")
        #expect(during.slowestMS < 1000, "\(during)")

        // The peer reads again: the connection is the same, every call has ended once, and new ones are answered.
        try await world.proxy.setReading(true)
        #expect(await eventually(seconds: 20) { ends.counts.all == load.taken })
        let again = Ends()
        #expect(
            await eventually(seconds: 20) {
                let deadline = SystemClock.now().micros + 1_000_000
                let call = IncomingCall(id: 1, origin: again, payload: Fabric.order("hello"), deadline: deadline)
                _ = stopped.accept(call)
                Thread.sleep(forTimeInterval: 0.02)
                return again.counts.answered > 0
            })
        #expect(world.proxy.connections == 1)
        #expect(ends.counts.all == load.taken && ends.counts.refused == 0, "\(ends.counts), \(load)")
        try await world.stop()
    }
}
