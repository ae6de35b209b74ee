import Foundation
import Testing

/// Who may import whom. The folders are the layers; an arrow that is not listed is a mistake.
@Suite struct ArrowTests {
    static let shared: Set = ["Identity", "Wire", "RPC", "Machinery", "Ports", "Runtime"]
    static let system: Set = [
        "Swift", "FoundationEssentials", "Foundation", "Synchronization", "Dispatch", "Glibc", "Logging", "Testing",
    ]
    static let roleGroups = ["Edge", "Dispatch", "Chat", "Store", "Push"]

    @Test func rolesImportSharedOnly() {
        let files = Self.roleGroups.flatMap { Repository.swiftFiles(under: "Sources/\($0)") }
        #expect(files.count > 12, "the roles were not found")
        for file in files {
            var allowed = Self.shared.union(Self.system)
            if file.path.contains("/API/") {
                allowed.formUnion([
                    "Hummingbird", "HummingbirdCore", "HummingbirdTLS", "HTTPTypes", "NIOCore", "NIOSSL", "Crypto",
                    "ServiceLifecycle", "NIOPosix", "NIOHTTP1",
                ])
            }
            if file.path.contains("/Login/") {
                allowed.formUnion([
                    "NIOCore", "NIOPosix", "NIOHTTP1", "NIOWebSocket", "NIOSSL", "Crypto", "SwiftProtobuf",
                ])
            }
            if file.path.contains("/MsgWriter/") { allowed.insert("Crypto") }
            expectImports(of: file, within: allowed)
        }
    }

    @Test func sharedImportsNoRoleAndNoAdapter() {
        for file in Repository.swiftFiles(under: "Sources/Shared") {
            var allowed = Self.shared.union(Self.system)
            allowed.formUnion(["NIOCore", "SwiftProtobuf", "Crypto"])
            if file.path.contains("/ServiceSDK/") { allowed.formUnion(["NIOTransport", "NIOPosix"]) }
            expectImports(of: file, within: allowed)
        }
    }

    @Test func onlyAdaptersImportC() {
        let c = ["CSQLite", "CRdKafka", "CHiredis", "CMariaDB"]
        for file in Repository.swiftFiles(under: "Sources") where !file.path.hasPrefix("Sources/Adapters/") {
            for name in file.imports where c.contains(name) {
                Issue.record("\(file.path) imports \(name): only Sources/Adapters may")
            }
        }
    }

    /// One adapter a C library, which keeps it to itself.
    @Test func everyCLibraryHasOneDoor() {
        let doors = [
            "CSQLite": "EmbeddedStore", "CHiredis": "RedisStore", "CRdKafka": "KafkaLog", "CMariaDB": "MySQLStore",
        ]
        for (library, adapter) in doors {
            let users = Repository.swiftFiles(under: "Sources/Adapters").filter { $0.imports.contains(library) }
            #expect(!users.isEmpty, "nobody imports \(library)")
            for file in users {
                #expect(file.path.hasPrefix("Sources/Adapters/\(adapter)/"), "\(file.path) imports \(library)")
                #expect(file.lines.contains("internal import \(library)"), "\(file.path) shows \(library) to others")
            }
        }
    }

    @Test func examplesImportTheSDKOnly() {
        for file in Repository.swiftFiles(under: "Sources/Examples") {
            expectImports(of: file, within: Self.system.union(["ServiceSDK", "ArgumentParser"]))
        }
    }

    @Test func everyModuleSaysWhatItIs() {
        let groups = Self.roleGroups + ["Shared", "Adapters", "Clients", "Testing"]
        for group in groups {
            let folder = Repository.root.appendingPathComponent("Sources/\(group)")
            for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] {
                #expect(
                    !Repository.text("Sources/\(group)/\(name)/README.md").isEmpty,
                    "Sources/\(group)/\(name) has no README.md")
            }
        }
    }

    @Test func routeNamesNoService() {
        for file in Repository.swiftFiles(under: "Sources/Dispatch/Route") {
            for (index, line) in file.lines.enumerated() where line.contains("WellKnownService.") {
                // The border between Martlet's own ids and an app's is a rule of numbers, not the name of a service.
                if line.contains("WellKnownService.firstOfApps") || line.contains("WellKnownService.last") { continue }
                Issue.record("\(file.path):\(index + 1) knows a service by name")
            }
        }
    }

    @Test func everyServiceHasAnExecutableAndItsMainIsEmpty() throws {
        // The supervisor's plan is the list of services; entries look like ("login", 1), or (store, 1) for a constant.
        let text = Repository.text("Sources/Mains/Suite/Topology.swift")
        let plan = try #require(text.range(of: "let plan:")).lowerBound
        let entries = text[plan...].prefix { $0 != "}" }.matches(of: /\("?([a-z]+)"?, \d\)/).map { String($0.1) }
        let mains = Repository.swiftFiles(under: "Sources/Mains").filter { $0.path.contains("/martlet-") }
        #expect(mains.map(\.path) == entries.sorted().map { "Sources/Mains/martlet-\($0)/Main.swift" })
        let package = Repository.text("Package.swift")
        for (service, main) in zip(entries.sorted(), mains) {
            #expect(main.lines.count <= 12, "\(main.path) is more than a shell")
            #expect(main.lines.contains("    static let role = \"\(service)\""), "\(main.path) is another service")
            #expect(package.contains("\"\(service)\","), "Package.swift does not build martlet-\(service)")
        }
    }

    private func expectImports(of file: Repository.SourceFile, within allowed: Set<String>) {
        for name in file.imports where !allowed.contains(name) {
            Issue.record("\(file.path) imports \(name), which its layer may not")
        }
    }
}
