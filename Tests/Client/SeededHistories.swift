import Machinery
import Testing
import Wire

@testable import MartletClient

/// Three client machines and the fake service on one thread, from one seed: unknown outcomes, refusals, lost pushes,
/// failing pages and broken connections. At the end everybody has shown everything once, in one order, and nothing is
/// pending.
@Suite struct SeededHistories {
    struct Device {
        var machine: ClientMachine
        var session: Int?
        var connectWanted = false
        var shown: [String: [ShownMessage]] = [:]
        var accepted: [UInt64] = []
        var failed: [UInt64] = []
    }

    struct World {
        var service: FakeService
        var random: SeededRandom
        var devices: [Device] = []
        var nowMS: UInt64 = 10_000
        var nextSession = 0
        var sent: [Int: [UInt64]] = [:]
        var log: [String] = []

        init(seed: UInt64) {
            random = SeededRandom(seed: seed)
            service = FakeService(
                seed: seed &+ 1, faults: .init(refused: 0.05, unknown: 0.05, lostPush: 0.1, failedPage: 0.2))
            let who = [("alice", "a1"), ("alice", "a2"), ("bob", "b1")]
            for (index, (user, device)) in who.enumerated() {
                let config = ClientConfig(token: "user:" + user, deviceID: device)
                devices.append(Device(machine: ClientMachine(config: config, seed: seed &* 31 &+ UInt64(index))))
            }
        }

        mutating func tell(_ index: Int, _ event: ClientEvent) {
            for action in devices[index].machine.on(event, nowMS: nowMS) {
                switch action {
                case .connect: devices[index].connectWanted = true
                case .close: hangUp(index)
                case .write(let frames):
                    for frame in frames {
                        log.append("\(nowMS) \(index) > \(frame)")
                        if let session = devices[index].session { service.received(frame, from: session) }
                    }
                case .notify(.message(let message)):
                    devices[index].shown[message.conversation, default: []].append(message)
                case .notify(.accepted(let handle)): devices[index].accepted.append(handle)
                case .notify(.failed(let handle, _)): devices[index].failed.append(handle)
                case .notify: break
                }
            }
        }

        mutating func hangUp(_ index: Int) {
            if let session = devices[index].session { service.close(session) }
            devices[index].session = nil
        }

        mutating func step(_ ms: UInt64) {
            nowMS += ms
            service.nowMS += ms
            if random.chance(0.3) { service.repeatUnacked() }
            for index in devices.indices where devices[index].connectWanted && devices[index].session == nil {
                nextSession += 1
                devices[index].session = nextSession
                devices[index].connectWanted = false
                service.open(nextSession)
                tell(index, .connected)
            }
            for index in devices.indices { tell(index, .flush) }
            let out = service.out
            service.out = []
            for (session, frame) in out {
                guard let index = devices.firstIndex(where: { $0.session == session }) else { continue }
                tell(index, .received(frame))
            }
            for index in devices.indices { tell(index, .flush) }
            for session in service.closing {
                guard let index = devices.firstIndex(where: { $0.session == session }) else { continue }
                hangUp(index)
                tell(index, .disconnected("closed"))
            }
            service.closing = []
        }

        mutating func run(steps: Int) {
            for index in devices.indices { tell(index, .start) }
            var handle: UInt64 = 0
            for _ in 0..<steps {
                let index = Int.random(in: 0..<devices.count, using: &random)
                if random.chance(0.4) {
                    for _ in 0..<Int.random(in: 1...5, using: &random) {
                        handle += 1
                        sent[index, default: []].append(handle)
                        let content = Array("\(index) \(handle)".utf8)
                        tell(
                            index, .send(OutgoingMessage(handle: handle, conversation: "p:alice|bob", content: content))
                        )
                    }
                }
                if random.chance(0.02) {
                    hangUp(index)
                    tell(index, .disconnected("cable"))
                }
                step(UInt64.random(in: 1...60, using: &random))
            }
            service.faults = .init()
            for _ in 0..<400 { step(75) }
        }
    }

    @Test(arguments: 0..<40) func everythingOnceInOneOrder(seed: Int) throws {
        var world = World(seed: UInt64(seed))
        world.run(steps: 150)
        let rows = world.service.rows["p:alice|bob"] ?? []
        let everything = try rows.map {
            String(decoding: try ChatMessage(serializedBytes: Array($0.message)).content, as: UTF8.self)
        }
        #expect(Set(everything).count == everything.count, "stored twice")
        #expect(everything.count == world.sent.values.reduce(0) { $0 + $1.count })
        for (index, device) in world.devices.enumerated() {
            let shown = device.shown["p:alice|bob"] ?? []
            #expect(shown.map(\.seq) == Array(1...UInt64(rows.count)), "device \(index)")
            #expect(shown.map { String(decoding: $0.message.content, as: UTF8.self) } == everything)
            let sent = world.sent[index] ?? []
            #expect(device.accepted.sorted() == sent, "accepted is said once each")
            #expect(device.failed.isEmpty)
            #expect(shown.compactMap(\.handle) == sent, "own messages in the order sent, each with its handle")
        }
    }

    @Test func theSameSeedIsTheSameHistory() {
        func history() -> [String] {
            var world = World(seed: 99)
            world.run(steps: 80)
            return world.log
        }
        let first = history()
        #expect(first.count > 100)
        #expect(first == history())
    }
}
