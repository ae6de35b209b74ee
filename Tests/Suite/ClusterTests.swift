import Foundation
import NIOPosix
import NIOTransport
import RPC
import Runtime
import Testing

@testable import MartletSuite

/// Services as processes of a cluster: who is who, who finds whom, and what they say of themselves.
@Suite struct ClusterTests {
    /// A folder with secrets, and the sample cluster's configuration over it.
    private func cluster(
        _ more: [String: String] = [:], _ body: (Configuration, URL) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data("0123456789abcdef\nand more\n".utf8).write(to: folder.appendingPathComponent("secret"))
        try Data("the admin key".utf8).write(to: folder.appendingPathComponent("admin"))
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = try String(
            contentsOf: root.appendingPathComponent("Deploy/config/martlet.cluster.yaml"), encoding: .utf8)
        let variables = [
            "MARTLET_CLUSTER__SECRET_FILE": folder.path + "/secret",
            "MARTLET_CLUSTER__ADMIN_KEY_FILE": folder.path + "/admin", "MARTLET_SUITE__DATA": folder.path + "/data",
        ]
        try await body(
            try Configuration(text: text, file: "c.yaml", variables.merging(more) { $1 }), folder)
    }

    @Test func replicasAreNamedAfterTheirHosts() async throws {
        try await cluster { configuration, _ in
            let settings = ClusterSettings(configuration)
            let login = try settings.identity("login", host: "a1b2")
            #expect(login.role == "login" && login.name == "login-a1b2")
            let writer = try settings.identity("msgwriter-2", host: "a1b2")
            #expect(writer.role == "msgwriter" && writer.name == "msgwriter-2")
            #expect(throws: StartError.self) { try settings.identity("logon", host: "a") }
        }
        try await cluster(["MARTLET_CLUSTER__NAME": "7"]) { configuration, _ in
            let im = try ClusterSettings(configuration).identity("im", host: "a")
            #expect(im.name == "im-7")
        }
    }

    @Test func aServiceKnowsWhomItCalls() async throws {
        try await cluster { configuration, folder in
            let im = try ServiceSetup(configuration, "im-1")
            #expect(im.names.map(\.host) == ["route", "user", "msgproxy", "msgreader", "pushproxy"])
            #expect(im.names.allSatisfy { $0.port == 7790 } && im.peers.isEmpty)
            #expect(im.listenHost == "0.0.0.0" && im.port == 7790 && im.healthPort == 7791 && im.readyFile == nil)
            #expect(im.access.clusterSecret == "0123456789abcdef" && im.access.adminKey == "the admin key")
            // Everything is real, so there is no store to be found, and no data folder.
            for (role, _) in Topology.plan where role != Topology.store {
                let setup = try ServiceSetup(configuration, role)
                #expect(setup.names.count == Topology.needs[role]?.filter { $0 != Topology.store }.count)
            }
            #expect(!FileManager.default.fileExists(atPath: folder.path + "/data"))
        }
    }

    @Test func theDemoAppIsTheAPIsAndOnlyOnDemand() async throws {
        try await cluster(["MARTLET_DEMO__APP": "true"]) { configuration, folder in
            let login = try ServiceSetup(configuration, "login")
            #expect(login.access.users.isEmpty)
            #expect(!FileManager.default.fileExists(atPath: folder.path + "/data"))
            let api = try ServiceSetup(configuration, "api")
            #expect(api.access.users.count == 4 && api.access.app == "demo")
            #expect(api.access.clusterSecret == "0123456789abcdef" && api.access.adminKey == "the admin key")
        }
    }

    @Test func whatAClusterNeedsIsTold() {
        func mistakes(_ text: String) -> [String] {
            do {
                _ = try Configuration(text: text, file: "c.yaml")
                return []
            } catch { return error.problems.map(\.description) }
        }
        let none = mistakes("cluster:\n  services:\n    route: route:7790\n")
        let wanted = ["store", "msgproxy", "pushproxy", "msgreader", "user", "online", "pushworker"]
        for role in wanted {
            #expect(none.contains { $0.hasPrefix("c.yaml:3: cluster.services.\(role): this is missing") }, "\(role)")
        }
        #expect(none.contains { $0.contains("cluster.secret-file: this is missing") })
        #expect(none.contains { $0.contains("cluster.admin-key-file: this is missing") })
        #expect(none.count == wanted.count + 2)
        let odd = mistakes("cluster:\n  services: {rout: a:1, im: a}\n")
        #expect(odd.contains { $0.contains("Did you mean route?") } && odd.contains { $0.contains("no address: a") })
        let short = mistakes(
            "cluster:\n  port: 7791\n  secret: short\n  admin-key: x\n  services: {"
                + wanted.map { "\($0): a:1" }.joined(separator: ", ") + ", route: a:1}\n")
        #expect(short.count == 2 && short.contains { $0.contains("less than 16 bytes") }, "\(short)")
        #expect(short.contains { $0.contains("are both 7791") })
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID().uuidString).yaml")
        #expect(FileManager.default.createFile(atPath: file.path, contents: Data("suite:\n".utf8)))
        defer { try? FileManager.default.removeItem(at: file) }
        #expect(throws: StartError.self) {
            try ServiceSetup(try Configuration.load(file: file.path, environment: [:]), "im")
        }
    }

    @Test func whoNeedsWhatIsWhoHasIt() {
        // Every role that needs the store reaches its stores by itself when there is no store, and nobody else does.
        for (role, _) in Topology.plan {
            let asks = Topology.needs[role]?.contains(Topology.store) == true
            #expect((OwnStores.uses[role] != nil) == asks, "\(role)")
        }
    }

    @Test func healthIsAskedOverHTTP() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let directory = Directory()
        let health = ServiceHealth(name: "im-1", needs: [.route, .user], directory: directory)
        let (port, socket) = try #require(PortProbe.free())
        close(socket)
        let server = try await HealthPort.start(health, group: group, host: "127.0.0.1", port: port)
        func ask() -> (isReady: Bool, words: String) { HealthCommand.ask("127.0.0.1", port, isTLS: false) }
        #expect(!ask().isReady && ask().words.contains(#""missing":["route","user"]"#), "\(ask())")
        let lane = Lane(name: "health", loop: group.next())
        for role in [RoleName.route, .user] {
            directory.add(
                role, "r",
                RoleHost(Nobody(), instance: "r", lane: lane, directory: Directory(), logger: .init(label: "")))
        }
        #expect(ask().isReady && ask().words.contains(#""ready":true"#), "\(ask())")
        health.drain()
        #expect(!ask().isReady && ask().words.contains(#""draining":true"#), "\(ask())")
        await server.stop()
        #expect(ask().words.contains("nobody listens"))
        try await group.shutdownGracefully()
    }

    /// Answers nothing.
    private struct Nobody: RoleMachine {
        static let role = RoleName.route
        mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] { [] }
    }
}
