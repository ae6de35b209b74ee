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
        let wanted = try await request.json(NewApp.self, limit: config.limits.bodyBytes, context)
        let id = wanted.app_id ?? "app-" + SecretText.random(bytes: 8).lowercased()
        guard NameRule.isApp(id) else {
            throw Failure(.malformedRequest, "app_id must be 1 to \(NameRule.maxBytes) of a-z, 0-9, - and _")
        }
        let name = wanted.name ?? id
        guard name.utf8.count <= 256 else { throw Failure(.malformedRequest, "name is longer than 256 bytes") }
        let key = newKey(of: id)
        let app = App.with {
            $0.appID = id
            $0.name = name
            $0.keys = [key]
            $0.exists = true
            $0.multiSession = wanted.multi_session ?? false
        }
        // Version 0: of two who make it at the same time one is told, and nobody's secret is replaced.
        do { try await roles.replace(app) } catch let failure as Failure where failure.isCode(.alreadyExists) {
            throw Failure(.alreadyExists, "there is an app \(id) already")
        }
        forgetApp(id)
        let secret = String(decoding: key.secret, as: UTF8.self)
        return Answer.json(CreatedApp(app_id: id, name: name, key_id: key.keyID, secret: secret), status: .created)
    }

    private func newKey(of app: String) -> AppKey {
        AppKey.with {
            $0.keyID = "\(app).\(SecretText.random(bytes: 5).lowercased())"
            // The text's own bytes, so that an app server can give the text to any JWT library.
            $0.secret = Data(SecretText.random(bytes: 32).utf8)
        }
    }

    private struct AppChange: Decodable {
        let name: String?
        let suspended: Bool?
        let multi_session: Bool?
        let add_key: Bool?
        let retire_keys: [String]?
    }

    private struct ChangedApp: Encodable {
        struct Key: Encodable {
            let key_id: String
            let retired: Bool
        }

        let app_id: String
        let name: String
        let suspended: Bool
        let multi_session: Bool
        let keys: [Key]
        /// Of the key that was added.
        let key_id: String?
        let secret: String?
    }

    /// Times that a change is made anew when somebody else's came between.
    private static var changeAttempts: Int { 5 }

    /// Retired keys that an app keeps when another is added.
    private static var retiredKept: Int { 3 }

    /// PATCH /v1/apps/{id}: suspends an app or lets it go on, adds a key and retires others.
    func changeApp(_ request: Request, _ context: APIContext) async throws -> Response {
        try await requireAdmin(request, context)
        guard let id = context.name.removingPercentEncoding, NameRule.isApp(id) else {
            throw Failure(.notFound, "the path must hold an app id")
        }
        let change = try await request.json(AppChange.self, limit: config.limits.bodyBytes, context)
        guard (change.name ?? "").utf8.count <= 256 else {
            throw Failure(.malformedRequest, "name is longer than 256 bytes")
        }
        let added = change.add_key == true ? newKey(of: id) : nil
        defer { forgetApp(id) }
        for _ in 0..<Self.changeAttempts {
            guard let app = try await roles.app(id) else { throw Failure(.notFound, "there is no app \(id)") }
            let changed = try apply(change, adding: added, to: app)
            do { try await roles.replace(changed) } catch let failure as Failure where failure.isCode(.alreadyExists) {
                continue
            }
            return Answer.json(
                ChangedApp(
                    app_id: id, name: changed.name, suspended: changed.suspended, multi_session: changed.multiSession,
                    keys: changed.keys.map { .init(key_id: $0.keyID, retired: $0.retired) }, key_id: added?.keyID,
                    secret: added.map { String(decoding: $0.secret, as: UTF8.self) }))
        }
        throw Failure(.busy, "others are changing app \(id) too; retry", retryAfterMS: 300)
    }

    private func apply(_ change: AppChange, adding key: AppKey?, to app: App) throws -> App {
        var app = app
        if let name = change.name { app.name = name }
        if let suspended = change.suspended { app.suspended = suspended }
        if let several = change.multi_session { app.multiSession = several }
        for id in change.retire_keys ?? [] {
            guard let place = app.keys.firstIndex(where: { $0.keyID == id }) else {
                throw Failure(.notFound, "app \(app.appID) has no key \(id)")
            }
            app.keys[place].retired = true
        }
        if let key {
            // What was retired long ago makes room: its tokens are refused with or without it.
            let retired = app.keys.filter(\.retired).map(\.keyID)
            let old = Set(retired.dropLast(Self.retiredKept))
            app.keys.removeAll { old.contains($0.keyID) }
            app.keys.append(key)
        }
        guard app.keys.contains(where: { !$0.retired }) else {
            throw Failure(.malformedRequest, "that would retire the last key; add one (add_key) or suspend the app")
        }
        return app
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
