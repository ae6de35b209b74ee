import ArgumentParser
import Foundation
import Identity
import MartletClient

/// Where the server is and how to get in: the same for every tool.
struct ConnectionOptions: ParsableArguments {
    @Option(help: "Where Login listens, host:port; several with commas.")
    var server = "127.0.0.1:7782"

    @Option(help: "The app's id. Default: the demo app of the data folder.")
    var app: String?

    @Option(help: "KEYID:SECRET, the secret in base64: tokens are issued with it. Default: from the data folder.")
    var appKey: String?

    @Option(help: "The data folder of `martlet up`, whose demo.json names the demo app and its key.")
    var data = "./martlet-data"

    /// The addresses of `--server`.
    func servers() throws -> [ServerAddress] {
        let parts = server.split(separator: ",").map(String.init)
        guard !parts.isEmpty else { throw ToolError("--server needs host:port") }
        return try parts.map { part in
            guard let address = ServerAddress(part) else {
                throw ToolError("--server: \(part) is not host:port, for example 127.0.0.1:7782")
            }
            return address
        }
    }

    /// What issues tokens, from the options or from the data folder.
    func issuer() throws -> TokenIssuer {
        if let appKey {
            guard let app, NameRule.isApp(app) else { throw ToolError("--app-key needs --app ID as well") }
            guard let colon = appKey.firstIndex(of: ":"),
                let secret = Data(base64Encoded: String(appKey[appKey.index(after: colon)...])), !secret.isEmpty
            else { throw ToolError("--app-key is KEYID:SECRET with the secret in base64") }
            return TokenIssuer(appID: app, key: TokenKey(id: String(appKey[..<colon]), secret: Array(secret)))
        }
        return try DemoFile.read(folder: data, app: app)
    }
}

/// demo.json of a data folder: {"app", "key_id", "secret"}, the secret in base64.
struct DemoFile: Decodable {
    var app: String
    var keyID: String
    var secret: String

    enum CodingKeys: String, CodingKey {
        case app
        case keyID = "key_id"
        case secret
    }

    static func read(folder: String, app: String?) throws -> TokenIssuer {
        let path = folder + "/demo.json"
        guard let bytes = FileManager.default.contents(atPath: path) else {
            throw ToolError("\(path) is not there: start `martlet up` in this folder, or give --app and --app-key")
        }
        guard let demo = try? JSONDecoder().decode(DemoFile.self, from: bytes),
            let secret = Data(base64Encoded: demo.secret), !secret.isEmpty
        else { throw ToolError("\(path) is not {\"app\", \"key_id\", \"secret\"} with a base64 secret") }
        guard app == nil || app == demo.app else {
            throw ToolError("\(path) has the key of app \(demo.app), not of \(app ?? ""): give --app-key")
        }
        return TokenIssuer(appID: demo.app, key: TokenKey(id: demo.keyID, secret: Array(secret)))
    }
}

/// Runs a tool's body; its `ToolError` becomes one line on stderr and exit code 2.
func exitingOnToolError(_ body: () async throws -> Void) async throws {
    do { try await body() } catch let error as ToolError {
        Console.endProgress()
        Console.complain("martlet: \(error)")
        throw ExitCode(2)
    }
}
