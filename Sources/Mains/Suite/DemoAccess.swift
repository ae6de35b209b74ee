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
        let access = try read(folder) ?? provide(folder)
        // The same secret alone, for services that connect with `--secret-file`.
        let file = folder + "/cluster.secret"
        let secret = Data(access.clusterSecret.utf8)
        if FileManager.default.contents(atPath: file) != secret {
            let made = try PrivateFile.write(secret, beside: file)
            guard rename(made, file) == 0, DurableFile.syncFolder(of: file) == nil else {
                throw PrivateFile.trouble(file, removing: made)
            }
        }
        return access
    }

    private static func path(_ folder: String) -> String { folder + "/demo.json" }

    private static func read(_ folder: String) throws -> DemoAccess? {
        // An empty file is what a power cut leaves of one that was never synced.
        guard let data = FileManager.default.contents(atPath: path(folder)), !data.isEmpty else { return nil }
        guard let access = try? JSONDecoder().decode(DemoAccess.self, from: data) else {
            throw StartError(
                "\(path(folder)) is damaged", cure: "Restore it, or delete it to get new demo passwords and keys")
        }
        return access
    }

    /// Makes the file whole or not at all. Services that start together may all come here: the first one's counts.
    private static func provide(_ folder: String) throws -> DemoAccess {
        let access = make()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let made = try PrivateFile.write(try encoder.encode(access), beside: path(folder))
        var old = stat()
        if stat(path(folder), &old) == 0, old.st_size == 0 { unlink(path(folder)) }
        // Where a file cannot have two names, the last one's counts; only services started by hand could tell.
        if link(made, path(folder)) != 0, errno != EEXIST, rename(made, path(folder)) != 0 {
            throw PrivateFile.trouble(path(folder), removing: made)
        }
        unlink(made)
        guard DurableFile.syncFolder(of: path(folder)) == nil else { throw PrivateFile.trouble(path(folder)) }
        guard let found = try read(folder) else { throw PrivateFile.trouble(path(folder)) }
        return found
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
            app: "demo", keyID: "demo." + word(8), secret: bytes(32), users: users, adminKey: word(32),
            clusterSecret: word(48))
    }
}

/// Files that only their owner reads, written under another name first: whoever opens the right one finds all of it.
enum PrivateFile {
    /// - Returns: the name that it has now.
    static func write(_ data: Data, beside path: String) throws -> String {
        let name = "\(path).\(getpid())"
        unlink(name)
        let file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw trouble(path) }
        defer { close(file) }
        let written = data.withUnsafeBytes { Foundation.write(file, $0.baseAddress, $0.count) }
        guard written == data.count, fsync(file) == 0 else { throw trouble(path, removing: name) }
        return name
    }

    static func trouble(_ path: String, removing name: String? = nil) -> StartError {
        if let name { unlink(name) }
        return StartError("cannot write \(path)", cure: "Make the folder writable and free some space")
    }
}
