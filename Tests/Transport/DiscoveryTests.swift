import NIOPosix
import RPC
import Synchronization
import Testing
import Wire

@testable import NIOTransport

/// Names that have addresses, which come and go.
@Suite struct DiscoveryTests {
    private let login = PeerAddress(host: "login", port: 7790)

    private func at(_ host: String, _ port: Int = 7790) -> PeerAddress { PeerAddress(host: host, port: port) }

    /// A name, its answer, and what follows; times in milliseconds.
    private func expect(
        _ machine: inout DiscoveryMachine, at ms: UInt64, _ name: PeerAddress, _ answer: DiscoveryMachine.Answer,
        _ actions: [DiscoveryMachine.Action], next: UInt64, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(machine.due(ms * 1000).contains(name), sourceLocation: sourceLocation)
        #expect(machine.answered(name, answer, now: ms * 1000) == actions, sourceLocation: sourceLocation)
        #expect(machine.nextMicros == next * 1000, sourceLocation: sourceLocation)
    }

    @Test func replicasComeAndGo() {
        var machine = DiscoveryMachine([login])
        #expect(machine.nextMicros == 0)
        expect(&machine, at: 0, login, .addresses(["10.0.0.1"]), [.connect(at("10.0.0.1"))], next: 3000)
        #expect(machine.due(2_999_000).isEmpty)
        expect(
            &machine, at: 3000, login, .addresses(["10.0.0.2", "10.0.0.1", "10.0.0.3"]),
            [.connect(at("10.0.0.2")), .connect(at("10.0.0.3"))], next: 6000)
        // Gone in three answers in a row, and no sooner.
        let two: DiscoveryMachine.Answer = .addresses(["10.0.0.2", "10.0.0.3"])
        expect(&machine, at: 6000, login, two, [], next: 9000)
        expect(&machine, at: 9000, login, .addresses(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), [], next: 12000)
        expect(&machine, at: 12000, login, two, [], next: 15000)
        expect(&machine, at: 15000, login, two, [], next: 18000)
        expect(&machine, at: 18000, login, two, [.letGo(at("10.0.0.1"))], next: 21000)
        expect(&machine, at: 21000, login, .addresses(["10.0.0.1"]), [.connect(at("10.0.0.1"))], next: 24000)
    }

    @Test func aResolverThatFailsTakesNothingAway() {
        var machine = DiscoveryMachine([login])
        expect(&machine, at: 0, login, .failed, [], next: 1000)
        expect(&machine, at: 1000, login, .addresses(["10.0.0.1"]), [.connect(at("10.0.0.1"))], next: 4000)
        for round in 0..<5 as Range<UInt64> {
            expect(&machine, at: 4000 + round * 1000, login, .failed, [], next: 5000 + round * 1000)
        }
        // Nobody is there: the same as other addresses.
        for round in 0..<2 as Range<UInt64> {
            expect(&machine, at: 9000 + round * 3000, login, .addresses([]), [], next: 12000 + round * 3000)
        }
        expect(&machine, at: 15000, login, .addresses([]), [.letGo(at("10.0.0.1"))], next: 18000)
    }

    @Test func severalNamesMayMeanOneProcess() {
        let (push, other) = (PeerAddress(host: "push", port: 7790), PeerAddress(host: "push", port: 7791))
        var config = DiscoveryConfig()
        config.missesToLetGo = 1
        config.maxAddresses = 2
        var machine = DiscoveryMachine([login, push, login, other], config: config)
        #expect(machine.due(0) == [login, push, other])
        #expect(machine.due(0).isEmpty && machine.nextMicros == nil)
        #expect(machine.answered(login, .addresses(["a"]), now: 0) == [.connect(at("a"))])
        #expect(machine.answered(push, .addresses(["a"]), now: 0) == [])
        #expect(machine.answered(other, .addresses(["a"]), now: 0) == [.connect(at("a", 7791))])
        // An answer that nobody asked for.
        #expect(machine.answered(login, .addresses([]), now: 0) == [])
        #expect(machine.due(3_000_000) == [login, push, other])
        #expect(machine.answered(login, .addresses([]), now: 3_000_000) == [])
        #expect(machine.answered(push, .addresses([]), now: 3_000_000) == [.letGo(at("a"))])
        let many = machine.answered(other, .addresses(["a", "b", "c"]), now: 3_000_000)
        #expect(many == [.connect(at("b", 7791))])
    }

    /// What the tests say instead of DNS.
    private final class Book: PeerResolver {
        let answers = Mutex<[String]>([])

        func addresses(of host: String) throws -> [String] {
            guard host == "service.test" else { throw SystemResolver.Trouble(description: "no such book") }
            return answers.withLock { $0 }
        }
    }

    @Test func aNameWithTwoAddressesIsTwoInstances() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let lane = Lane.thread(name: "discovery-test")
        let instances = ["127.0.0.1", "127.0.0.2"]
        var nodes: [Node] = []
        var port = 0
        for (index, host) in instances.enumerated() {
            let directory = Directory()
            let role = RoleHost(
                Obedient(), instance: "o-\(index)", lane: lane, directory: directory, logger: quiet)
            role.start()
            let node = try Node(
                directory: directory, hosted: { [(.online, "o-\(index)")] }, secret: testSecret, group: group,
                logger: quiet)
            port = try await node.listen(host: host, port: port)
            nodes.append(node)
        }
        let (book, directory) = (Book(), Directory())
        let node = try Node(
            directory: directory, hosted: { [] }, secret: testSecret, group: group, logger: quiet)
        var config = DiscoveryConfig()
        config.everyMS = 50
        config.retryMS = 20
        let names = ["service.test", "absent.test"].map { PeerAddress(host: $0, port: port) }
        node.discover(names, config: config, resolver: book)
        book.answers.withLock { $0 = [instances[0]] }
        #expect(await eventually { directory.instances(of: .online) == ["o-0"] })
        book.answers.withLock { $0 = instances }
        #expect(await eventually { directory.instances(of: .online) == ["o-0", "o-1"] })
        // Gone from the book: what is connected stays, and nobody goes there again once it has ended.
        book.answers.withLock { $0 = [instances[1]] }
        #expect(await eventually { !node.links.contains(PeerAddress(host: instances[0], port: port)) })
        #expect(directory.instances(of: .online) == ["o-0", "o-1"])
        node.dropConnections()
        #expect(await eventually { directory.instances(of: .online) == ["o-1"] })
        book.answers.withLock { $0 = instances }
        #expect(await eventually { directory.instances(of: .online) == ["o-0", "o-1"] })
        await node.stop()
        for node in nodes { await node.stop() }
        lane.stop()
        try await group.shutdownGracefully()
    }

    @Test func theSystemKnowsAddresses() throws {
        #expect(try SystemResolver().addresses(of: "127.0.0.9") == ["127.0.0.9"])
        #expect(try SystemResolver().addresses(of: "::1") == ["::1"])
        #expect(try !SystemResolver().addresses(of: "localhost").isEmpty)
    }
}
