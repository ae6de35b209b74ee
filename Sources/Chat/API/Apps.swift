import Foundation
import Hummingbird
import Identity
import Wire

extension APIMethods {
    private struct NewApp: Decodable {
        let name: String?
        let app_id: String?
        let multi_session: Bool?
    }

    private struct CreatedApp: Encodable {
        let app_id: String
        let name: String
        let key_id: String
        let secret: String
    }

    /// POST /v1/apps: the only time that the secret is shown.
    func createApp(_ request: Request, _ context: APIContext) async throws -> Response {
        try await requireAdmin(request, context)
        let wanted = try await request.json(NewApp.self, limit: config.limits.bodyBytes)
        let id = wanted.app_id ?? "app-" + SecretText.random(bytes: 8).lowercased()
        guard NameRule.isApp(id) else {
            throw Failure(.malformedRequest, "app_id must be 1 to \(NameRule.maxBytes) of a-z, 0-9, - and _")
        }
        let name = wanted.name ?? id
        guard name.utf8.count <= 256 else { throw Failure(.malformedRequest, "name is longer than 256 bytes") }
        if try await roles.app(id) != nil { throw Failure(.alreadyExists, "there is an app \(id) already") }
        let key = AppKey.with {
            $0.keyID = "\(id).\(SecretText.random(bytes: 5).lowercased())"
            // The text's own bytes, so that an app server can give the text to any JWT library.
            $0.secret = Data(SecretText.random(bytes: 32).utf8)
        }
        let app = App.with {
            $0.appID = id
            $0.name = name
            $0.keys = [key]
            $0.exists = true
            $0.multiSession = wanted.multi_session ?? false
        }
        if let failure = try await roles.put([app]).first, failure.code != 0 { throw failure }
        forgetApp(id)
        let secret = String(decoding: key.secret, as: UTF8.self)
        return Answer.json(CreatedApp(app_id: id, name: name, key_id: key.keyID, secret: secret), status: .created)
    }
}

/// Random text for keys and secrets, from the system's generator.
enum SecretText {
    private static let alphabet = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".unicodeScalars)

    /// Text that holds at least that many bytes of randomness.
    static func random(bytes: Int) -> String {
        var generator = SystemRandomNumberGenerator()
        var text = String.UnicodeScalarView()
        // A letter of 36 (what lowercasing leaves) carries over 5 bits: 8 letters for 5 bytes.
        for _ in 0..<((bytes * 8 + 4) / 5) {
            text.append(alphabet[Int.random(in: alphabet.indices, using: &generator)])
        }
        return String(text)
    }
}
