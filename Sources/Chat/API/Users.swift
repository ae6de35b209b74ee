import Foundation
import Hummingbird
import Identity
import Wire

extension APIMethods {
    private struct NewUsers: Decodable { let users: [NewUser] }

    private struct NewUser: Decodable {
        let user_id: String
        let patch: ProfilePatch

        private enum Keys: String, CodingKey { case user_id, nickname, avatar_url, custom }

        /// A field that is not there stays as it is stored; null clears it, as an empty one does.
        init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: Keys.self)
            user_id = try fields.decode(String.self, forKey: .user_id)
            var patch = ProfilePatch()
            if fields.contains(.nickname) {
                patch.nickname = try fields.decodeIfPresent(String.self, forKey: .nickname) ?? ""
            }
            if fields.contains(.avatar_url) {
                patch.avatarURL = try fields.decodeIfPresent(String.self, forKey: .avatar_url) ?? ""
            }
            // base64
            if fields.contains(.custom) {
                patch.custom = try fields.decodeIfPresent(Data.self, forKey: .custom) ?? Data()
            }
            self.patch = patch
        }
    }

    private struct UserResults: Encodable { let results: [UserResult] }

    private struct UserResult: Encodable {
        let user_id: String
        let ok: Bool
        let error: ErrorBody?
    }

    /// Longest nickname, avatar URL and the app's own part of a profile, in bytes: User's limits.
    private static var nicknameBytes: Int { 256 }
    private static var avatarBytes: Int { 1024 }
    private static var customBytes: Int { 4096 }

    /// POST /v1/users: makes users or changes the fields that are named, each user alone: a bad one stops no other.
    func createUsers(_ request: Request, _ context: APIContext) async throws -> Response {
        let app = try await provenApp(request, context).app.appID
        let wanted = try await request.json(NewUsers.self, limit: config.limits.bodyBytes, context).users
        guard !wanted.isEmpty, wanted.count <= config.limits.usersPerRequest else {
            throw Failure(.malformedRequest, "users must hold 1 to \(config.limits.usersPerRequest) users")
        }
        var failures: [Failure] = wanted.map { fault(of: $0) ?? Failure() }
        let good = wanted.indices.filter { failures[$0].code == 0 }
        if !good.isEmpty {
            let stored = try await roles.put(good.map { put(app, wanted[$0]) })
            for (index, failure) in zip(good, stored) { failures[index] = failure }
        }
        let results = zip(wanted, failures).map { user, failure in
            let error = failure.code == 0 ? nil : ErrorBody(failure)
            return UserResult(user_id: user.user_id, ok: error == nil, error: error)
        }
        return Answer.json(UserResults(results: results))
    }

    private func fault(of user: NewUser) -> Failure? {
        do { _ = try checkedUser(user.user_id) } catch { return error as? Failure }
        guard user.patch.nickname.utf8.count <= Self.nicknameBytes else {
            return Failure(.malformedRequest, "nickname is at most \(Self.nicknameBytes) bytes")
        }
        guard user.patch.avatarURL.utf8.count <= Self.avatarBytes else {
            return Failure(.malformedRequest, "avatar_url is at most \(Self.avatarBytes) bytes")
        }
        guard user.patch.custom.count <= Self.customBytes else {
            return Failure(.malformedRequest, "custom is at most \(Self.customBytes) bytes")
        }
        return nil
    }

    private func put(_ app: String, _ user: NewUser) -> UserPut {
        UserPut.with {
            $0.appID = app
            $0.profile = .with { $0.userID = user.user_id }
            $0.patch = user.patch
        }
    }
}
