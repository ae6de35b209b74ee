import Foundation
import Identity

/// The part of a data folder's access file that lets a bench issue tokens for its own users.
struct Access: Decodable, Equatable {
    var app: String
    var keyID: String
    /// The app's signing secret, base64 in the file.
    var secret: Data

    enum CodingKeys: String, CodingKey {
        case app, secret
        case keyID = "key_id"
    }

    /// - Throws: `BenchError` when the file cannot be read or does not say all of this.
    static func load(_ path: String) throws(BenchError) -> Access {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw BenchError("cannot read the access file \(path): start `martlet up` first, or name it with --access")
        }
        guard let access = try? JSONDecoder().decode(Access.self, from: data), NameRule.isApp(access.app),
            !access.keyID.isEmpty, !access.secret.isEmpty
        else { throw BenchError("\(path) is no access file: it needs app, key_id and a base64 secret") }
        return access
    }

    /// A token for each user, good for a day.
    func tokens(for users: [String]) throws(BenchError) -> [String] {
        let issuer = TokenIssuer(appID: app, key: TokenKey(id: keyID, secret: Array(secret)))
        let nowMS = UInt64(Date().timeIntervalSince1970 * 1000)
        do {
            return try users.map { user in try issuer.issue(userID: user, lifetimeSeconds: 86_400, nowMS: nowMS) }
        } catch {
            throw BenchError("cannot issue a token: \(error)")
        }
    }
}
