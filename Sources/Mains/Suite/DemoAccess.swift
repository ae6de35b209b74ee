import Foundation
import Runtime

/// The demo app of a data folder: made at the first start with fresh secrets, kept in `demo.json` (mode 0600), read by
/// `martlet chat`, `check` and `bench` so that a newcomer types nothing.
public struct DemoAccess: Codable, Equatable, Sendable {
    public var app: String
    public var keyID: String
    public var secret: Data
    /// Demo user -> password.
    public var users: [String: String]
    /// Key for the API's administrative calls.
    public var adminKey: String
    /// What processes of one suite prove to each other.
    public var clusterSecret: String

    enum CodingKeys: String, CodingKey {
        case app, secret, users
        case keyID = "key_id"
        case adminKey = "admin_key"
        case clusterSecret = "cluster_secret"
    }

    static let names = ["alice", "bob", "carol", "dave"]

    /// Reads the folder's access file, or makes it.
    ///
    /// - Throws: `StartError` when the file is damaged or cannot be written.
    public static func load(folder: String) throws -> DemoAccess {
        let path = folder + "/demo.json"
        // An empty file is what a power cut leaves of one that was never synced.
        if let data = FileManager.default.contents(atPath: path), !data.isEmpty {
            guard let access = try? JSONDecoder().decode(DemoAccess.self, from: data) else {
                throw StartError(
                    "\(path) is damaged", cure: "Restore it, or delete it to get new demo passwords and keys")
            }
            return access
        }
        let access = make()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let data = try encoder.encode(access)
        // The same secret alone, for services that connect with `--secret-file`.
        for (name, bytes) in [("cluster.secret", Data(access.clusterSecret.utf8)), ("demo.json", data)] {
            if let problem = DurableFile.write(bytes, to: "\(folder)/\(name)", mode: 0o600) {
                throw StartError(
                    "cannot write \(folder)/\(name): \(problem)", cure: "Make the folder writable and free some space")
            }
        }
        return access
    }

    static func make() -> DemoAccess {
        var random = SystemRandomNumberGenerator()
        func bytes(_ count: Int) -> Data { Data((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }) }
        func word(_ length: Int) -> String {
            let letters = Array("abcdefghijkmnpqrstuvwxyz23456789")
            return String((0..<length).map { _ in letters[Int.random(in: 0..<letters.count, using: &random)] })
        }
        var users: [String: String] = [:]
        for name in names { users[name] = word(4) + "-" + word(4) }
        return DemoAccess(
            app: "demo", keyID: "k-" + word(8), secret: bytes(32), users: users, adminKey: word(32),
            clusterSecret: word(48))
    }
}
