import Foundation
import Testing

@testable import MartletSuite

/// What `martlet up` and the units of Deploy are told.
@Suite struct SettingsTests {
    @Test(arguments: ["127.0.0.1", "127.8.9.1", "::1", "localhost"]) func onlyThisMachine(_ host: String) {
        #expect(DemoRule.isLoopback(host))
        #expect(DemoRule.isOn(host: host, wanted: nil))
        #expect(!DemoRule.isOn(host: host, wanted: false))
    }

    @Test(arguments: ["0.0.0.0", "::", "192.168.0.127", "10.0.0.1", "::2", "chat.example", "127.0.0.1.example", ""])
    func otherMachinesToo(_ host: String) {
        #expect(!DemoRule.isLoopback(host))
        #expect(!DemoRule.isOn(host: host, wanted: nil))
        #expect(DemoRule.isOn(host: host, wanted: true))
    }

    @Test func demoLoginIsAskedForOrNot() throws {
        #expect(try UpCommand.parse([]).demoLogin == nil)
        #expect(try UpCommand.parse(["--demo-login"]).demoLogin == true)
        #expect(try UpCommand.parse(["--no-demo-login"]).demoLogin == false)
    }

    @Test func programsAreNamedAfterServices() {
        for (role, _) in Topology.plan { #expect(NamedService.role(of: "/usr/lib/martlet/martlet-\(role)") == role) }
        #expect(NamedService.role(of: "martlet-im") == "im")
        for other in ["martlet", "./martlet", "martlet-", "martlet-echo", "/martlet-im/martlet", ""] {
            #expect(NamedService.role(of: other) == nil)
        }
    }

    /// Every process reads what the supervisor was told out of the topology.
    @Test func theTopologyKeepsWhereTheStoresAre() throws {
        let options = [
            "--log", "kafka://a:1?development=true", "--presence", "redis://b:2", "--hot", "redis://c:3",
            "--recent", "mysql://u:p@d:4/one", "--relational", "mysql://u:p@e:5/two",
        ]
        let settings = try BackendOptions.parse(options).settings()
        #expect(settings.isAllReal)
        let data = try JSONEncoder().encode(Topology(services: [], settings: settings))
        let kept = try JSONDecoder().decode(Topology.self, from: data).settings
        #expect(kept.isAllReal && kept.log == settings.log)
        #expect(kept.redis == settings.redis && kept.mysql == settings.mysql)
        #expect(kept.mysql.recent?.url == "mysql://u:p@d:4/one" && kept.redis.hot?.url == "redis://c:3")
    }

    @Test func servicesAreCounted() throws {
        let up = try UpCommand.parse(["--processes", "--count", "msgwriter=4", "--count", "im=2"])
        #expect(up.count.map(\.role) == ["msgwriter", "im"] && up.count.map(\.number) == [4, 2])
        let plan = Topology.plan(counts: ["msgwriter": 4])
        #expect(plan.first { $0.role == "msgwriter" }?.count == 4)
        #expect(plan.filter { $0.role != "msgwriter" }.allSatisfy { $0.count == 1 })
        #expect(plan.map(\.role) == Topology.plan.map(\.role))
        for wrong in ["store=2", "api=2", "login=2", "nobody=2", "im", "im=", "im=0", "im=9", "im=x", "im=2=2"] {
            #expect(ServiceCount(argument: wrong) == nil, "\(wrong)")
        }
        #expect(throws: (any Error).self) { try UpCommand.parse(["--count", "im=2"]) }
    }

    /// Deploy/config/topology.json: every service that `martlet up --processes` starts, each on a port of its own.
    @Test func theSampleTopologyIsWhole() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Deploy/config/topology.json")
        let sample = try Topology.read(file.path)
        let wanted = Topology.plan.flatMap { role, count in (1...count).map { "\(role)-\($0)" } }
        #expect(sample.services.map(\.name) == wanted)
        #expect(sample.services.allSatisfy { $0.name.hasPrefix($0.role + "-") })
        let ports = sample.services.map(\.port) + [sample.httpPort, sample.webSocketPort, sample.tcpPort]
        #expect(Set(ports).count == ports.count)
        #expect(!sample.demoLogin && DemoRule.isLoopback(sample.host) && sample.fault == nil)
    }

    @Test func theSecretFileIsMadeAgain() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let first = try DemoAccess.load(folder: folder.path)
        #expect(first.keyID.hasPrefix("demo."))
        #expect(try DemoAccess.load(folder: folder.path) == first)
        let secret = folder.appendingPathComponent("cluster.secret")
        try FileManager.default.removeItem(at: secret)
        #expect(try DemoAccess.load(folder: folder.path) == first)
        #expect(try String(contentsOf: secret, encoding: .utf8) == first.clusterSecret)
        #expect(
            Set(try FileManager.default.contentsOfDirectory(atPath: folder.path)) == ["demo.json", "cluster.secret"])
    }
}
