import Crypto
import Foundation

/// What the check needs of the file that `martlet up` leaves in its data folder.
struct AccessFile: Decodable, Equatable {
    var app: String
    var keyID: String
    /// The app's signing secret, decoded from base64.
    var secret: Data

    enum CodingKeys: String, CodingKey {
        case app, secret
        case keyID = "key_id"
    }

    /// - Throws: `CheckError` when the file cannot be read or does not say all of this.
    static func load(_ path: String) throws(CheckError) -> AccessFile {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw .cannotStart("cannot read the access file \(path): start `martlet up` first or name it with --access")
        }
        guard let access = try? JSONDecoder().decode(AccessFile.self, from: data), !access.secret.isEmpty,
            !access.app.isEmpty
        else { throw .cannotStart("\(path) is no access file: it needs app, key_id and a base64 secret") }
        return access
    }
}

/// A user token for development: JWT, HS256, signed with the app's secret.
enum DevToken {
    private struct Header: Encodable {
        let alg = "HS256"
        let typ = "JWT"
        let kid: String
    }
    private struct Claims: Encodable {
        let app: String
        let sub: String
        let iat: UInt64
        let exp: UInt64
    }

    /// - Parameter nowSeconds: Unix time. The token is valid for `lifeSeconds` from then.
    static func make(_ access: AccessFile, user: String, nowSeconds: UInt64, lifeSeconds: UInt64) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let header = try encoder.encode(Header(kid: access.keyID))
        let claims = try encoder.encode(
            Claims(app: access.app, sub: user, iat: nowSeconds, exp: nowSeconds + lifeSeconds))
        let signed = base64URL(header) + "." + base64URL(claims)
        let code = HMAC<SHA256>.authenticationCode(for: Data(signed.utf8), using: SymmetricKey(data: access.secret))
        return signed + "." + base64URL(Data(code))
    }

    private static func base64URL(_ data: Data) -> String {
        data.base64EncodedString().replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
    }
}
