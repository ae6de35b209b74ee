// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

func nio(_ name: String) -> Target.Dependency { .product(name: name, package: "swift-nio") }
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let tls: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let yaml: Target.Dependency = .product(name: "Yams", package: "Yams")

/// A library at Sources/<folder>/<name>.
func library(_ folder: String, _ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(
        name: name, dependencies: dependencies, path: "Sources/\(folder)/\(name)", exclude: ["README.md"],
        swiftSettings: settings)
}

/// A role: its module is <name>Role, so that no module shares a name with a type in it.
func role(_ group: String, _ name: String, _ more: [Target.Dependency] = []) -> Target {
    .target(
        name: "\(name)Role", dependencies: ["Identity", "Wire", "RPC", "Machinery", logging] + more,
        path: "Sources/\(group)/\(name)", exclude: ["README.md"], swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: "\(name)Tests", dependencies: dependencies, path: "Tests/\(name)", swiftSettings: settings)
}

let roles: [Target.Dependency] = [
    "LoginRole", "OnlineRole", "RouteRole", "IMRole", "UserRole", "MsgProxyRole", "MsgWriterRole", "MsgReaderRole",
    "PushProxyRole", "PushServerRole", "PushWorkerRole",
]
let shared: [Target.Dependency] = ["Identity", "Machinery", "Wire", "RPC"]

/// One executable a service. Thirteen more links would slow every build, and martlet under their names is the same
/// program, which is what `make release` does; so they exist only where somebody asks: MARTLET_EXECUTABLES=1.
let services = [
    "login", "online", "route", "im", "user", "msgproxy", "msgwriter", "msgreader", "pushproxy", "pushserver",
    "pushworker", "api", "store",
]
let executables: [Target] =
    Context.environment["MARTLET_EXECUTABLES"] != "1"
    ? []
    : services.map { name in
        .executableTarget(
            name: "martlet-\(name)", dependencies: ["MartletSuite", arguments],
            path: "Sources/Mains/martlet-\(name)", swiftSettings: settings)
    }

