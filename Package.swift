// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]

func nio(_ name: String) -> Target.Dependency { .product(name: name, package: "swift-nio") }
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")

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

let package = Package(
    name: "martlet",
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    ],
    targets: [
        // Shared
        library("Shared", "Identity", []),
        library("Shared", "Wire", ["Identity", protobuf, nio("NIOCore")]),
        library("Shared", "Machinery", []),
        library("Shared", "RPC", ["Wire", "Identity", logging, nio("NIOCore")]),

        // Roles
        role(
            "Chat", "API",
            [
                crypto, nio("NIOCore"), nio("NIOPosix"), .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
            ]),

        // Tests
        tests("API", ["APIRole", "Wire", "RPC", "Identity", crypto, logging, nio("NIOCore"), nio("NIOPosix")]),
    ]
)
