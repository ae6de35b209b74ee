import Foundation
import Logging
import NIOCore
import NIOPosix
import RPC
import Synchronization
import Testing
import Wire

@testable import NIOTransport

@Suite(.serialized) struct ConnectionTests {
    @Test func aBrokenConnectionMakesHandedOverCallsUnknownAndLinksComeBack() async throws {
        let fabric = try await Fabric(.tcp)
        let sink = Answers()
        for id in 1...50 as ClosedRange<UInt64> { fabric.call(id, Fabric.order("silence"), sink) }
        let host = fabric.host
        #expect(await eventually { host.inspect { $0.seen.count } == 50 })
        fabric.nodes[0].dropConnections()
        let all = await sink.wait(50)
        #expect(all.values.allSatisfy { if case .unknown = $0 { true } else { false } })
        let near = fabric.near
        #expect(await eventually { near.instances(of: .online).isEmpty || near.instances(of: .online) == ["o-1"] })
        #expect(
            await eventually {
                let again = Answers()
                fabric.call(1, Fabric.order("hello"), again)
                Thread.sleep(forTimeInterval: 0.05)
                return again.all[1] == .answered(Fabric.order("hello"))
            })
        await fabric.stop()
    }

    @Test func rolesThatComeAndGoAreTold() async throws {
        let fabric = try await Fabric(.tcp)
        let list = Mutex<[(RoleName, String)]>([(.im, "im-1")])
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let directory = Directory()
        let lane = Lane.thread(name: "third")
        let host = RoleHost(Obedient(), instance: "im-1", lane: lane, directory: Directory(), logger: quiet)
        directory.add(.im, "im-1", host)
        directory.add(.user, "user-1", host)
        let third = try Node(
            directory: directory, hosted: { list.withLock { $0 } }, secret: testSecret, group: group, logger: quiet)
        third.connect(to: [PeerAddress(host: "127.0.0.1", port: fabric.port)])
        let far = fabric.far
        #expect(await eventually { far.instances(of: .im) == ["im-1"] })
        // The listener calls back over the connection that it did not open.
        let caller = RoleCaller(directory: far, lane: lane)
        #expect(await caller.call(.any(.im), Fabric.order("back")) == .answered(Fabric.order("back")))
        list.withLock { $0 = [(.user, "user-1")] }
        #expect(await eventually { far.instances(of: .im).isEmpty && far.instances(of: .user) == ["user-1"] })
        #expect(await caller.call(.any(.user), Fabric.order("new")) == .answered(Fabric.order("new")))
        await third.stop()
        #expect(await eventually { far.instances(of: .user).isEmpty })
        lane.stop()
        try await group.shutdownGracefully()
        await fabric.stop()
    }

    @Test func aPeerWithAnotherSecretGetsNothing() async throws {
        let fabric = try await Fabric(.tcp)
        let directory = Directory()
        let stranger = try Node(
            directory: directory, hosted: { [(.im, "evil")] }, secret: "not the secret of the cluster", logger: quiet)
        stranger.connect(to: [PeerAddress(host: "127.0.0.1", port: fabric.port)])
        try await Task.sleep(for: .milliseconds(400))
        #expect(directory.instances(of: .online).isEmpty && fabric.far.instances(of: .im).isEmpty)
        #expect(stranger.peers.isEmpty)
        await stranger.stop()
        #expect(throws: NodeError.shortSecret) {
            try Node(directory: directory, hosted: { [] }, secret: "short", logger: quiet)
        }
        await fabric.stop()
    }

    @Test func aNodeDoesNotConnectToItself() async throws {
        let fabric = try await Fabric(.tcp)
        fabric.nodes[0].connect(to: [PeerAddress(host: "127.0.0.1", port: fabric.port)])
        try await Task.sleep(for: .milliseconds(300))
        #expect(fabric.nodes[0].peers.count == 1)
        await fabric.stop()
    }

    /// Giant lengths, unknown types, half frames, frames before the handshake: cut, and nobody else notices.
    @Test func malformedPeersAreCut() async throws {
        var config = TransportConfig()
        config.handshakeTimeoutMS = 300
        let fabric = try await Fabric(.tcp, config: config)
        var call = ByteBuffer()
        PeerFrame.call(id: 1, number: 1, remainingMS: 9, kind: 15, body: ByteBuffer()).encode(into: &call)
        let inputs: [[UInt8]] = [
            [0xff, 0xff, 0xff, 0xff, 1], [0, 0, 0, 0], [0, 0, 0, 1, 99], [0, 0, 0, 2, 1, 7], [0, 0], [],
            Array(call.readableBytesView),
        ]
        for input in inputs { #expect(try await Raw.isCut(port: fabric.port, after: input)) }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<50 {
            let noise = (0..<Int.random(in: 5...200)).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(try await Raw.isCut(port: fabric.port, after: noise))
        }
        let sink = Answers()
        fabric.call(1, Fabric.order("still here"), sink)
        #expect(await sink.wait(1)[1] == .answered(Fabric.order("still here")))
        await fabric.stop()
    }

    @Test func aDeadPeerIsFoundByItsSilence() async throws {
        var config = TransportConfig()
        config.pingEveryMS = 100
        config.silentLimitMS = 400
        let fabric = try await Fabric(.tcp, config: config)
        // Pings keep an idle connection: it outlives the limit several times.
        try await Task.sleep(for: .milliseconds(1200))
        #expect(fabric.nodes[1].peers.count == 1)
        let silent = try await StoppedReader.start()
        fabric.nodes[1].connect(to: [PeerAddress(host: "127.0.0.1", port: silent.port)])
        let near = fabric.near
        #expect(await eventually { near.instances(of: .im) == ["stopped"] })
        let since = SystemClock.now().micros
        #expect(await eventually { near.instances(of: .im).isEmpty })
        #expect(SystemClock.now().micros - since < 3_000_000)
        await silent.stop()
        await fabric.stop()
    }

    /// The reader authenticates and then never reads again. The queue stops at its limit, callers get `overloaded`,
    /// and when the connection ends every call has exactly one of the two right ends.
    @Test func aStoppedReaderCostsNoMoreThanTheLimit() async throws {
        var config = TransportConfig()
        config.outboundLimitBytes = 4 << 20
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let near = Directory()
        let node = try Node(
            directory: near, hosted: { [] }, secret: testSecret, group: group, config: config, logger: quiet)
        let reader = try await StoppedReader.start()
        node.connect(to: [PeerAddress(host: "127.0.0.1", port: reader.port)])
        #expect(await eventually { near.instances(of: .im) == ["stopped"] })
        let target = try #require(near.resolve(.any(.im), near: nil))
        var body = LookupRequest()
        var user = UserKey()
        user.userID = String(repeating: "x", count: 8000)
        body.users = [user]
        let sink = Answers()
        var taken = 0
        var overloaded = 0
        for id in 1...20_000 as ClosedRange<UInt64> {
            let deadline = SystemClock.now().micros + 60_000_000
            let call = IncomingCall(id: id, origin: sink, payload: .lookupRequest(body), deadline: deadline)
            if let failure = target.accept(call) {
                #expect(failure.isCode(.overloaded))
                overloaded += 1
                if overloaded > 5000 { break }
                if overloaded % 50 == 0 { try await Task.sleep(for: .milliseconds(1)) }
            } else {
                taken += 1
            }
        }
        let peer = try #require(node.peers.first)
        #expect(overloaded > 1000 && taken > 400)
        #expect(peer.peakQueuedBytes <= config.outboundLimitBytes + 16_384)
        #expect(peer.queuedBytes > config.outboundLimitBytes / 2)
        await reader.stop()
        let all = await sink.wait(taken)
        #expect(all.count == taken)
        let refused = all.values.count { if case .refused = $0 { true } else { false } }
        let unknown = all.values.count { if case .unknown = $0 { true } else { false } }
        #expect(refused + unknown == taken && refused > 0 && unknown > 0)
        await node.stop()
        try await group.shutdownGracefully()
    }

    @Test func callsInFlightAreLimited() async throws {
        var config = TransportConfig()
        config.maxInFlight = 10
        let fabric = try await Fabric(.tcp, config: config)
        let sink = Answers()
        for id in 1...11 as ClosedRange<UInt64> { fabric.call(id, Fabric.order("silence"), sink) }
        guard case .refused(let failure)? = await sink.wait(1)[11] else {
            Issue.record("the eleventh was taken")
            return
        }
        #expect(failure.isCode(.overloaded))
        await fabric.stop()
    }

    @Test func expiredCallsFreeTheirPlaceAndAreCancelled() async throws {
        var config = TransportConfig()
        config.maxInFlight = 10
        let fabric = try await Fabric(.tcp, config: config)
        let sink = Answers()
        for id in 1...10 as ClosedRange<UInt64> { fabric.call(id, Fabric.order("silence"), sink, timeoutMS: 100) }
        let all = await sink.wait(10)
        let late = all.values.count { result in
            if case .unknown(let why) = result { why.isCode(.deadlineExceeded) } else { false }
        }
        #expect(late == 10)
        let again = Answers()
        fabric.call(1, Fabric.order("hello"), again)
        #expect(await again.wait(1)[1] == .answered(Fabric.order("hello")))
        await fabric.stop()
    }
}