let package = Package(
    name: "martlet",
    products: [
        .library(name: "ServiceSDK", targets: ["ServiceSDK"]),
        .library(name: "MartletClient", targets: ["MartletClient"]),
        .executable(name: "martlet", targets: ["martlet"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Shared
        library("Shared", "Identity", [crypto]),
        library("Shared", "Wire", ["Identity", protobuf, nio("NIOCore")]),
        library("Shared", "Machinery", []),
        library("Shared", "RPC", ["Wire", "Identity", logging, nio("NIOCore")]),
        library("Shared", "Ports", ["Wire", "Identity", "Machinery", "RPC"]),
        library("Shared", "Runtime", [logging]),
        library("Shared", "ServiceSDK", ["NIOTransport", logging] + shared),

        // Roles
        role(
            "Edge", "Login",
            [nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), nio("NIOWebSocket"), tls]),
        role("Edge", "Online"),
        role("Dispatch", "Route"),
        role("Chat", "IM"),
        role("Chat", "User"),
        role(
            "Chat", "API",
            [
                crypto, nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"), tls,
            ]),
        role("Store", "MsgProxy"),
        role("Store", "MsgWriter"),
        role("Store", "MsgReader"),
        role("Push", "PushProxy"),
        role("Push", "PushServer"),
        role("Push", "PushWorker"),

        // Adapters and the C libraries behind them
        .systemLibrary(
            name: "CSQLite", path: "Sources/CLibraries/CSQLite", pkgConfig: "sqlite3",
            providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "CEpoll", path: "Sources/CLibraries/CEpoll"),
        .systemLibrary(
            name: "CHiredis", path: "Sources/CLibraries/CHiredis", providers: [.apt(["libhiredis-dev"])]),
        library(
            "Adapters", "RedisStore",
            ["Ports", "CHiredis", logging, crypto, nio("NIOCore"), nio("NIOPosix"), tls] + shared),
        .systemLibrary(
            name: "CRdKafka", path: "Sources/CLibraries/CRdKafka", pkgConfig: "rdkafka",
            providers: [.apt(["librdkafka-dev"])]),
        library("Adapters", "KafkaLog", ["Ports", "CRdKafka", logging] + shared),
        .systemLibrary(
            name: "CMariaDB", path: "Sources/CLibraries/CMariaDB", providers: [.apt(["libmariadb-dev"])]),
        library("Adapters", "MySQLStore", ["Ports", "CMariaDB", logging] + shared),
        library("Adapters", "EmbeddedStore", ["Ports", "CSQLite", logging] + shared),
        library(
            "Adapters", "NIOTransport",
            ["Wire", "RPC", "Machinery", "Identity", logging, crypto, nio("NIOCore"), nio("NIOPosix")]),

        // Clients
        .target(
            name: "MartletClient",
            dependencies: ["Wire", "Identity", "Machinery", nio("NIOCore"), nio("NIOPosix"), tls],
            path: "Sources/Clients/Swift", exclude: ["README.md"], swiftSettings: settings),

        // Examples
        .executableTarget(
            name: "martlet-echo", dependencies: ["ServiceSDK", arguments], path: "Sources/Examples/EchoService",
            exclude: ["README.md"], swiftSettings: settings),

        // Mains
        .target(
            name: "MartletSuite",
            dependencies: roles + shared + [
                "APIRole", "EmbeddedStore", "KafkaLog", "RedisStore", "MySQLStore", "NIOTransport", "Ports", "Runtime",
                logging,
                arguments,
                yaml,
                tls,
                nio("NIOTLS"),
                nio("NIOHTTP1"),
                nio("NIOCore"),
                nio("NIOPosix"),
            ],
            path: "Sources/Mains/Suite", exclude: ["Configuration/README.md", "Doctor/README.md"],
            swiftSettings: settings),
        .target(
            name: "MartletCheck",
            dependencies: ["Wire", "Identity", "Machinery", nio("NIOCore"), nio("NIOPosix"), tls, crypto, arguments],
            path: "Sources/Mains/Check", exclude: ["README.md"], swiftSettings: settings),
        .target(
            name: "MartletBench",
            dependencies: [
                "Wire", "Identity", "Machinery", "CEpoll", "MartletSuite", "MySQLStore", nio("NIOCore"), arguments,
            ],
            path: "Sources/Mains/Bench", exclude: ["README.md"], swiftSettings: settings),
        .target(
            name: "MartletTools",
            dependencies: [
                "MartletClient", "Wire", "Identity", "Machinery", crypto, nio("NIOCore"), nio("NIOPosix"),
                nio("NIOHTTP1"), tls, arguments,
            ],
            path: "Sources/Mains/Tools", exclude: ["README.md"], swiftSettings: settings),
        .target(
            name: "MartletOps",
            dependencies: [
                "MartletSuite", "EmbeddedStore", "KafkaLog", "MySQLStore", "RedisStore", "Ports", "Runtime", "Wire",
                "RPC",
                "Identity", logging, arguments, nio("NIOPosix"),
            ],
            path: "Sources/Mains/Ops", exclude: ["README.md"], swiftSettings: settings),
        .executableTarget(
            name: "martlet",
            dependencies: ["MartletSuite", "MartletOps", "MartletCheck", "MartletBench", "MartletTools", arguments],
            path: "Sources/Mains/martlet",
            swiftSettings: settings),

        // Testing
        library("Testing", "TestKit", ["Ports"] + shared),
        library("Testing", "Simulator", roles + shared + ["Ports", "TestKit", nio("NIOCore")]),

        // Tests
        tests("Architecture", []),
        tests("Wire", ["Wire", "Identity", "Machinery", nio("NIOCore")]),
        tests(
            "Edge",
            ["LoginRole"] + shared + [
                nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), nio("NIOWebSocket"), tls, logging,
            ]),
        tests("Roles", ["OnlineRole", "RouteRole", "UserRole", "MsgReaderRole", "Wire", "RPC", "Identity", protobuf]),
        tests("Contracts", ["EmbeddedStore", "KafkaLog", "CRdKafka", "TestKit", "Ports", logging] + shared),
        tests("Redis", ["RedisStore", "TestKit", "Ports", "EmbeddedStore"] + shared),
        tests(
            "RedisServer",
            [
                "RedisStore", "EmbeddedStore", "TestKit", "Ports", "OnlineRole", logging, nio("NIOCore"),
                nio("NIOPosix"),
            ] + shared),
        tests("MySQL", ["MySQLStore", "TestKit", "Ports"] + shared),
        tests(
            "MySQLServer", ["MySQLStore", "TestKit", "Ports", logging, nio("NIOCore"), nio("NIOPosix")] + shared),
        tests("Bench", ["MartletBench", "Wire", "Identity", nio("NIOCore")]),
        tests(
            "Client",
            [
                "MartletClient", "MartletTools", "Wire", "Identity", "Machinery", protobuf, nio("NIOCore"),
                nio("NIOPosix"),
            ]),
        tests("Check", ["MartletCheck", "Wire", "Identity", "Machinery", nio("NIOCore")]),
        tests("Push", ["PushProxyRole", "PushServerRole", "PushWorkerRole", logging] + shared),
        tests(
            "Transport",
            ["NIOTransport", "ServiceSDK", "RPC", "Wire", "Identity", logging, nio("NIOCore"), nio("NIOPosix")]),
        tests(
            "API",
            ["APIRole", "Machinery", "Wire", "RPC", "Identity", crypto, logging, nio("NIOCore"), nio("NIOPosix")]),
        tests("StoragePath", ["IMRole", "MsgProxyRole", "MsgWriterRole"] + shared),
        tests("Suite", ["MartletSuite", "NIOTransport", "Ports", "RPC", "Runtime", logging, nio("NIOPosix")]),
        tests("Ops", ["MartletOps", "MartletSuite", "MySQLStore", "KafkaLog", "Ports", "Wire"]),
        tests(
            "Simulation",
            [
                "Simulator", "TestKit", "EmbeddedStore", "Ports", "IMRole", "MsgProxyRole", "MsgWriterRole",
                "MsgReaderRole", "UserRole",
            ] + shared),
    ]
)
package.targets += executables
